package backend

import (
	"context"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
)

// defaultsQuery asks for the settings that ALTER ROLE and ALTER DATABASE … SET give new
// sessions in the database, those nearest to a session last, as far as a session may set
// them itself; an empty role ($1) is all. A name that pg_settings does not show is a custom
// one, or role.
// https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-SQL
const defaultsQuery = `
SELECT COALESCE(r.rolname, ''), pg_catalog.lower(pg_catalog.split_part(c.config, '=', 1)),
       pg_catalog.substr(c.config, pg_catalog.strpos(c.config, '=') OPERATOR(pg_catalog.+) 1)
  FROM pg_catalog.pg_db_role_setting s
  LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.setrole,
  pg_catalog.unnest(s.setconfig) c(config)
  LEFT JOIN LATERAL (SELECT g.context FROM pg_catalog.pg_settings g
    WHERE pg_catalog.lower(g.name) OPERATOR(pg_catalog.=) pg_catalog.lower(pg_catalog.split_part(c.config, '=', 1))) g ON true
 WHERE (s.setrole OPERATOR(pg_catalog.=) 0 OR r.oid IS NOT NULL)
   AND ($1::pg_catalog.text OPERATOR(pg_catalog.=) '' OR s.setrole OPERATOR(pg_catalog.=) 0 OR r.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.text)
   AND s.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0, (SELECT d.oid FROM pg_catalog.pg_database d
    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())]::pg_catalog.oid[])
   AND COALESCE(g.context, 'user') OPERATOR(pg_catalog.=) 'user'
 ORDER BY s.setrole OPERATOR(pg_catalog.<>) 0, s.setdatabase OPERATOR(pg_catalog.<>) 0`

// Defaults are the settings that new sessions in a database begin with. The zero value
// gives nobody any.
type Defaults struct {
	all    setting.Settings
	byRole map[string]setting.Settings // over all
	before setting.Names               // that earlier ones had a value for
}

// Names are those of all custom settings that d gives anybody a value, or that what it follows did.
func (d *Defaults) Names() setting.Names {
	names := d.before.With(namesOf(d.all))
	for _, s := range d.byRole {
		names = names.With(namesOf(s))
	}
	return names
}

func namesOf(s setting.Settings) (names []string) {
	for name := range s.All() {
		names = append(names, name)
	}
	return names
}

// Follow says that d comes after before.
func (d *Defaults) Follow(before *Defaults) { d.before = before.Names() }

// Of returns those of a role.
func (d *Defaults) Of(role string) setting.Settings {
	s := d.all
	for name, value := range d.byRole[role].All() {
		s = s.With(name, value)
	}
	return s
}

// AskDefaults asks for the defaults of new sessions in b's database: of all roles, or of
// one, if it is named.
func (b *Backend) AskDefaults(ctx context.Context, role string) (*Defaults, error) {
	d := &Defaults{byRole: map[string]setting.Settings{}}
	err := b.Query(ctx, AnyDefault+strings.ReplaceAll(defaultsQuery, "$1", setting.Literal(role)), func(v [][]byte) error {
		role, name, value := string(v[0]), string(v[1]), string(v[2])
		switch {
		case strings.HasSuffix(name, "_preload_libraries"):
		case role == "":
			d.all = d.all.With(name, value)
		default:
			d.byRole[role] = d.byRole[role].With(name, value)
		}
		return nil
	})
	return d, err
}

// beganQuery asks for the built-in settings that a session began with because of ALTER ROLE
// (of all roles, too) or ALTER DATABASE … SET, as far as it may set them itself.
const beganQuery = `SELECT '', ` + Started + `::pg_catalog.text, ''
 UNION ALL SELECT name, pg_catalog.current_setting(name), 'known' FROM pg_catalog.pg_settings
 WHERE source OPERATOR(pg_catalog.=) ANY ('{global,user,database,"database user"}'::pg_catalog.text[])
   AND context OPERATOR(pg_catalog.=) 'user' AND name OPERATOR(pg_catalog.!~~) '%\_preload\_libraries'`

// Started is an expression that tells servers behind one address apart, and lives of one: µs,
// as no setting of the session's decides how an integer is written.
const Started = "(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8"

// AskBegan asks b, which has just logged in, what its session began with: the defaults may
// have changed between login and now, or be another server's. Custom settings, role and
// what the session asked for itself cannot be listed and must be named. It notes them, see
// Began.
func (b *Backend) AskBegan(ctx context.Context, named []string) error {
	var began setting.Settings
	parts := []string{beganQuery}
	for _, name := range append(named, setting.Role) {
		name = setting.Literal(name)
		parts = append(parts, "SELECT "+name+", pg_catalog.current_setting("+name+", true), ''")
	}
	var libraries []string
	err := b.Query(ctx, AnyDefault+strings.Join(parts, " UNION ALL "), func(v [][]byte) error {
		name, value := setting.Fold(string(v[0])), string(v[1])
		if name == "" {
			b.origin.Started = value
		} else if v[1] != nil && (name != setting.Role || value != "none") {
			began = began.With(name, value)
		}
		if len(v[2]) > 0 && setting.IsCustom(name) {
			libraries = append(libraries, name) // no placeholder is in pg_settings
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.origin.Libraries = setting.Names{}.With(libraries)
	b.Began(began)
	return nil
}

// Began notes the settings that b's own session began with, which RESET and DISCARD ALL
// return it to for as long as it lives.
func (b *Backend) Began(defaults setting.Settings) {
	b.began = defaults
	b.NoteSettings(defaults)
	b.NoteDefined(defaults.Custom())
}

// Defaults returns what Began noted.
func (b *Backend) Defaults() setting.Settings { return b.began }

// standIns are values for sessions that began without a default that b has: where RESET
// returns to another value than theirs.
var standIns = map[string]string{"role": "none", "search_path": `"$user", public`}

// StandIns puts what returns a setting to another value than b's session began with in the
// place of a RESET, where the session that wants it never had a default that b has. It
// changes the slice.
func (b *Backend) StandIns(changes []setting.Change) []setting.Change {
	for i := range changes {
		changes[i] = standIn(changes[i], b.began, b.origin.Libraries)
	}
	return changes
}

// standIn is the change to be made in place of a RESET of a setting that began has a value
// of, which the session that wants it never had. What a library defines may refuse to be empty.
func standIn(c setting.Change, began setting.Settings, libraries setting.Names) setting.Change {
	if _, ok := began.Value(c.Name); !c.Reset || !ok {
		return c
	}
	if value, ok := standIns[c.Name]; ok || setting.IsCustom(c.Name) && !libraries.Has(c.Name) {
		c.Value, c.Reset = value, false
	}
	return c
}
