package client

import (
	"errors"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// recovery deals with an exchange that failed.
type recovery struct{ *work }

// recover deals with a batch whose exchange failed.
func (r recovery) recover(err error) error {
	var again *retry
	var lost *interrupt.ClientGone
	var fatal *fatalError
	var adopt *adoptError
	switch {
	case r.c.ctx.Err() != nil:
		err = errShutdown
	case errors.As(err, &again):
		return r.prepareRetry(again)
	case errors.As(err, &adopt):
		return acquisition(r).adoptElsewhere(adopt)
	case errors.As(err, &lost):
		r.c.lease.leave(session.Opaque)
	case errors.As(err, &fatal):
		return r.serverGone(err, fatal.frame)
	case errors.Is(err, upstream.ErrServerLost):
		return r.serverGone(err, nil)
	}
	recorder(r).abandon()
	r.c.discard() // nobody knows where the conversation with the server stands
	return err
}

// prepareRetry brings the server connection back to where it was before the batch.
func (r recovery) prepareRetry(again *retry) error {
	for i := range r.try.Queue {
		if m := r.try.Queue[i].Message; m != nil && m.Plan != nil && m.Plan.Flags.Has(router.FlagDirty) {
			r.c.lease.leave(session.Opaque)
		}
	}
	if err := r.drain(); err != nil || again.reason == metrics.RetryLost {
		r.c.discard()
		return again
	}
	r.c.lease.stands = atRest
	inBlock := r.c.state.Tx.Phase.InBlock()
	switch {
	case inBlock && again.reason == metrics.RetryPlan:
		r.c.discard() // its transaction has failed
	case inBlock:
		r.c.leaveReplica()
	default:
		r.c.lease.ended(false)
		r.c.state.Ready(wire.TxIdle, true, r.c.lease.b.Parameter)
		r.c.release()
	}
	return again
}

// drain reads to the ReadyForQuery of a batch that failed.
func (r recovery) drain() error {
	var bytes []byte
	t, b := &r.try, r.c.lease.b
	last, at := t.Queue[len(t.Queue)-1].Kind, t.Queue[t.Head].Kind
	if last != batch.Sync && at != batch.Query && at != batch.FunctionCall {
		bytes = wire.AppendSync(nil) // the server skips to a Sync that was not sent
	}
	b.Sent(1)
	if len(bytes) > 0 {
		if _, err := b.Conn.Write(bytes); err != nil {
			return err
		}
	}
	return b.Drain()
}

// serverGone deals with a server connection that ended in the middle. frame is
// what the server said of it, if it did.
func (r recovery) serverGone(err error, frame []byte) error {
	s, held := r.c.lease.server, r.c.tied()
	if frame == nil {
		r.spans.Lost()
	}
	r.c.Log().Warn("server connection lost", zap.String("server", s.Address), zap.Error(err))
	r.c.svc.Metrics.ServerLost()
	r.c.up.Cluster.ReportLost(s)
	if repetition(r).sendableAgain(err, frame) {
		failed := r.c.lease.stands == midBatchFailed
		if r.c.discard(); failed { // all there was left to do is to undo it
			r.c.state.Refused()
			r.c.stands = skipping
			return r.skipRest()
		}
		if frame != nil {
			return &retry{reason: metrics.RetryShutdown, lessons: trustNothing}
		}
		return &retry{reason: metrics.RetryLost, lessons: trustNothing}
	}
	recorder(r).abandon()
	r.c.discard()
	e := wire.Errorf("08006", "connection to the server was lost while the statement ran")
	if frame != nil {
		e = wire.Errorf(string(wire.ErrorField(frame, 'C')), "%s", wire.ErrorField(frame, 'M'))
		e.Detail, e.Hint = string(wire.ErrorField(frame, 'D')), string(wire.ErrorField(frame, 'H'))
	}
	if held || r.try.pass > 0 || frame != nil {
		// Session state went with the connection, or the server ended it on purpose: so
		// does the session, as it would directly.
		e.Severity = "FATAL"
		if r.try.pass == 0 {
			_ = r.flush()
		}
		return e
	}
	r.try.sure()
	r.fail(e, r.batch.End == batch.EndQuery && !r.batch.Traits.Has(batch.HasSync))
	if r.try.flow == copyingPastSync {
		return r.flushLast()
	}
	return r.skipRest()
}

// giveUp answers a batch that was not sent with an error, its connection being ready.
func (r recovery) giveUp(e *wire.Error) error {
	l := &r.c.lease
	if l.midBatch() || r.c.state.Tx.Phase == session.Open || r.c.state.Tx.Phase == session.Aborted || r.c.state.Pins != 0 {
		// The server's transaction must fail with it: ask for what cannot be. A Sync is not refused.
		if !r.batch.OnlySync() {
			r.try.RefuseAt, r.try.Refusal = r.batch.Here+1, e
		}
		return r.exchangeRefused()
	}
	r.c.discard() // what was to be prepared there is believed to be
	return r.refuseBatch(e)
}

// exchangeRefused sends an attempt that the server will refuse.
func (r recovery) exchangeRefused() error {
	outcomes(r).dropStatements()
	bytes := r.encode()
	if err := relay(r).run(bytes); err != nil {
		return r.recover(err)
	}
	return settlement(r).settle()
}
