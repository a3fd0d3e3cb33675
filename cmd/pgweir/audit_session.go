package main

import (
	"slices"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/statements"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/tenant"
)

// sessions follows, through a server's log, which tenant each session works for. What
// is not certain is not known: a log may begin in the middle of a session.
type sessions struct {
	plans    *router.Plans
	settings []string
	byID     map[string]*logSession
}

// logSession is what is known of one session.
type logSession struct {
	open   bool                // a transaction block is
	values map[string]setValue // by name
}

// setValue is what a session has set.
type setValue struct {
	value string
	local bool // until its transaction ends
	open  bool // set in a transaction block that may be rolled back
}

func newSessions(settings []string) *sessions {
	s := &sessions{plans: router.NewPlans(router.Options{}), byID: map[string]*logSession{}}
	for _, name := range settings {
		s.settings = append(s.settings, setting.Fold(name))
	}
	return s
}

// run follows one statement and returns the tenants its session works for while it runs.
func (l *sessions) run(s *statements.Statement) (tenants []string) {
	if s.Session == "" || len(l.settings) == 0 {
		return nil
	}
	id := s.File + "\x00" + s.Session
	of := l.byID[id]
	if of == nil {
		of = &logSession{values: map[string]setValue{}}
		l.byID[id] = of
	}
	for _, name := range l.settings {
		if v := of.values[name].value; v != "" {
			tenants = append(tenants, v)
		}
	}
	p := l.plans.Get([]byte(s.Text))
	switch p.Tx.Verb {
	case router.TxBegin:
		of.open = true
	case router.TxCommit, router.TxRollback, router.TxRollbackTo:
		of.end(p.Tx.Verb)
	default: // changes no value
	}
	for _, name := range p.Touches {
		delete(of.values, name)
	}
	for i := range p.Sets {
		set := &p.Sets[i]
		if v, ok := valueOf(set, s.Parameters); ok && slices.Contains(l.settings, set.Name) {
			of.values[set.Name] = setValue{value: v, local: set.Local, open: of.open}
		}
	}
	return tenants
}

// end forgets what the end of a transaction, or of a part of it, takes away or may take away.
func (of *logSession) end(verb router.TxVerb) {
	for name, v := range of.values {
		if v.open && verb != router.TxCommit || v.local {
			delete(of.values, name)
		} else {
			of.values[name] = setValue{value: v.value}
		}
	}
	of.open = verb == router.TxRollbackTo
}

// valueOf is what a SET sets; a RESET goes back to what a log does not tell.
func valueOf(set *router.Set, params []*string) (string, bool) {
	switch {
	case set.Reset:
		return "", false
	case set.Param == 0:
		return set.Value, true
	case set.Param <= len(params) && params[set.Param-1] != nil:
		return *params[set.Param-1], true
	}
	return "", false
}

// mismatches reports whether a statement names a tenant that is none of its session's.
func mismatches(f *tenant.Finding, s *statements.Statement, session []string) bool {
	if len(session) == 0 {
		return false
	}
	return slices.ContainsFunc(f.Values, func(v tenant.Value) bool {
		text := v.Text
		switch {
		case v.Setting != "", v.Param > len(s.Parameters):
			return false
		case v.Param > 0 && s.Parameters[v.Param-1] == nil:
			return false
		case v.Param > 0:
			text = *s.Parameters[v.Param-1]
		}
		if !v.Array {
			return !tenant.Same(text, session)
		}
		return slices.ContainsFunc(tenant.Elements(text), func(e string) bool { return !tenant.Same(e, session) })
	})
}
