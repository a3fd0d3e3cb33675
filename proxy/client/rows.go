package client

import (
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/described"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// noteRows notes the answer to a client's Describe of a statement, or of a portal of it.
func (o outcomes) noteRows(p *session.Prepared, frame []byte) {
	p.Told.Rows, p.Told.Names = batch.HashRows(frame), o.c.state.Meaning(o.try.definitions)
}

// rowCheck finds out whether prepared statements are what clients were told.
type rowCheck struct{ *work }

// due reports whether there is something to ask.
func (r rowCheck) due() bool { return r.next(0) >= 0 }

// next is the first message from i on that binds a statement of which to ask, -1 if none.
func (r rowCheck) next(i int) int {
	s, b := &r.c.state, &r.batch
	if !b.UsesPrepared() || s.Tx.Phase.Failed() || r.c.lease.midBatch() || r.tooEarly() {
		return -1
	}
	check := r.check()
	for renames := b.Renames(s); i < len(b.Messages); i++ {
		if m := &b.Messages[i]; m.BindsThere() && check.Due(m.Prepared, i > renames) && (i > renames || !b.DescribesOf(m.Prepared)) {
			return i
		}
	}
	return -1
}

// tooEarly reports whether what is asked would take the snapshot of the client's transaction before its time.
func (r rowCheck) tooEarly() bool {
	return r.c.state.Tx.Phase.InBlock() && !r.try.Opens() && !r.c.state.Tx.Did.Has(session.DidRead) && !r.batch.TakesSnapshot() &&
		(r.batch.SaysModes() || r.c.modes().Isolation != router.ReadCommitted)
}

func (r rowCheck) check() described.Check {
	s, t := &r.c.state, &r.try
	return described.Check{Backend: r.c.lease.b, Registry: r.c.svc.Registry, InBlock: s.Tx.Phase.InBlock() && !t.Opens(), Names: s.Meaning(t.definitions), Renew: t.Renew}
}

// checkRows looks whether the rows of such statements are still the same. It refuses what is
// not, as PostgreSQL does.
func (r rowCheck) checkRows() {
	for i := r.next(0); i >= 0; i = r.next(i + 1) {
		check := r.check()
		check.Apart = !check.InBlock && r.c.up.Isolation(check.Backend.Settings()) == router.Serializable
		refusal, ok := check.See(r.c.ctx, r.batch.Messages[i].Prepared, i > r.batch.Renames(&r.c.state))
		if refusal != nil {
			r.try.RefuseAt, r.try.Refusal = i+1, refusal
		}
		if refusal != nil || !ok {
			return // if lost, the batch will find out
		}
	}
}
