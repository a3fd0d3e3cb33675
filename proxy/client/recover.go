package client

import (
	"errors"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// recover deals with a batch whose exchange failed.
func (c *Client) recover(w *work, err error) error {
	var again *retry
	var lost *interrupt.ClientGone
	var fatal *fatalError
	var adopt *adoptError
	switch {
	case c.ctx.Err() != nil:
		err = errShutdown
	case errors.As(err, &again):
		return c.prepareRetry(w, again)
	case errors.As(err, &adopt):
		return c.adoptElsewhere(w, adopt)
	case errors.As(err, &lost):
		c.lease.leave(session.Opaque)
	case errors.As(err, &fatal):
		return c.serverGone(w, err, fatal.frame)
	case errors.Is(err, errServerLost):
		return c.serverGone(w, err, nil)
	}
	c.abandon(w)
	c.discard() // nobody knows where the conversation with the server stands
	return err
}

// adoptElsewhere closes a connection that refused to carry the session's settings, and has
// the batch, of which it ran nothing, sent over another one. The error is not the client's.
func (c *Client) adoptElsewhere(w *work, refused *adoptError) error {
	c.Log().Warn("a server connection could not take over the session's settings; it is closed",
		zap.String("server", c.lease.server.Address), zap.Error(refused))
	pinned := c.state.Pins != 0
	c.discard()
	if pinned || !c.untouched(w) && c.state.Tx.Phase != session.Deferred {
		return wire.Fatalf("08006", "%v", refused)
	}
	return &retry{reason: metrics.RetryLost, err: refused}
}

// prepareRetry brings the server connection back to where it was before the batch.
func (c *Client) prepareRetry(w *work, again *retry) error {
	for i := range w.try.Queue {
		if m := w.try.Queue[i].Message; m != nil && m.Plan != nil && m.Plan.Flags.Has(router.FlagDirty) {
			c.lease.leave(session.Opaque)
		}
	}
	if err := c.drain(w); err != nil || again.reason == metrics.RetryLost {
		c.discard()
		return again
	}
	c.lease.stands = atRest
	inBlock := c.state.Tx.Phase.InBlock()
	switch {
	case inBlock && again.reason == metrics.RetryPlan:
		c.discard() // its transaction has failed
	case inBlock:
		c.leaveReplica()
	default:
		c.lease.ended(false)
		c.state.Ready(wire.TxIdle, true, c.lease.b.Parameter)
		c.release()
	}
	return again
}

// drain reads to the ReadyForQuery of a batch that failed.
func (c *Client) drain(w *work) error {
	var bytes []byte
	t, conn := &w.try, c.lease.b.Conn
	last, at := t.Queue[len(t.Queue)-1].Kind, t.Queue[t.Head].Kind
	if last != batch.Sync && at != batch.Query && at != batch.FunctionCall {
		bytes = wire.AppendSync(nil) // the server skips to a Sync that was not sent
	}
	c.lease.b.Sent(1)
	if len(bytes) > 0 {
		if _, err := conn.Write(bytes); err != nil {
			return err
		}
	}
	for {
		typ, size, err := conn.Header()
		if err != nil {
			return err
		}
		frame, err := conn.Frame(size)
		if err != nil {
			return err
		}
		if typ == wire.ReadyForQuery {
			c.lease.b.Ready(frame[wire.HeaderSize])
		}
		conn.Discard(size)
		if typ == wire.ReadyForQuery {
			return nil
		}
	}
}

// serverGone deals with a server connection that ended in the middle. frame is
// what the server said of it, if it did.
func (c *Client) serverGone(w *work, err error, frame []byte) error {
	s, held := c.lease.server, c.state.Pins != 0
	c.Log().Warn("server connection lost", zap.String("server", s.Address), zap.Error(err))
	c.svc.Metrics.ServerLost()
	c.up.Cluster.ReportLost(s)
	if c.sendableAgain(w, err, frame) {
		c.discard()
		if frame != nil {
			return &retry{reason: metrics.RetryShutdown, lessons: trustNothing}
		}
		return &retry{reason: metrics.RetryLost, lessons: trustNothing}
	}
	c.abandon(w)
	c.discard()
	e := wire.Errorf("08006", "connection to the server was lost while the statement ran")
	if frame != nil {
		e = wire.Errorf(string(wire.ErrorField(frame, 'C')), "%s", wire.ErrorField(frame, 'M'))
		e.Detail, e.Hint = string(wire.ErrorField(frame, 'D')), string(wire.ErrorField(frame, 'H'))
	}
	if held || c.torn || frame != nil {
		// Session state went with the connection, or the server ended it on purpose: so
		// does the session, as it would directly.
		e.Severity = "FATAL"
		if !c.torn {
			_ = c.flush(w)
		}
		return e
	}
	w.try.hold = false
	c.fail(w, e, w.batch.End == batch.EndQuery && !w.batch.Traits.Has(batch.HasSync))
	if w.batch.Traits.Has(batch.HasSync) && !w.try.syncIgnored {
		c.skipping = false
		w.answer = wire.AppendReady(w.answer, c.state.Tx.Phase.Status())
	}
	return c.flush(w)
}

// giveUp answers a batch that was not sent with an error, its connection being ready.
func (c *Client) giveUp(w *work, e *wire.Error) error {
	l := &c.lease
	if l.midBatch() || c.state.Tx.Phase == session.Open || c.state.Tx.Phase == session.Aborted || c.state.Pins != 0 {
		// The server's transaction must fail with it: ask for what cannot be.
		w.try.RefuseAt, w.try.Refusal = w.batch.Here+1, e
		return c.exchangeRefused(w)
	}
	c.discard() // what was to be prepared there is believed to be
	return c.refuseBatch(w, e)
}

// exchangeRefused sends an attempt that the server will refuse.
func (c *Client) exchangeRefused(w *work) error {
	c.dropStatements(&w.try)
	bytes := c.encode(w)
	if err := c.relay(w, bytes); err != nil {
		return c.recover(w, err)
	}
	return c.settle(w)
}
