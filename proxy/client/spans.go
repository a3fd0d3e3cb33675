package client

import "github.com/pgweir/pgweir/proxy/tracing"

// record begins to record what becomes of the batch's statements, if any is traced: from one of
// its messages on, those before having been executed.
func (w *work) record(from int) {
	if t := w.c.svc.Tracer; t != nil {
		w.spans = t.Record(w.spans, &tracing.Source{
			Batch: &w.batch, Bytes: w.bytes(), Unnamed: &w.c.names.Unnamed,
			Database: w.c.up.Config.Database, Session: w.c.preferences().Parent,
		}, from)
	}
}

// recordSent notes that the batch goes to a server.
func (w *work) recordSent() {
	if w.spans == nil {
		return
	}
	on := tracing.Server{Address: w.c.lease.server.Address, Target: w.c.lease.target(), Reason: w.try.decision.Reason}
	next := w.try.Awaits()
	w.spans.Sent(on, next != nil && next.Internal())
}
