package backend

import (
	"context"
	"strings"

	"github.com/pgweir/pgweir/internal/session"
)

// defaultsQuery asks for the settings that ALTER ROLE and ALTER DATABASE … SET give a new
// session, those nearest to it last, as far as the session may set them itself. A name
// that pg_settings does not show is a custom one, or role.
// https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-SQL
const defaultsQuery = `
SELECT pg_catalog.lower(pg_catalog.split_part(c.config, '=', 1)),
       pg_catalog.substr(c.config, pg_catalog.strpos(c.config, '=') OPERATOR(pg_catalog.+) 1)
  FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c(config)
  LEFT JOIN LATERAL (SELECT g.context FROM pg_catalog.pg_settings g
    WHERE pg_catalog.lower(g.name) OPERATOR(pg_catalog.=) pg_catalog.lower(pg_catalog.split_part(c.config, '=', 1))) g ON true
 WHERE s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) session_user)]::pg_catalog.oid[])
   AND s.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())]::pg_catalog.oid[])
   AND COALESCE(g.context, 'user') OPERATOR(pg_catalog.=) 'user'
 ORDER BY s.setrole OPERATOR(pg_catalog.<>) 0, s.setdatabase OPERATOR(pg_catalog.<>) 0`

// AskDefaults asks for the settings that a session of b's login begins with now.
func (b *Backend) AskDefaults(ctx context.Context) (session.Settings, error) {
	var found session.Settings
	err := b.Query(ctx, defaultsQuery, func(v [][]byte) error {
		if name := string(v[0]); !strings.HasSuffix(name, "_preload_libraries") {
			found = found.With(name, string(v[1]))
		}
		return nil
	})
	return found, err
}

// Began notes the settings that b's own session began with, which RESET and DISCARD ALL
// return it to for as long as it lives.
func (b *Backend) Began(defaults session.Settings) {
	b.began = defaults
	b.NoteSettings(defaults)
	b.NoteDefined(defaults.Custom())
}

// Defaults returns what Began noted.
func (b *Backend) Defaults() session.Settings { return b.began }

// standIns are values for sessions that began without a default that b has: where RESET
// returns to another value than theirs.
var standIns = map[string]string{"role": "none", "search_path": `"$user", public`}

// standIn is the change to be made in place of a RESET of a setting that b has a default
// of, which the session that wants it never had.
func (b *Backend) standIn(c session.Change) session.Change {
	if _, ok := b.began.Value(c.Name); !c.Reset || !ok {
		return c
	}
	if value, ok := standIns[c.Name]; ok || session.IsCustom(c.Name) {
		c.Value, c.Reset = value, false
	}
	return c
}
