// Package local carries out the statements that the proxy executes itself, no server
// taking part: transaction control that is deferred, settings whose values need no
// server, names of prepared statements, and the proxy's own settings, which obey
// transactions as all settings do. What may be executed here is decided before: see
// session.State.Executable.
package local

import (
	"cmp"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/preferences"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// Session is what such a statement works on.
type Session struct {
	State   *session.State
	Names   *session.Names
	Service *upstream.Service
	Up      *upstream.Pools
}

var emptyQueryResponse = []byte{wire.EmptyQueryResponse, 0, 0, 0, 4}

// Execute carries out what the proxy executes, and adds the answer.
func (s Session) Execute(to []byte, m *batch.Message) []byte {
	p := m.Plan
	switch {
	case p.Class == router.ClassEmpty:
		return append(to, emptyQueryResponse...)
	case p.Own.Verb != router.OwnNone:
		return s.executeOwn(to, m)
	case len(p.Parts) > 0 && !p.SetOnly:
		for _, part := range p.Parts {
			to = s.execute(to, part)
		}
		return to
	}
	return s.execute(to, p)
}

// execute is Execute for a statement that is none of the proxy's own.
func (s Session) execute(to []byte, p *router.Plan) []byte {
	switch {
	case p.SQL.Verb == router.PreparedDeallocateAll:
		s.Names.ForgetAll()
		return wire.AppendComplete(to, "DEALLOCATE ALL")
	case p.SQL.Verb == router.PreparedDeallocate:
		s.Names.Forget(p.SQL.Name)
		return wire.AppendComplete(to, "DEALLOCATE")
	case p.Flags.Has(router.FlagForgets):
		s.Names.ForgetAll()
	}
	if p.Tx.Verb == router.TxBegin && s.State.Tx.Phase.InBlock() {
		to = wire.AppendNotice(to, "WARNING", "25001", "there is already a transaction in progress")
	}
	tag := s.State.Execute(p)
	if p.Tx.Verb == router.TxCommit || p.Tx.Verb == router.TxRollback {
		s.Names.ClosePortals()
	}
	if !p.SetOnly {
		return wire.AppendComplete(to, tag)
	}
	for i := range p.Sets {
		to = wire.AppendComplete(to, p.Sets[i].Tag)
	}
	return to
}

// executeOwn carries out SET, SHOW or RESET of pgweir.* and adds the answer.
func (s Session) executeOwn(to []byte, m *batch.Message) []byte {
	o := &m.Plan.Own
	name := setting.Fold(o.Name)
	switch o.Verb {
	case router.OwnShow:
		if name == "unfiltered" {
			return append(to, s.showUnfiltered()...)
		}
		value := string(m.Canned)
		if name != "lsn" {
			value = s.value(name)
		}
		return wire.AppendComplete(wire.AppendTextValue(to, value), "SHOW")
	case router.OwnReset:
		s.State.Proxy.Set(router.Set{Name: preferences.Prefix + name, Reset: true, Local: o.Local})
		return wire.AppendComplete(to, "RESET")
	case router.OwnSet, router.OwnNone:
	}
	s.State.Proxy.Set(router.Set{Name: preferences.Prefix + name, Value: o.Value, Local: o.Local})
	return wire.AppendComplete(to, "SET")
}

// showUnfiltered answers SHOW pgweir.unfiltered: what the audit has seen in the
// session's database, a row each.
func (s Session) showUnfiltered() []byte {
	var out []byte
	for _, row := range s.Service.Audit.Rows(s.Up.Database.Label()) {
		out = wire.AppendTextValue(out, row...)
	}
	return wire.AppendComplete(out, "SHOW")
}

// value is the value in force of one of the proxy's settings.
func (s Session) value(name string) string {
	p := preferences.Read(s.State.Proxy.Now(), s.Up.Terms().Route)
	switch name {
	case "route":
		return p.Route.String()
	case "consistency":
		return cmp.Or(p.Level, s.Up.Terms().Consistency).String()
	case "min_lsn":
		if p.MinLSN != 0 {
			return p.MinLSN.String()
		}
		return ""
	}
	if name == "traceparent" {
		value, _ := s.State.Proxy.Now().Value(preferences.Prefix + name)
		return value
	}
	if p.Trace {
		return "on"
	}
	return "off"
}
