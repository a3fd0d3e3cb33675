package main

import (
	"fmt"
	"hash/maphash"
	"io"
	"time"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/statements"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/shape"
	"github.com/pgweir/pgweir/router/tenant"
)

// gathering is the looking at statements of files as if they were sent.
type gathering struct {
	book     *insight.Book
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

func newGathering(f *insightFlags) *gathering {
	return &gathering{
		book: insight.New(insight.Options{Exempt: f.exempt}), tenant: &tenant.Policy{Columns: f.columns}, plans: map[string]*router.Plans{},
		sessions: map[sessionKey]*pastSession{}, seed: maphash.MakeSeed(),
	}
}

// progressEvery is how often long work says how far it is.
const progressEvery = 2 * time.Second

// readInsights is what statements of files show.
func readInsights(files []string, f *insightFlags, stdin io.Reader, progress io.Writer) (insight.Summary, error) {
	g := newGathering(f)
	next := time.Now().Add(progressEvery)
	for _, name := range files {
		shown, data, err := readFile(name, stdin)
		if err != nil {
			return insight.Summary{}, fmt.Errorf("read statements: %w", err)
		}
		list, err := statements.Read(shown, data, statements.Format(f.input))
		if err != nil {
			return insight.Summary{}, err
		}
		for i := range list {
			g.take(&list[i])
			if i%100 == 0 && time.Now().After(next) {
				next = time.Now().Add(progressEvery)
				_, _ = fmt.Fprintf(progress, "%s: %d of %d statements\n", shown, i, len(list))
			}
		}
	}
	g.end()
	sum := g.book.Summary()
	sum.Since = time.Time{}
	for i := range sum.Statements {
		sum.Statements[i].Target = "" // nobody knows
	}
	return sum, nil
}

// end says that the sessions are over.
func (g *gathering) end() {
	for _, s := range g.sessions {
		s.End()
	}
}

// take has a statement counted.
func (g *gathering) take(st *statements.Statement) {
	plans := g.plans[st.Database]
	if plans == nil {
		plans = router.NewPlans(router.Options{Insight: g.book, Database: st.Database, Tenant: g.tenant})
		g.plans[st.Database] = plans
	}
	text := []byte(st.Text)
	plan := plans.Get(text)
	if plan.Statement == nil {
		return
	}
	s := g.session(st)
	g.batch++
	params := g.hash(st)
	if len(st.Parameters) == 0 && grammar.Parameters(st.Text) > 0 {
		params = g.batch // nobody knows them; they are hardly always the same
	}
	e := insight.Event{
		Statement: plan.Statement, Place: insight.Place{File: st.File, Line: st.Line}, Batch: g.batch, Params: params,
		Began: st.Time, Duration: st.Took, Untimed: st.Took == 0, Uncounted: true,
	}
	if !st.Time.IsZero() {
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

func (g *gathering) session(st *statements.Statement) *pastSession {
	key := sessionKey{st.File, st.Session, st.User, st.Database}
	s := g.sessions[key]
	if s == nil {
		s = &pastSession{Session: g.book.NewSession(insight.Who{Database: st.Database, User: st.User, Application: st.Application, Route: st.Route})}
		g.sessions[key] = s
	}
	return s
}

// hash is equal for equal literals and parameters of one statement.
func (g *gathering) hash(st *statements.Statement) uint64 {
	var h maphash.Hash
	h.SetSeed(g.seed)
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
