package tenant

import (
	"slices"
	"strings"

	"github.com/pgweir/pgweir/config"
)

// Mode is what becomes of a statement with a finding.
type Mode uint8

const (
	ModeOff    Mode = iota
	ModeLog         // it is logged and counted
	ModeNotice      // the client is warned too
	ModeReject      // the client gets an error in place of an answer
	modes
)

var modeNames = [modes]string{"off", "log", "notice", "reject"}

func (m Mode) String() string { return nameOf(modeNames[:], int(m)) }

func parseMode(s string) Mode { return Mode(max(slices.Index(modeNames[:], s), 0)) }

// Mismatch is the kind of a statement that names another tenant than its session, in
// the log, in metrics and in rules. It is no Kind, because it is not in the text alone.
const Mismatch = "mismatch"

// Modes is config.Audit's answer to a finding. It is immutable.
type Modes struct {
	mode  Mode
	rules []modeRule
}

type modeRule struct {
	mode             Mode
	table, user, app string
	kind, severity   string
}

// NewModes compiles the modes of a configuration.
func NewModes(a config.Audit) *Modes {
	m := &Modes{mode: parseMode(a.Mode)}
	for _, r := range a.Rules {
		m.rules = append(m.rules, modeRule{
			mode: parseMode(r.Mode), table: r.Table, user: r.User, app: r.Application, kind: r.Kind, severity: r.Severity,
		})
	}
	return m
}

// Used reports whether any finding has another mode than off.
func (m *Modes) Used() bool {
	return m.mode != ModeOff || slices.ContainsFunc(m.rules, func(r modeRule) bool { return r.mode != ModeOff })
}

// Case is one run of a statement with a finding.
type Case struct {
	Tables            []Table // those that the finding is about
	Mismatch          bool    // another tenant than the session's is named
	Severity          Severity
	User, Application string
}

// Kind is the gravest among the tables, or Mismatch.
func (c *Case) Kind() string {
	if c.Mismatch {
		return Mismatch
	}
	k := KindNone
	for i := range c.Tables {
		k = max(k, c.Tables[i].Kind)
	}
	return k.String()
}

// For is the mode of the first rule that matches, or the general one.
func (m *Modes) For(c *Case) Mode {
	for i := range m.rules {
		if m.rules[i].matches(c) {
			return m.rules[i].mode
		}
	}
	return m.mode
}

// matches wants table and kind to hold of one table together.
func (r *modeRule) matches(c *Case) bool {
	if r.user != "" && r.user != c.User || r.app != "" && r.app != c.Application ||
		r.severity != "" && r.severity != c.Severity.String() {
		return false
	}
	if r.kind == Mismatch && !c.Mismatch {
		return false
	}
	for i := range c.Tables {
		t := &c.Tables[i]
		kind := t.Kind.String()
		if c.Mismatch {
			kind = Mismatch
		}
		if (r.table == "" || t.named(r.table)) && (r.kind == "" || r.kind == kind) {
			return true
		}
	}
	return false
}

// named reports whether a name of the configuration, qualified or not, means the
// table; where its schema is not known, the name alone counts.
func (t *Table) named(name string) bool {
	schema, bare, ok := strings.Cut(name, ".")
	if !ok {
		return name == t.Name
	}
	return bare == t.Name && (t.Schema == "" || schema == t.Schema)
}

// Qualified is the table's name, with its schema if that is known.
func (t *Table) Qualified() string { return dotted(t.Schema, t.Name) }

// NewPolicy is the policy a configuration declares.
func NewPolicy(c config.Tenant) *Policy {
	p := &Policy{
		Columns: c.Columns, Settings: c.Settings,
		ExemptTables: c.Exempt.Tables, ExemptStatements: c.Exempt.Statements,
	}
	if len(c.Tables) > 0 {
		p.Tables = map[string]string{}
	}
	for _, t := range c.Tables {
		p.Tables[t.Table] = t.Column
	}
	return p
}
