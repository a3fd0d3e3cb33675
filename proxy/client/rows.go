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

// next is the first message from i on of which to ask, -1 if none: before names mean something else than now.
func (r rowCheck) next(i int) int {
	for n := r.batch.Renames(&r.c.state); i < n; i++ {
		if r.mustAsk(&r.batch.Messages[i]) {
			return i
		}
	}
	return -1
}

// mustAsk reports whether a message binds a statement that has to be prepared on this
// connection and was described when names may have meant something else.
func (r rowCheck) mustAsk(m *batch.Message) bool {
	return m.Kind == batch.Bind && m.Prepared != nil && !m.Here && m.Refusal == nil && r.mayHaveChanged(m.Prepared) &&
		!r.batch.DescribesOf(m.Prepared) && !r.c.lease.midBatch()
}

// checkRows looks whether the rows of such statements are still the same. It refuses what is
// not, as PostgreSQL does.
func (r rowCheck) checkRows() {
	for i := r.next(0); i >= 0; i = r.next(i + 1) {
		m, s, b := &r.batch.Messages[i], &r.c.state, r.c.lease.b
		inBlock := s.Tx.Phase.InBlock() && !r.try.Opens()
		check := described.Check{Backend: b, Registry: r.c.svc.Registry, InBlock: inBlock, Names: s.Meaning(r.try.definitions)}
		check.Apart = !inBlock && r.c.up.Isolation(b.Settings()) == router.Serializable
		refusal, ok := check.Compare(r.c.ctx, m.Prepared)
		if refusal != nil {
			r.try.RefuseAt, r.try.Refusal = i+1, refusal
		}
		if refusal != nil || !ok {
			return // if lost, the batch will find out
		}
	}
}

// mayHaveChanged reports whether what its client was told of a statement may be otherwise by now.
func (r rowCheck) mayHaveChanged(p *session.Prepared) bool {
	if p.Told.Rows == 0 || p.Statement.SQL != "" || p.SQL != nil || r.c.state.Tx.Phase.Failed() || !r.try.Renew && r.c.lease.b.Held().Holds(p.Statement) {
		return false
	}
	return r.try.Renew || !p.Told.Names.Same(r.c.state.Meaning(r.try.definitions))
}
