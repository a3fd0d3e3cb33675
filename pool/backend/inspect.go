package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/internal/setting"
)

// Leftover is a set of kinds of state that a session can leave on a server connection
// besides settings.
type Leftover uint8

// The kinds of state.
const (
	Temporary Leftover = 1 << iota // temporary objects
	Cursors                        // cursors WITH HOLD
	Locks                          // session advisory locks
	Channels                       // that it listens to
)

// leftovers are the kinds with their names and the queries that find them.
var leftovers = []struct {
	kind        Leftover
	name, query string
}{
	// Whatever has a schema of its own depends on it, objects of every kind.
	{Temporary, "temp", `SELECT 1 FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
 AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()`},
	{Cursors, "cursor", `SELECT 1 FROM pg_catalog.pg_cursors WHERE is_holdable`},
	{Locks, "lock", `SELECT 1 FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
 AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()`},
	{Channels, "listen", `SELECT 1 FROM pg_catalog.pg_listening_channels()`},
}

// Question is what Inspect asks.
type Question struct {
	Settings  bool          // for settings, role and session authorization
	Custom    setting.Names // and these custom settings, which cannot be listed
	Leftovers Leftover      // and for state of these kinds
	Prepared  bool          // and for the prepared statements
}

// Found is what a connection was found to carry.
type Found struct {
	Settings   setting.Settings // those its session has set, over what it began with
	Defined    []string         // custom settings that do not read NULL
	Leftovers  Leftover
	Privileged bool             // it has a setting that its login may not set
	Prepared   []string         // names of prepared statements
	session    setting.Settings // the built-in ones that RESET would change
}

// Inspect asks the server what b carries. Outside a transaction only; b.Settings and the
// like are left as they are. Errors are as those of RoundTrip.
func (b *Backend) Inspect(ctx context.Context, q Question) (Found, error) {
	f := Found{Settings: b.began}
	err := b.Query(ctx, q.text(), f.row)
	return f, err
}

// text is the query. A setting that a session has set has the source "session" in
// pg_settings, which hides custom ones and those of who it acts as.
// https://www.postgresql.org/docs/current/view-pg-settings.html
func (q *Question) text() string {
	var parts []string
	if q.Settings {
		parts = append(parts, `SELECT 'built-in', name, setting, (context OPERATOR(pg_catalog.=) 'superuser' AND NOT
 pg_catalog.has_parameter_privilege(session_user, name, 'SET'))::pg_catalog.text,
 (setting OPERATOR(pg_catalog.=) reset_val)::pg_catalog.text
 FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'
 AND name OPERATOR(pg_catalog.<>) ALL ('{transaction_isolation,transaction_read_only,transaction_deferrable}'::pg_catalog.text[])`,
			`SELECT 'built-in', 'role', pg_catalog.current_setting('role'), '', ''`,
			`SELECT 'built-in', 'session_authorization', pg_catalog.current_setting('session_authorization'), '', ''`)
		for _, name := range q.Custom.List() {
			name = setting.Literal(name)
			parts = append(parts, "SELECT 'custom', "+name+", pg_catalog.current_setting("+name+", true), '', ''")
		}
	}
	for _, l := range leftovers {
		if q.Leftovers&l.kind != 0 {
			parts = append(parts, "SELECT 'state', '"+l.name+"', EXISTS ("+l.query+")::pg_catalog.text, '', ''")
		}
	}
	if q.Prepared {
		parts = append(parts, "SELECT 'prepared', name, '', '', '' FROM pg_catalog.pg_prepared_statements")
	}
	return AnyDefault + strings.Join(parts, "\nUNION ALL ")
}

var errRow = errors.New("the answer has another shape than expected")

