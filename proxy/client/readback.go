package client

import (
	"errors"
	"strings"

	setting "github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// What a statement leaves behind cannot always be told from its text: SET search_path
// reads a list, a function may set what it likes, a ROLLBACK may drop the last
// temporary table. Once its transaction is over the server connection is asked: for
// its settings, and for the state that ties the session to it. Settings are carried from then
// on, and a session whose state is gone is free again.

// readBack asks the connection what cannot be known without, if there is anything,
// and takes it over. The client has its answer by then.
func (st settlement) readBack() error {
	l, s := &st.c.lease, &st.c.state
	inspect := l.inspect & s.Pins
	if !l.held() || s.Tx.Phase.InBlock() || l.midBatch() || !s.NeedsReadBack() && inspect == 0 {
		return nil
	}
	l.inspect = 0
	st.c.svc.Metrics.ReadBack()
	asked := st.asked()
	r := reading{found: session.Found{Values: l.b.Defaults()}}
	if err := l.b.Query(st.c.ctx, readBackQuery(s.NeedsReadBack(), asked, inspect), r.row); err != nil {
		return st.unreadable(inspect, err)
	}
	if s.NeedsReadBack() {
		l.b.NoteAsked(asked, setting.Names{}.With(r.found.Defined))
	}
	if s.Known >= session.UnknownText {
		if v, _ := r.found.Values.Value(setting.Authorization); v == st.c.up.Credentials().User {
			r.found.Values = r.found.Values.Without(setting.Authorization)
		}
		if session.MayMisread(r.found.Values) {
			r.found.Kept |= router.PinSetting
		}
		l.carries(session.Carrying(r.found.Values, l.b.Defaults()))
	}
	s.ReadBack(r.found, inspect)
	return nil
}

// asked are the custom settings that a connection is asked for.
func (st settlement) asked() setting.Names {
	return st.c.state.Defined.Union(st.c.state.MayDefine).With(st.c.svc.Config.Settings.Track)
}

// unreadable keeps the session on a connection that refused to answer (a statement
// timeout of the session's own, perhaps), to be asked again.
func (st settlement) unreadable(inspect router.PinSet, err error) error {
	if st.c.ctx.Err() != nil {
		st.c.discard()
		return errShutdown
	}
	if !errors.As(err, new(*backend.ServerError)) || st.c.lease.onReplica() {
		st.c.discard()
		return wire.Fatalf("08006", "the session's settings could not be read: %v", err)
	}
	st.c.lease.inspect |= inspect
	st.c.state.Unreadable()
	return nil
}

// reading is what a connection says it carries, row by row.
type reading struct{ found session.Found }

// row reads one row: what it speaks of, a name, its value, a remark.
func (r *reading) row(row [][]byte) error {
	if len(row) != 4 {
		return errRow
	}
	f := &r.found
	name, value := strings.ToLower(string(row[1])), string(row[2])
	switch string(row[0]) {
	case "built-in":
		if _, began := f.Values.Value(name); name == setting.Role && value == "none" && !began {
			return nil
		}
		f.Values = f.Values.With(name, value)
		if string(row[3]) == "true" {
			f.Kept |= router.PinSetting
		}
	case "custom":
		if row[2] == nil {
			return nil
		}
		f.Defined = append(f.Defined, name)
		if f.Values = f.Values.Without(name); value != "" {
			f.Values = f.Values.With(name, value)
		}
	case "state":
		for kind, q := range stateQueries {
			if q.name == name && value == "true" {
				f.Kept |= kind
			}
		}
	}
	return nil
}

var errRow = errors.New("the answer has another shape than expected")

// stateQueries find out whether state of one kind is there.
var stateQueries = map[router.PinSet]struct{ name, query string }{
	router.PinTemp: {"temp", `SELECT 1 FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
 UNION ALL SELECT 1 FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
 UNION ALL SELECT 1 FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()`},
	router.PinCursor: {"cursor", `SELECT 1 FROM pg_catalog.pg_cursors WHERE is_holdable`},
	router.PinLock: {"lock", `SELECT 1 FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
 AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()`},
	router.PinListen: {"listen", `SELECT 1 FROM pg_catalog.pg_listening_channels()`},
}

// readBackQuery asks for the settings of a session, custom ones by name, if that is
// wanted, and for kinds of state.
// A setting a session has set has the source "session" in pg_settings, which hides
// custom ones and those of who it acts as.
// https://www.postgresql.org/docs/current/view-pg-settings.html
func readBackQuery(settings bool, custom setting.Names, inspect router.PinSet) string {
	var q strings.Builder
	sep := ""
	add := func(query string) {
		q.WriteString(sep + query)
		sep = "\nUNION ALL "
	}
	if settings {
		add(`SELECT 'built-in', name, setting, (context OPERATOR(pg_catalog.=) 'superuser' AND NOT
 pg_catalog.has_parameter_privilege(session_user, name, 'SET'))::pg_catalog.text
 FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'
 AND name OPERATOR(pg_catalog.<>) ALL ('{transaction_isolation,transaction_read_only,transaction_deferrable}'::pg_catalog.text[])`)
		add(`SELECT 'built-in', 'role', pg_catalog.current_setting('role'), ''`)
		add(`SELECT 'built-in', 'session_authorization', pg_catalog.current_setting('session_authorization'), ''`)
		for _, name := range custom.List() {
			literal := "'" + strings.ReplaceAll(name, "'", "''") + "'"
			if strings.Contains(name, `\`) {
				literal = " E" + strings.ReplaceAll(literal, `\`, `\\`)
			}
			add("SELECT 'custom', " + literal + ", pg_catalog.current_setting(" + literal + ", true), ''")
		}
	}
	for kind, s := range stateQueries {
		if inspect&kind != 0 {
			add("SELECT 'state', '" + s.name + "', EXISTS (" + s.query + ")::pg_catalog.text, ''")
		}
	}
	return q.String()
}
