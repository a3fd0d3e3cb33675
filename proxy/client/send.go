package client

import (
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// encode makes what the server is sent, and notes what the client is to be told for it.
func (c *Client) encode(w *work) []byte {
	t := &w.try
	e := batch.Encoder{
		Attempt: &t.Attempt, Batch: &w.batch, Bytes: c.front.Buffered()[:w.batch.Size],
		State: &c.state, Unnamed: &c.names.Unnamed, Held: c.lease.b.Held(), Registry: c.svc.Registry,
	}
	c.carry(t)
	return e.Encode()
}

// carry notes what the connection will carry once it has run what is sent before the
// client's messages. If the server refuses any of it, the connection is closed or the
// transaction undone.
func (c *Client) carry(t *attempt) {
	l := &c.lease
	switch t.Takes {
	case batch.TakesAhead:
		l.carried = session.Carrying(t.Carries)
	case batch.TakesWithin:
		for _, ch := range t.Changes {
			l.carried.Set(router.Set{Name: ch.Name, Value: ch.Value, Reset: ch.Reset})
		}
	case batch.TakesNothing:
	}
	l.asserted = l.asserted || t.Asserts != nil && t.Takes != batch.TakesAhead
	if (t.Opens || t.Repeats) && len(c.state.Settings.Log()) > 0 {
		c.told.pending = true
		l.carried.Replay(&c.state.Settings)
	}
}
