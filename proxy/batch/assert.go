package batch

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
)

// Assertion is what a session makes sure of when a server connection comes to it from
// another session: what isolation rests on is set, not believed. The declared settings
// get the session's values; where it has none, there must be none. So do role and session
// authorization, and no temporary object may be there. If it does not hold, the
// statement fails, and what is behind it does not run. It is immutable.
//
// Within a transaction block nothing is set, as its rollback would undo that while the session
// goes on there: what the session has is compared with what is in force.
//
// It has four texts, as every expression costs the server. The thorough one does all of
// it. The others are for sessions that have all of the settings, or none: they refuse
// another role or authorization than is believed and any temporary schema, one without
// objects too. By pgbench on PostgreSQL 15, prepared and pipelined:
//
//	set_config alone   2.1 µs
//	all, none          3.0 µs
//	thorough           5.6 µs
type Assertion struct {
	names               []string // custom settings
	all, none, thorough *prepared.Statement
	same                *prepared.Statement // sets nothing
	careful             *Assertion          // with the thorough statement only
}

// AssertionPrefix begins what is said where an Assertion does not hold.
const AssertionPrefix = "pgweir: connection not clean: "

// TemporarySchema is what is said of a schema for temporary objects that may be empty.
const TemporarySchema = "a temporary schema"

// NewAssertion makes the Assertion of settings, by name; nil without any.
func NewAssertion(names []string, r *prepared.Registry) *Assertion {
	if len(names) == 0 {
		return nil
	}
	a := &Assertion{}
	for _, n := range names {
		a.names = append(a.names, setting.Fold(n))
	}
	prepare := func(text string) *prepared.Statement { return r.Statement([]byte(text), noTypes, "") }
	a.thorough = prepare(a.statement(func(i int) string { return "$" + strconv.Itoa(i+1) }))
	all := "SELECT CASE" + believed + " ELSE " + set(a.names[0], "$3") + " END"
	none := "SELECT CASE" + believed
	for i, n := range a.names {
		if i > 0 {
			all += ", " + set(n, "$"+strconv.Itoa(i+3))
		}
		none += isSet(n)
	}
	same := ""
	for i, n := range a.names {
		same += isOther(n, "$"+strconv.Itoa(i+3))
	}
	a.same = prepare("SELECT CASE" + believed + same + " END")
	a.careful = &Assertion{
		names: a.names, all: a.thorough, none: a.thorough, thorough: a.thorough,
		same: prepare("SELECT CASE" + identity + " WHEN " + hasTemporary + failure("temporary objects") + same + " END"),
	}
	a.all, a.none = prepare(all), prepare(none+" END")
	return a
}

// believed refuses what is believed not to be so.
var believed = identity + " WHEN " + hasTemporarySchema + " THEN " + failure(TemporarySchema)

var identity = " WHEN " + differs(setting.Authorization, "$1") + " THEN " + failure("another session authorization") +
	" WHEN " + differs(setting.Role, "$2") + " THEN " + failure("another role")

const hasTemporarySchema = "pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0"

const hasTemporary = hasTemporarySchema + " AND EXISTS (SELECT FROM pg_catalog.pg_depend WHERE" +
	" refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass" +
	" AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) THEN "

// differs is whether the setting reads something else than value.
func differs(name, value string) string {
	return "pg_catalog.current_setting('" + name + "') OPERATOR(pg_catalog.<>) " + value + "::pg_catalog.text"
}

// set sets a setting for the session.
func set(name, value string) string {
	return "pg_catalog.set_config(" + setting.Literal(name) + ", " + value + ", false)"
}

// isSet refuses a custom setting that has a value.
func isSet(name string) string {
	return " WHEN pg_catalog.current_setting(" + setting.Literal(name) + ", true) OPERATOR(pg_catalog.<>) '' THEN " + failure(name+" is set")
}

// isOther refuses a custom setting that has another value, or one where there is to be none.
func isOther(name, value string) string {
	return " WHEN coalesce(pg_catalog.current_setting(" + setting.Literal(name) + ", true), '') OPERATOR(pg_catalog.<>) coalesce(" + value + "::pg_catalog.text, '') THEN " + failure("another "+name)
}

