package proxy

import (
	"errors"
	"strings"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// What a statement leaves behind cannot always be told from its text: SET search_path
// reads a list, a function may set what it likes, a ROLLBACK may drop the last
// temporary table. Once its transaction is over the server connection is asked: for
// its settings, and for the state that ties the session to it. Settings are carried from then
// on, and a session whose state is gone is free again.

// inspectable are kinds of state a server connection can be asked for.
const inspectable = router.PinTemp | router.PinCursor | router.PinLock | router.PinListen

// readBack asks the connection what cannot be known without, if there is anything,
// and takes it over. The client has its answer by then.
func (c *client) readBack() error {
	look := c.look & c.pins
	if c.b == nil || c.tx.open || c.inUnit || !c.unsure() && look == 0 {
		return nil
	}
	c.look = 0
	var found state
	c.s.metrics.ReadBack()
	if err := c.b.Query(c.ctx, c.readBackQuery(look), found.take); err != nil {
		return c.unreadable(look, err)
	}
	pins := c.pins &^ look
	for _, k := range found.kept {
		pins |= k & look
	}
	if c.unsure() {
		pins &^= router.PinSetting
		if c.adoptFound(&found) {
			pins |= router.PinSetting
		}
	}
	if c.role == cluster.RoleReplica && pins&router.PinSetting != 0 {
		c.discard() // the primary will be made to carry the same
	}
	c.setPins(pins)
	return nil
}

// unsure reports whether the session's settings are not known, or which custom ones
// no longer read NULL.
func (c *client) unsure() bool { return c.unread || !c.suspects.Within(c.touched) }

// asked are the custom settings that a connection is asked for.
func (c *client) asked() session.Names {
	return c.touched.Union(c.suspects).With(c.s.cfg.Settings.Track)
}

// unreadable keeps the session on a connection that refused to answer (a statement
// timeout of the session's own, perhaps), to be asked again.
func (c *client) unreadable(look router.PinSet, err error) error {
	var refused *backend.ServerError
	if c.ctx.Err() != nil {
		c.discard()
		return errShutdown
	}
	if !errors.As(err, &refused) || c.role == cluster.RoleReplica {
		c.discard()
		return wire.Fatalf("08006", "the session's settings could not be read: %v", err)
	}
	c.look |= look
	if c.unsure() {
		c.setPins(c.pins | router.PinSetting)
	}
	return nil
}

// adoptFound makes what was found the session's settings. It reports whether they
// cannot be carried to another connection.
func (c *client) adoptFound(found *state) (stays bool) {
	c.b.Learn(c.asked(), session.Names{}.With(found.touched))
	c.touched, c.suspects = c.touched.With(found.touched), session.Names{}
	if !c.unread {
		return c.pins&router.PinSetting != 0
	}
	if v, _ := found.values.Value(session.Authorization); v == c.up.Credentials().User {
		found.values = found.values.Without(session.Authorization)
	}
	c.b.Note(found.values)
	c.settings.now, c.settings.atRisk = found.values, false
	c.unread, c.within = false, false
	c.noteIsolation()
	return found.privileged || unreadableText(found.values)
}

// unreadableText reports whether the router may misunderstand the session's texts: a
// backslash in a string means something else, or a byte of a character looks like one.
func unreadableText(s session.Settings) bool {
	if v, ok := s.Value("standard_conforming_strings"); ok {
		if on, _ := session.ParseBool(v); !on {
			return true
		}
	}
	v, _ := s.Value("client_encoding")
	switch strings.ToUpper(strings.NewReplacer("-", "", "_", "", " ", "").Replace(v)) {
	case "BIG5", "WIN950", "WINDOWS950", "GB18030", "GBK", "WIN936", "WINDOWS936", "JOHAB",
		"SJIS", "MSKANJI", "SHIFTJIS", "WIN932", "WINDOWS932", "SHIFTJIS2004", "UHC", "WIN949", "WINDOWS949":
		return true
	}
	return false
}

// state is what a connection was found to hold.
type state struct {
	values     session.Settings
	touched    []string // custom settings that do not read NULL
	kept       []router.PinSet
	privileged bool // it has a setting its login may not set
}

// take reads one row: what it speaks of, a name, its value, a remark.
func (f *state) take(row [][]byte) error {
	if len(row) != 4 {
		return errRow
	}
	name, value := strings.ToLower(string(row[1])), string(row[2])
	switch string(row[0]) {
	case "built-in":
		f.values = f.values.With(name, value)
		f.privileged = f.privileged || string(row[3]) == "true"
	case "custom":
		if row[2] == nil {
			return nil
		}
		f.touched = append(f.touched, name)
		if value != "" {
			f.values = f.values.With(name, value)
		}
	case "state":
		for kind, q := range stateQueries {
			if q.name == name && value == "true" {
				f.kept = append(f.kept, kind)
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

// readBackQuery asks for the session's settings, if they are unread, and for the kinds of state.
// A setting a session has set has the source "session" in pg_settings, which hides
// custom ones and those of who it acts as.
// https://www.postgresql.org/docs/current/view-pg-settings.html
func (c *client) readBackQuery(look router.PinSet) string {
	var q strings.Builder
	sep := ""
	add := func(query string) {
		q.WriteString(sep + query)
		sep = "\nUNION ALL "
	}
	if c.unsure() {
		add(`SELECT 'built-in', name, setting, (context OPERATOR(pg_catalog.=) 'superuser' AND NOT
 pg_catalog.has_parameter_privilege(session_user, name, 'SET'))::pg_catalog.text
 FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'
 AND name OPERATOR(pg_catalog.<>) ALL ('{transaction_isolation,transaction_read_only,transaction_deferrable}'::pg_catalog.text[])`)
		add(`SELECT 'built-in', 'role', pg_catalog.current_setting('role'), ''
 WHERE pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) 'none'`)
		add(`SELECT 'built-in', 'session_authorization', pg_catalog.current_setting('session_authorization'), ''`)
		for _, name := range c.asked().List() {
			literal := "'" + strings.ReplaceAll(name, "'", "''") + "'"
			if strings.Contains(name, `\`) {
				literal = " E" + strings.ReplaceAll(literal, `\`, `\\`)
			}
			add("SELECT 'custom', " + literal + ", pg_catalog.current_setting(" + literal + ", true), ''")
		}
	}
	for kind, s := range stateQueries {
		if look&kind != 0 {
			add("SELECT 'state', '" + s.name + "', EXISTS (" + s.query + ")::pg_catalog.text, ''")
		}
	}
	return q.String()
}
