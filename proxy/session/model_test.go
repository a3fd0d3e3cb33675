package session_test

import (
	"maps"
	"slices"
	"strings"
)

// This file is PostgreSQL's session, told as naively as its rules can be: settings are
// maps, and whatever can be returned to is a copy of them. TestModelOnServer holds it
// to a real server.

// values are settings in force, by name; what is not there has the server's default.
type values map[string]string

// modes are what SHOW tells of a transaction.
type modes struct{ isolation, readOnly, deferrable string }

var defaultModes = modes{"read committed", "off", "off"}

// point is what a savepoint returns to.
type point struct {
	name      string
	now, kept values
	said      values
	modes     modes
}

// model is one session.
type model struct {
	startup   values // what RESET returns to
	committed values // what ROLLBACK returns to
	now       values // in force
	kept      values // in force after COMMIT
	said      values // of what is in force: what the transaction set to a value, not to its default
	block     byte   // 'I', 'T' or 'E', as ReadyForQuery tells
	modes     modes
	first     modes // what the transaction had before anything was said
	queried   bool  // the transaction has a snapshot
	points    []point

	executed int  // statements since the last Sync
	skips    bool // an error came since the last Sync
}

func newModel(startup, now values) *model {
	for name, value := range now {
		now[name] = canonical(name, value)
	}
	return &model{startup: startup, committed: now, now: maps.Clone(now), kept: maps.Clone(now), said: values{}, block: 'I', modes: defaultModes, first: defaultModes}
}

// kind is what an op does.
type kind string

const (
	opSet        kind = "set"
	opResetAll   kind = "reset all"
	opDiscard    kind = "discard all"
	opBegin      kind = "begin"
	opCommit     kind = "commit"
	opRollback   kind = "rollback"
	opSavepoint  kind = "savepoint"
	opRelease    kind = "release"
	opRollbackTo kind = "rollback to"
	opSetTx      kind = "set transaction"
	opQuery      kind = "query"
	opFail       kind = "fail"
)

// op is one statement.
type op struct {
	kind   kind
	text   string
	params []string // bound; nil sends a simple query
	name   string   // of the setting or savepoint
	value  string
	local  bool
	reset  bool
	query  bool // it sets by a SELECT
	chain  bool
	modes  modes // said by it; empty is not said
	tag    string
}

// run carries out one statement and returns its command tag, or its SQLSTATE. inString
// is whether others stand in the same simple query.
func (m *model) run(o op, inString bool) (tag, code string) {
	if m.skips {
		return "", "skipped"
	}
	tag, code = m.try(o, inString)
	m.executed++
	if code != "" {
		m.fail()
	}
	return tag, code
}

func (m *model) try(o op, inString bool) (tag, code string) {
	if m.block == 'E' && o.kind != opCommit && o.kind != opRollback && o.kind != opRollbackTo {
		return "", "25P02"
	}
	m.queried = m.queried || o.query
	switch o.kind {
	case opSet:
		return o.tag, m.set(o)
	case opResetAll:
		m.resetAll()
		return "RESET", ""
	case opDiscard:
		if m.block != 'I' || inString || m.executed > 0 {
			return "", "25001"
		}
		m.now = maps.Clone(m.startup)
		m.kept = maps.Clone(m.startup)
		m.end(true)
		return "DISCARD ALL", ""
	case opBegin:
		if code = m.say(o.modes); code == "" {
			m.block = 'T' // what the implicit transaction has done is a part of it
		}
		return o.tag, code
	case opSetTx:
		return "SET", m.say(o.modes)
	case opCommit, opRollback:
		return m.finish(o)
	case opFail:
		return "", "22012"
	case opQuery:
		return o.tag, ""
	}
	return m.savepoint(o)
}

func (m *model) set(o op) (code string) {
	if o.value == "bad" && !strings.Contains(o.name, ".") {
		return "22023"
	}
	set := func(v values) {
		if from, ok := m.startup[o.name]; !o.reset {
			v[o.name] = canonical(o.name, o.value)
		} else if ok {
			v[o.name] = canonical(o.name, from)
		} else {
			delete(v, o.name)
		}
	}
	if set(m.now); !o.local {
		set(m.kept)
	}
	if m.said[o.name] = o.value; o.reset {
		delete(m.said, o.name)
	}
	return ""
}