// failure is an expression that fails when it is evaluated, and says what: the server
// quotes the name of a setting that it does not know.
func failure(what string) string {
	return "pg_catalog.current_setting(" + setting.Literal(AssertionPrefix+what) + ")"
}

// statement is the thorough text; value is what stands for the value at index i: session
// authorization, role, and of the names.
func (a *Assertion) statement(value func(i int) string) string {
	var q strings.Builder
	q.WriteString("SELECT ")
	for i, n := range a.names {
		v := value(i + 2)
		q.WriteString("CASE WHEN " + v + "::pg_catalog.text IS NOT NULL THEN " + set(n, v) + isSet(n) + " END, ")
	}
	for i, name := range [...]string{setting.Authorization, setting.Role} {
		v := value(i)
		q.WriteString("CASE WHEN " + differs(name, v) + " THEN " + set(name, v) + " END, ")
	}
	q.WriteString("CASE WHEN " + hasTemporary + failure("temporary objects") + " END")
	return q.String()
}

// values are what s has of what is asserted, in the order of the parameters; ok is false
// where it has none. user is who acts where s does not say so.
func (a *Assertion) values(s setting.Settings, user string, each func(value string, ok bool)) {
	if v, ok := s.Value(setting.Authorization); ok {
		user = v
	}
	each(user, true)
	role, ok := s.Value(setting.Role)
	if !ok {
		role = "none"
	}
	each(role, true)
	for _, n := range a.names {
		v, ok := s.Value(n)
		each(v, ok && v != "")
	}
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

// Taking is the Assertion for a connection that takes over changes and, if temporary is
// said, may have a schema for temporary objects.
func (a *Assertion) Taking(changes []setting.Change, temporary bool) *Assertion {
	acts := func(c setting.Change) bool { return c.Name == setting.Role || c.Name == setting.Authorization }
	if a != nil && (temporary || slices.ContainsFunc(changes, acts)) {
		return a.careful
	}
	return a
}

// Unclean is what the error message of an Assertion that did not hold says; ok is false for
// another. Servers quote it as their language does.
func Unclean(message string) (why string, ok bool) {
	_, why, ok = strings.Cut(message, AssertionPrefix)
	return strings.TrimRight(why, "\"'»›”“’` \u00a0"), ok
}

// statementFor returns the statement for a session with s.
func (a *Assertion) statementFor(s setting.Settings) *prepared.Statement {
	has := 0
	for _, n := range a.names {
		if v, _ := s.Value(n); v != "" {
			has++
		}
	}
	switch has {
	case len(a.names):
		return a.all
	case 0:
		return a.none
	}
	return a.thorough
}

// comparing returns the statement that sets nothing for a session with s. That for sessions without
// any of the settings is one, and costs less.
func (a *Assertion) comparing(s setting.Settings) *prepared.Statement {
	if st := a.statementFor(s); st == a.none && st != a.thorough {
		return st
	}
	return a.same
}

// appendValues adds the parameters of st, as a Bind has them, with a session's values.
func (a *Assertion) appendValues(v []byte, st *prepared.Statement, s setting.Settings, user string) []byte {
	n := uint16(2)
	if st != a.none || st == a.thorough {
		n += uint16(len(a.names))
	}
	v = append(v, 0, 0)
	v = binary.BigEndian.AppendUint16(v, n)
	a.values(s, user, func(value string, ok bool) {
		switch {
		case n == 0:
			return
		case ok:
			v = binary.BigEndian.AppendUint32(v, uint32(len(value)))
			v = append(v, value...)
		default:
			v = append(v, 0xff, 0xff, 0xff, 0xff)
		}
		n--
	})
	return append(v, 0, 0)
}

// assert makes sure that the connection carries what isolation rests on.
func (e *Encoder) assert() {
	if e.Asserts != nil {
		e.assertBy(e.Asserts.statementFor(e.Carries))
	}
}

func (e *Encoder) assertBy(st *prepared.Statement) {
	e.prepareOwn(st, Setup)
	var room [256]byte
	e.execute(st.Name, e.Asserts.appendValues(room[:0], st, e.Carries, e.User), Awaited{Kind: Execute, Origin: Setup})
}
