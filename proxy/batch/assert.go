package batch

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
)

// Assertion is what a session makes sure of when a server connection comes to it from
// another session: what isolation rests on is set, not believed. The declared settings
// get the session's values; where it has none, there must be none. So do role and session
// authorization, and no temporary object may be there. If it does not hold, the
// statement fails, and what is behind it does not run. It is immutable.
type Assertion struct {
	names []string // custom settings
	text  string
}

// AssertionPrefix begins what is said where an Assertion does not hold.
const AssertionPrefix = "pgweir: connection not clean: "

// NewAssertion makes the Assertion of settings, by name; nil without any.
func NewAssertion(names []string) *Assertion {
	if len(names) == 0 {
		return nil
	}
	a := &Assertion{}
	for _, n := range names {
		a.names = append(a.names, setting.Fold(n))
	}
	a.text = a.statement(func(i int) string { return "$" + strconv.Itoa(i+1) })
	return a
}

// statement is the one statement that asserts; value is what stands for the value at
// index i: of the names, session authorization and role.
func (a *Assertion) statement(value func(i int) string) string {
	var q strings.Builder
	q.WriteString("SELECT ")
	for i, n := range a.names {
		name, v := setting.Literal(n), value(i)
		q.WriteString("CASE WHEN " + v + "::pg_catalog.text IS NOT NULL THEN pg_catalog.set_config(" + name + "," + v + ", false)" +
			" WHEN pg_catalog.current_setting(" + name + ", true) OPERATOR(pg_catalog.<>) '' THEN " + failure(n+" is set") + " END, ")
	}
	for i, name := range [...]string{setting.Authorization, setting.Role} {
		v := value(len(a.names)+i) + "::pg_catalog.text"
		q.WriteString("CASE WHEN pg_catalog.current_setting('" + name + "') OPERATOR(pg_catalog.<>) " + v +
			" THEN pg_catalog.set_config('" + name + "', " + v + ", false) END, ")
	}
	q.WriteString("CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0 AND EXISTS (SELECT FROM pg_catalog.pg_depend WHERE" +
		" refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass" +
		" AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) THEN " + failure("temporary objects") + " END")
	return q.String()
}

// failure is an expression that fails when it is evaluated, and says what. It must not be
// a constant, which would be evaluated in any case.
func failure(what string) string {
	return "pg_catalog.concat(" + setting.Literal(AssertionPrefix+what) + ")::pg_catalog.int4::pg_catalog.text"
}

// values are what s has of what is asserted, in the order of the parameters; ok is false
// where it has none. user is who acts where s does not say so.
func (a *Assertion) values(s setting.Settings, user string, each func(value string, ok bool)) {
	for _, n := range a.names {
		v, ok := s.Value(n)
		each(v, ok && v != "")
	}
	if v, ok := s.Value(setting.Authorization); ok {
		user = v
	}
	each(user, true)
	role, ok := s.Value(setting.Role)
	if !ok {
		role = "none"
	}
	each(role, true)
}

// sets reports whether a makes a change as well.
func (a *Assertion) sets(c *setting.Change) bool {
	return !c.Reset && c.Value != "" && slices.Contains(a.names, c.Name)
}

// takeOver makes the connection carry what it lacks and asserts what isolation rests on.
// What the assertion sets anyway is not set before; but role and session authorization
// are if other settings are, which may need the rights of the login.
func (e *Encoder) takeOver() {
	identity := true // nothing but who the session acts as is left to set
	for i := range e.Changes {
		c := &e.Changes[i]
		identity = identity && (c.Name == setting.Role || c.Name == setting.Authorization || e.Asserts != nil && e.Asserts.sets(c))
	}
	for i := range e.Changes {
		if e.Asserts == nil || !identity && !e.Asserts.sets(&e.Changes[i]) {
			e.set(e.Changes[i:i+1], Setup)
		}
	}
	e.assert()
}

// Query is the statement with a session's values in it, for a round trip of its own.
func (a *Assertion) Query(s setting.Settings, user string) string {
	var literals []string
	a.values(s, user, func(v string, ok bool) {
		if !ok {
			literals = append(literals, "NULL")
			return
		}
		literals = append(literals, setting.Literal(v))
	})
	return a.statement(func(i int) string { return literals[i] })
}

// appendValues adds a session's values as a Bind has them.
func (a *Assertion) appendValues(p []byte, s setting.Settings, user string) []byte {
	p = append(p, 0, 0)
	p = binary.BigEndian.AppendUint16(p, uint16(len(a.names)+2))
	a.values(s, user, func(v string, ok bool) {
		if !ok {
			p = append(p, 0xff, 0xff, 0xff, 0xff)
			return
		}
		p = binary.BigEndian.AppendUint32(p, uint32(len(v)))
		p = append(p, v...)
	})
	return append(p, 0, 0)
}

// assert makes sure that the connection carries what isolation rests on.
func (e *Encoder) assert() {
	if e.Asserts == nil {
		return
	}
	st := e.Registry.Statement([]byte(e.Asserts.text), noTypes, "")
	e.prepareOwn(st, Setup)
	var room [256]byte
	e.Out = wire.AppendBind(e.Out, nil, st.Name, e.Asserts.appendValues(room[:0], e.Carries, e.User))
	e.Out = wire.AppendExecute(e.Out, "")
	e.own(Bind, Setup)
	e.own(Execute, Setup)
}
