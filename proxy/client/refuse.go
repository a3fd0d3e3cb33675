package client

import (
	"errors"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
)

// fail adds an error of the proxy's own where no server takes part. ready is whether
// ReadyForQuery follows at once.
func (c *Client) fail(w *work, e *wire.Error, ready bool) {
	w.answer = e.Append(w.answer)
	c.svc.Metrics.ProxyError()
	c.state.Refused()
	if ready {
		w.answer = wire.AppendReady(w.answer, c.state.Tx.Phase.Status())
	} else {
		c.skipping = true
	}
}

// refuseBatch answers all that is left of a batch with an error, no server having a
// part in it.
func (c *Client) refuseBatch(w *work, e *wire.Error) error {
	b := &w.batch
	c.fail(w, e, b.End == batch.EndQuery && !b.Traits.Has(batch.Refused))
	if b.Traits.Has(batch.HasSync) {
		c.skipping = false
		w.answer = wire.AppendReady(w.answer, c.state.Tx.Phase.Status())
	}
	return c.flush(w)
}

// refuseByError answers the batch with what kept a server from taking it.
func (c *Client) refuseByError(w *work, err error) error {
	var lost *interrupt.ClientGone
	var again *retry
	if errors.As(err, &lost) || errors.As(err, &again) {
		return err
	}
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	e := Told(err, c.svc.Config)
	if e.Severity == "FATAL" {
		return e
	}
	return c.refuseBatch(w, e)
}