// row reads one row: what it speaks of, a name, its value, whether the login may not set
// it, and whether the value is the one that RESET returns to: SET LOCAL behind a RESET in
// the same transaction leaves it with the source "session".
func (f *Found) row(row [][]byte) error {
	if len(row) != 5 {
		return errRow
	}
	name, value := setting.Fold(string(row[1])), string(row[2])
	switch string(row[0]) {
	case "built-in":
		f.builtIn(name, value)
		f.Privileged = f.Privileged || string(row[3]) == "true"
		if string(row[4]) == "true" {
			f.session = f.session.Without(name)
		}
	case "custom":
		if row[2] == nil {
			return nil
		}
		f.Defined = append(f.Defined, name)
		if f.Settings = f.Settings.Without(name); value != "" {
			f.Settings = f.Settings.With(name, value)
		}
	case "state":
		for _, l := range leftovers {
			if l.name == name && value == "true" {
				f.Leftovers |= l.kind
			}
		}
	case "prepared":
		f.Prepared = append(f.Prepared, string(row[1]))
	}
	return nil
}

// builtIn takes in a built-in setting. Role NONE is a value only where RESET ROLE would
// return to another.
func (f *Found) builtIn(name, value string) {
	if _, began := f.Settings.Value(name); name == setting.Role && value == "none" && !began {
		return
	}
	f.Settings = f.Settings.With(name, value)
	f.session = f.session.With(name, value)
}

// Verify asks the server what b carries, an idle connection, and compares it with what is
// believed. It returns the differences, none if the belief is right; then b's trail is
// empty. custom are settings to be asked for besides those that b may have defined.
// Errors are as those of RoundTrip; with PostgreSQL's own words a built-in setting has
// other values than it was set to, so of these only the names are compared.
func (b *Backend) Verify(ctx context.Context, custom setting.Names) (differences []string, err error) {
	f, err := b.Inspect(ctx, Question{
		Settings: true, Custom: custom.Union(b.mayDefine), Leftovers: Temporary | Cursors | Locks | Channels, Prepared: true,
	})
	if err != nil {
		return nil, err
	}
	b.verified = time.Now()
	say := func(format string, args ...any) { differences = append(differences, fmt.Sprintf(format, args...)) }
	for _, n := range f.Defined {
		if !(setting.Names{}).With([]string{n}).Within(b.mayDefine) {
			say("%s is defined", n)
		}
	}
	f.compare(b, say)
	for _, l := range leftovers {
		if f.Leftovers&l.kind != 0 {
			say("%s", l.name)
		}
	}
	for _, name := range f.Prepared {
		if !b.held.HoldsName(name) {
			say("prepared statement %s", name)
		}
	}
	if len(differences) == 0 {
		b.trail = trail{}
	}
	return differences, nil
}

// compare compares the settings found on b with what is believed.
func (f *Found) compare(b *Backend, say func(format string, args ...any)) {
	exact := func(name string) bool { return setting.IsCustom(name) || name == setting.Role }
	for name, value := range f.Settings.All() {
		have, ok := b.settings.Value(name)
		_, set := f.session.Value(name)
		switch {
		case name == setting.Authorization:
			if ok && have != value || !ok && value != b.user {
				say("session_authorization")
			}
		case exact(name) && (!ok || have != value), !ok && set:
			say("%s has a value", name)
		}
	}
	for name, value := range b.settings.All() {
		have, ok := f.Settings.Value(name)
		if name == setting.Role && value == "none" && !ok {
			continue // it is where RESET ROLE goes as well
		}
		if name != setting.Authorization && (!ok && value != "" || exact(name) && ok && have != value) {
			say("%s has another value", name)
		}
	}
}

// trail are the last things that ran on a connection since it was last verified.
type trail struct {
	ran [16]any
	n   int
}

// Ran notes what was run on b, by whatever prints it: it is told if b turns out to carry
// what nobody foresaw.
func (b *Backend) Ran(what any) {
	b.trail.ran[b.trail.n%len(b.trail.ran)] = what
	b.trail.n++
}

// Trail tells what ran on b since it was last verified, the latest last, as far as it is
// remembered.
func (b *Backend) Trail() (ran []string) {
	t := &b.trail
	for i := max(0, t.n-len(t.ran)); i < t.n; i++ {
		if s := fmt.Sprint(t.ran[i%len(t.ran)]); !slices.Contains(ran, s) {
			ran = append(ran, s)
		}
	}
	return ran
}
