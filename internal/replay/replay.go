// Package replay counts recorded statements, of a server log or a trace of requests, as if they
// were sent: what insight would have found of them.
package replay

import (
	"hash/maphash"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/statements"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/shape"
	"github.com/pgweir/pgweir/router/tenant"
)

// Replay counts statements. One goroutine uses it.
type Replay struct {
	// Sum is what was counted; what proxies have counted may be added there.
	Sum *archive.Sum

	tenant   *tenant.Policy
	plans    map[string]*router.Plans // by database
	sessions map[sessionKey]*pastSession
	seed     maphash.Seed
	batch    uint64
}

type sessionKey struct{ file, session, user, database string }

// pastSession is one session of a log, or one request of a trace.
type pastSession struct {
	*insight.Session
	transactions, open uint64 // counted; the number of the one that is open, 0 if there is none
}

// New begins with nothing. Patterns of the exempt applications are no findings; columns hold the
// tenant.
func New(exempt, columns []string) *Replay {
	return &Replay{
		Sum: archive.NewSum(insight.Options{Exempt: exempt}), tenant: &tenant.Policy{Columns: columns}, plans: map[string]*router.Plans{},
		sessions: map[sessionKey]*pastSession{}, seed: maphash.MakeSeed(),
	}
}

// End says that all sessions are over.
func (r *Replay) End() {
	for _, s := range r.sessions {
		s.End()
	}
}

// Add counts a statement.
func (r *Replay) Add(st *statements.Statement) {
	plans := r.plans[st.Database]
	if plans == nil {
		plans = router.NewPlans(router.Options{Insight: r.Sum.Book, Database: st.Database, Tenant: r.tenant})
		r.plans[st.Database] = plans
	}
	text := []byte(st.Text)
	plan := plans.Get(text)
	if plan.Statement == nil {
		return
	}
	s := r.session(st)
	r.batch++
	params := r.hash(st)
	if len(st.Parameters) == 0 && grammar.Parameters(st.Text) > 0 {
		params = r.batch // nobody knows them; they are hardly always the same
	}
	e := insight.Event{
		Statement: plan.Statement, Place: insight.Place{File: st.File, Line: st.Line}, Batch: r.batch, Params: params,
		Began: st.Time, Duration: st.Took, Untimed: st.Took == 0, Uncounted: true,
	}
	if !st.Time.IsZero() {
		r.Sum.Cover(st.Time.Add(-st.Took), st.Time)
		e.Began = st.Time.Add(-st.Took) // it is logged as it ends if its duration is
	}
	rows, param := plan.Offset(text)
	if param > 0 && param <= len(st.Parameters) && st.Parameters[param-1] != nil {
		rows = shape.Rows(*st.Parameters[param-1])
	}
	e.Offset = rows
	switch plan.Tx.Verb {
	case router.TxBegin:
		s.transactions++
		s.open = s.transactions
	case router.TxCommit, router.TxRollback, router.TxPrepare:
		e.Ends = true
	case router.TxNone, router.TxSavepoint, router.TxRelease, router.TxRollbackTo, router.TxSet: // within
	}
	e.Transaction = s.open
	if s.Ran(&e); e.Ends {
		s.open = 0
	}
}

func (r *Replay) session(st *statements.Statement) *pastSession {
	key := sessionKey{st.File, st.Session, st.User, st.Database}
	s := r.sessions[key]
	if s == nil {
		s = &pastSession{Session: r.Sum.Book.NewSession(insight.Who{Database: st.Database, User: st.User, Application: st.Application, Route: st.Route})}
		r.sessions[key] = s
	}
	return s
}

// hash is equal for equal literals and parameters of one statement.
func (r *Replay) hash(st *statements.Statement) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(st.Text)
	for _, p := range st.Parameters {
		_ = h.WriteByte(0)
		if p != nil {
			_, _ = h.WriteString(*p)
			_ = h.WriteByte(1)
		}
	}
	return h.Sum64()
}
