package catalog

import (
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
)

const (
	isolationSetting = "default_transaction_isolation"
	readOnlySetting  = "default_transaction_read_only"
)

// defaults are the settings of which Default tells: those that decide where a transaction
// may run, how a text is read, what its names mean, and as whom it runs.
var defaults = map[string]bool{
	isolationSetting: true, readOnlySetting: true,
	"search_path": true, "role": true, "standard_conforming_strings": true, "client_encoding": true,
}

// settings are the defaults of new sessions in this database.
type settings struct {
	roles  []roleSetting
	server map[string]string // of the server itself; without those that cannot be told
}

// roleSetting is one setting of ALTER ROLE or ALTER DATABASE … SET; empty role
// or database is all of them.
type roleSetting struct {
	role     string
	database bool
	name     string // lower case
	value    string
}

// Default is the value of a setting that a new session of user begins with, as the
// administrator wrote it; empty if it cannot be told, or is none of defaults. A session's
// own startup options come before it, and a session keeps what it began with.
func (s *Snapshot) Default(user, name string) string { return s.settings.value(user, name) }

// OfServer is the value of a setting that the server's own configuration gives, as far as
// it is looked for; empty if it cannot be told.
func (s *Snapshot) OfServer(name string) string { return s.settings.server[name] }

// DefaultIsolation is the default_transaction_isolation a new session of user
// begins with, as the administrator wrote it; empty if it cannot be told. A
// session's own startup options come before it.
func (s *Snapshot) DefaultIsolation(user string) string {
	return s.settings.value(user, isolationSetting)
}

// DefaultReadOnly is the same for default_transaction_read_only ("on", "off", "true", …).
func (s *Snapshot) DefaultReadOnly(user string) string {
	return s.settings.value(user, readOnlySetting)
}

// value applies PostgreSQL's order: the role in the database, the role, the
// database, all roles, the server.
func (s *settings) value(user, name string) string {
	for _, want := range []struct {
		role     string
		database bool
	}{{user, true}, {user, false}, {"", true}, {"", false}} {
		for _, r := range s.roles {
			if r.name == name && r.role == want.role && r.database == want.database {
				return r.value
			}
		}
	}
	return s.server[name]
}

// add reads one entry of pg_db_role_setting.setconfig: name=value.
func (s *settings) add(role string, database bool, config string) {
	name, value, _ := strings.Cut(config, "=")
	name = setting.Fold(name)
	if defaults[name] {
		s.roles = append(s.roles, roleSetting{role, database, name, value})
	}
}

// text is all of it as one string, for comparing.
func (s *settings) text() string {
	var lines []string
	for _, r := range s.roles {
		where := "*"
		if r.database {
			where = "here"
		}
		lines = append(lines, strings.Join([]string{"role", r.role, where, r.name, r.value}, "\x00"))
	}
	for name, value := range s.server {
		lines = append(lines, strings.Join([]string{"server", name, value}, "\x00"))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\x01")
}
