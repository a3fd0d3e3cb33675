package client

import (
	"slices"

	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// encode makes what the server is sent, and notes what the client is to be told for it.
func (w *work) encode() []byte {
	t := &w.try
	e := batch.Encoder{
		Attempt: &t.Attempt, Batch: &w.batch, Bytes: w.bytes(),
		State: &w.c.state, Unnamed: &w.c.names.Unnamed, Held: w.c.lease.b.Held(), Registry: w.c.svc.Registry, Definitions: t.definitions,
		Unasked: w.c.lease.midBatch(),
	}
	if !e.Unasked { // else the server may skip it
		e.Owed = e.Held.TakeOwed()
	}
	w.carry(t)
	return e.Encode()
}

// carry notes what the connection will carry once it has run what is sent before the
// client's messages. If the server refuses any of it, the connection is closed or the
// transaction undone.
func (w *work) carry(t *attempt) {
	l := &w.c.lease
	if t.Drops&batch.Plans != 0 {
		l.b.PlansDiscarded()
	}
	switch t.Takes {
	case batch.TakesAhead, batch.TakesApart:
		l.carried = session.Carrying(t.Carries, l.b.Defaults())
	case batch.TakesWithin:
		for _, ch := range t.Changes {
			l.carried.Set(router.Set{Name: ch.Name, Value: ch.Value, Reset: ch.Reset})
			l.b.Plans.Changed(ch.Name) // back, if the batch fails
		}
	case batch.TakesNothing:
	}
	l.asserted = l.asserted || t.Asserts != nil && t.Takes == batch.TakesWithin
	if log := w.c.state.Settings.Log(); t.Replays != batch.ReplaysNothing && len(log) > 0 {
		w.c.told.pending = w.c.told.pending || slices.ContainsFunc(log, session.Step.MayBeReported)
		l.carried.Replay(&w.c.state.Settings)
		for i := range log {
			switch s := &log[i]; s.Kind {
			case session.StepSet:
				l.b.Plans.Changed(s.Set.Name)
			case session.StepText:
				l.b.ChangedUnseen()
			case session.StepSavepoint, session.StepModes:
			}
		}
	}
}