// canonical is how a server keeps a value.
func canonical(name, value string) string {
	if name == "timezone" && value == "utc" {
		return "UTC"
	}
	return value
}

// resetAll returns what was set to what the session began with. What was returned to that by
// SET LOCAL … TO DEFAULT counts as not set: COMMIT brings back what it hides.
func (m *model) resetAll() {
	for name := range maps.Clone(m.now) {
		from, ok := m.startup[name]
		if _, said := m.said[name]; name != "role" && (said || m.now[name] != from) {
			delete(m.now, name)
			delete(m.kept, name)
			if ok {
				m.now[name], m.kept[name] = from, from
			}
		}
	}
}

// say takes over modes, if they may still be said.
func (m *model) say(said modes) (code string) {
	sub := len(m.points) > 0
	if v := said.isolation; v != "" && v != m.modes.isolation {
		if m.queried || sub {
			return "25001"
		}
		m.modes.isolation = v
	}
	if v := said.readOnly; v != "" {
		if v == "off" && m.modes.readOnly == "on" && (m.queried || sub) {
			return "25001"
		}
		m.modes.readOnly = v
	}
	if v := said.deferrable; v != "" {
		if m.queried || sub {
			return "25001"
		}
		m.modes.deferrable = v
	}
	return ""
}

// finish is COMMIT and ROLLBACK, which outside a block end the implicit transaction.
func (m *model) finish(o op) (tag, code string) {
	if o.chain && m.block == 'I' {
		return "", "25P01"
	}
	commit := o.kind == opCommit && m.block != 'E'
	was := m.modes
	m.end(commit)
	if o.chain {
		m.block, m.modes, m.first = 'T', was, was
	}
	if commit {
		return "COMMIT", ""
	}
	return "ROLLBACK", ""
}

// end ends the transaction.
func (m *model) end(commit bool) {
	if commit {
		m.committed = m.kept
	}
	m.now, m.kept, m.said = maps.Clone(m.committed), maps.Clone(m.committed), values{}
	m.block, m.modes, m.first, m.queried, m.points = 'I', defaultModes, defaultModes, false, nil
}

func (m *model) savepoint(o op) (tag, code string) {
	if m.block == 'I' {
		return "", "25P01"
	}
	if o.kind == opSavepoint {
		m.points = append(m.points, point{o.name, maps.Clone(m.now), maps.Clone(m.kept), maps.Clone(m.said), m.modes})
		return "SAVEPOINT", ""
	}
	i := len(m.points) - 1
	for i >= 0 && m.points[i].name != o.name {
		i--
	}
	if i < 0 {
		return "", "3B001"
	}
	p := m.points[i]
	if o.kind == opRelease {
		m.points = slices.Clone(m.points[:i])
		m.modes.readOnly = p.modes.readOnly
		return "RELEASE", ""
	}
	m.points = slices.Clone(m.points[:i+1])
	m.block, m.modes = 'T', p.modes
	m.now, m.kept, m.said = maps.Clone(p.now), maps.Clone(p.kept), maps.Clone(p.said)
	return "ROLLBACK", ""
}

// fail is what an error does: the modes are again those that the innermost savepoint
// found, or that the transaction had before BEGIN gave it others. AND CHAIN passes them on.
func (m *model) fail() {
	m.skips = true
	switch {
	case m.block == 'I':
		m.end(false)
	case m.block == 'T' && len(m.points) > 0:
		m.block, m.modes = 'E', m.points[len(m.points)-1].modes
	case m.block == 'T':
		m.block, m.modes = 'E', m.first
	}
}

// sync ends a batch, and with it the implicit transaction. It returns the transaction
// status.
func (m *model) sync() byte {
	if m.block == 'I' && !m.skips {
		m.end(true)
	}
	m.executed, m.skips = 0, false
	return m.block
}
