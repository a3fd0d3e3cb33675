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

// retry says that a batch may be sent again, nothing of its answer having reached the
// client.
type retry struct {
	reason  metrics.Retry
	lessons lessons
	err     error // what to tell if no attempt succeeds; nil is to tell the reason
}

func (r *retry) Error() string { return "to be sent again: " + r.reason.String() }

// refusal is the error of a batch that was sent n times in vain.
func (r *retry) refusal(n int) *wire.Error {
	if r.err != nil {
		return wire.Errorf("08006", "no server connection takes the session's settings: %v", r.err)
	}
	return wire.Errorf("08006", "statement failed on %d servers: %v", n, r.reason)
}

// worthRetry says whether an error would not occur, or not again, if the batch
// were sent once more.
func (c *Client) worthRetry(w *work, a *batch.Awaited, frame []byte) *retry {
	t := &w.try
	if a.Refusal != nil || a.Origin == batch.Setup || a.Origin == batch.Sentinel {
		return nil
	}
	code := string(wire.ErrorField(frame, 'C'))
	if resultChanged(frame) {
		if t.Renew || c.state.Tx.Phase.InBlock() && !t.Opens || c.lease.midBatch() || !w.batch.Describes() {
			return nil
		}
		return &retry{reason: metrics.RetryPlan, lessons: prepareAnew}
	}
	if code == "25006" && !c.lease.onReplica() && t.hold && c.untouched(w) && c.demoted(c.lease.server) {
		return &retry{reason: metrics.RetryShutdown}
	}
	if !c.lease.onReplica() || c.state.Tx.Phase.Failed() || c.state.Tx.Phase.InBlock() && c.mustStay() || w.batch.Traits.Has(batch.Resumes) {
		return nil
	}
	switch code {
	case "25006", "0A000", "55000":
		if c.state.Tx.Modes.Access == router.ReadOnly {
			return nil
		}
		// Only the first speaks of the statement; the others may be of how its transaction began.
		if code == "25006" {
			c.learn(w)
		}
		return &retry{reason: metrics.RetryReadOnly, lessons: onPrimary | replicaRefused}
	case "40001":
		return &retry{reason: metrics.RetryConflict, lessons: onPrimary}
	}
	return nil
}

// resultChanged reports whether an error says that the rows of a prepared statement
// are no longer what they were when it was prepared.
func resultChanged(frame []byte) bool {
	return string(wire.ErrorField(frame, 'C')) == "0A000" && string(wire.ErrorField(frame, 'R')) == "RevalidateCachedQuery"
}

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

// learn remembers the batch's statements as writes, a replica having refused one.
func (c *Client) learn(w *work) {
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		if m.Plan == nil || m.Here || !m.Kind.Executes() {
			continue
		}
		if text := c.textOf(w, m); len(text) > 0 {
			c.up.Database.Plans.Learn(text)
		}
	}
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
