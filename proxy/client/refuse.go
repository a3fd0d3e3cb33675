package client

import (
	"errors"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// fail adds an error of the proxy's own where no server takes part. ready is whether
// ReadyForQuery follows at once.
func (w *work) fail(e *wire.Error, ready bool) {
	w.reply = e.Append(w.reply)
	w.spans.Refused(e.Code)
	w.c.svc.Metrics.ProxyError()
	w.c.state.Refused()
	if ready {
		w.reply = wire.AppendReady(w.reply, w.c.state.Tx.Phase.Status())
	} else {
		w.c.stands = skipping
	}
}

// refuseBatch answers all that is left of a batch with an error, no server having a
// part in it.
func (w *work) refuseBatch(e *wire.Error) error {
	w.fail(e, w.batch.End == batch.EndQuery && !w.batch.Traits.Has(batch.Refused))
	return recovery{w}.skipRest()
}

// skipRest answers no more of a batch that has failed than its Sync.
func (r recovery) skipRest() error {
	if r.batch.Traits.Has(batch.HasSync) {
		r.c.stands = inStep
		r.reply = wire.AppendReady(r.reply, r.c.state.Tx.Phase.Status())
	}
	return r.flushLast()
}

// refuseByError answers the batch with what kept a server from taking it.
func (w *work) refuseByError(err error) error {
	var lost *interrupt.ClientGone
	var again *retry
	if errors.As(err, &lost) || errors.As(err, &again) {
		return err
	}
	if w.c.ctx.Err() != nil {
		return w.c.ctx.Err()
	}
	e := upstream.Told(err, w.c.svc.Config.Routing.PrimaryWait)
	if e.Severity == "FATAL" {
		return e
	}
	return w.refuseBatch(e)
}
