package pgbouncer

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func text(m *migration, path []string, value string) error { return m.set(path, value) }

// list is names with commas between them.
func list(m *migration, path []string, value string) error {
	var names []string
	for name := range strings.SplitSeq(value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return m.set(path, names)
}

func number(m *migration, path []string, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no number", value)
	}
	return m.set(path, n)
}

// secret is a password to log in with, so that a hash is none.
func secret(m *migration, path []string, value string) error {
	if hashed(value) {
		return m.note(strings.Join(path, "."), "is a hash, by which nobody logs in to servers that ask for SCRAM; give the password")
	}
	return m.set(path, value)
}

func hashed(value string) bool {
	return strings.HasPrefix(value, "md5") && len(value) == 35 || strings.HasPrefix(value, "SCRAM-SHA-256$")
}

// minIdle is bound by the size of the pool, as there.
func minIdle(m *migration, path []string, value string) error {
	size, ok := last(m.file.General, "default_pool_size")
	if n, err := strconv.Atoi(value); err == nil && len(path) == 2 {
		bound := 20
		if ok {
			bound, _ = strconv.Atoi(size) // what is no number is told where it is carried
		}
		value = strconv.Itoa(min(n, bound))
	}
	return number(m, path, value)
}

func statements(m *migration, path []string, value string) error {
	if value == "0" {
		return m.note(path[len(path)-1], "0: prepared statements are always followed; pool.max_statements stays as it is")
	}
	return number(m, path, value)
}

func seconds(m *migration, path []string, value string) error {
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no number of seconds", value)
	}
	return m.set(path, short(time.Duration(n*float64(time.Second))))
}

func milliseconds(m *migration, path []string, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no number of milliseconds", value)
	}
	return m.set(path, short(time.Duration(n)*time.Millisecond))
}

// short is a duration without trailing zero units.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func lifetime(m *migration, path []string, value string) error {
	if n, err := strconv.ParseFloat(value, 64); err == nil && n == 0 {
		return m.set(path, "1s", "0 was one use")
	}
	return seconds(m, path, value)
}

func isTrue(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "yes", "on", "true", "t":
		return true, nil
	case "0", "no", "off", "false", "f":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither 0 nor 1", value)
}

func boolean(m *migration, path []string, value string) error {
	b, err := isTrue(value)
	if err != nil {
		return err
	}
	return m.set(path, b)
}

// file is a path; relative ones are of PgBouncer's working directory, which is taken for the
// directory of its file.
func file(m *migration, path []string, value string) error {
	if value == "" {
		return nil
	}
	return m.set(path, m.absolute(value))
}

func (m *migration) absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	if whole, err := filepath.Abs(filepath.Join(m.file.Dir, path)); err == nil {
		return whole
	}
	return path
}

func poolMode(m *migration, path []string, value string) error {
	switch value {
	case "session", "transaction":
		return m.set(path, value)
	case "statement":
		return m.set(path, "transaction", "was statement")
	}
	return fmt.Errorf("%q is no pool mode", value)
}

func verbose(m *migration, path []string, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n == 0 {
		return err
	}
	return m.set(path, "debug")
}

// logConnections takes both keys together.
func logConnections(m *migration, path []string, value string) error {
	on, err := isTrue(value)
	if err != nil {
		return err
	}
	if value, ok := last(m.file.General, "log_disconnections"); ok {
		also, err := isTrue(value)
		if err != nil {
			return err
		}
		on = on || also
	}
	return m.set(path, on)
}

// query is a query for secrets, whose columns and parameter are the same here.
func query(m *migration, path []string, value string) error {
	if !m.looksUp {
		return m.note("auth_query", "without auth_user nobody asks it")
	}
	return m.set(path, value)
}

func clientTLS(m *migration, path []string, value string) error {
	mode, ok := map[string]string{
		"disable": "disable", "allow": "allow", "prefer": "allow", "require": "require", "verify-ca": "verify-client", "verify-full": "verify-client",
	}[value]
	if !ok {
		return fmt.Errorf("%q is no TLS mode", value)
	}
	return m.set(path, mode)
}

func protocols(m *migration, path []string, value string) error {
	for _, p := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ':' || r == ' ' }) {
		if slices.Contains([]string{"tlsv1.2", "secure", "default", "all", "legacy", "tlsv1.0", "tlsv1.1"}, p) {
			return m.set(path, "1.2")
		}
	}
	return m.set(path, "1.3")
}

// serverTLS is for all clusters.
func serverTLS(m *migration, path []string, value string) error {
	if strings.HasSuffix(path[1], "_file") {
		value = m.absolute(value)
	}
	for _, c := range m.clusters {
		at := []string{"server_tls", path[1]}
		if len(m.clusters) > 1 {
			at = []string{"clusters", c.name, "tls", path[1]}
		}
		if err := m.set(at, value); err != nil {
			return err
		}
	}
	return nil
}

func eachDatabase(m *migration, path []string, value string) error {
	for _, d := range m.file.Databases {
		own := map[string]string{"max_server_connections": "max_db_connections", "max_clients": "max_db_client_connections"}[path[2]]
		if _, ok := last(d.Options, own); ok || value == "0" {
			continue
		}
		if err := number(m, []string{path[0], d.Name, path[2]}, value); err != nil {
			return err
		}
	}
	return nil
}

func eachUser(m *migration, path []string, value string) error {
	if value != "0" && len(m.file.Users) == 0 {
		return m.note(path[2], "for all users: name them under users, each with "+path[2]+": "+value)
	}
	for _, u := range m.file.Users {
		own := map[string]string{"max_server_connections": "max_user_connections", "max_clients": "max_user_client_connections"}[path[2]]
		if _, ok := last(u.Options, own); ok || value == "0" {
			continue
		}
		if err := number(m, []string{path[0], u.Name, path[2]}, value); err != nil {
			return err
		}
	}
	return nil
}

// authType is how clients prove who they are.
func authType(m *migration, path []string, value string) error {
	switch value {
	case "md5", "scram-sha-256", "cert":
		return m.set(path, value)
	case "trust":
		return m.set(path, value, "the name need not be in the user file any more")
	case "plain":
		if err := m.set([]string{"auth", "allow_plain_password"}, true); err != nil {
			return err
		}
		return m.set(path, "password", "was plain")
	case "any":
		if err := m.note("auth_type", "any: anybody comes in by trust, as himself unless the database has a server_user"); err != nil {
			return err
		}
		return m.set(path, "trust", "was any")
	case "hba":
		return m.hba()
	case "ldap":
		options, _ := last(m.file.General, "auth_ldap_options")
		return m.note("auth_type", "ldap: put this line into a file and name it by auth.hba_file: host all all all ldap "+options)
	}
	return m.note("auth_type", value+" is not served; clients prove who they are by auth.method")
}

func (m *migration) hba() error {
	name, ok := last(m.file.General, "auth_hba_file")
	if !ok {
		return fmt.Errorf("hba needs auth_hba_file")
	}
	if err := m.set([]string{"auth", "hba_file"}, m.absolute(name)); err != nil {
		return err
	}
	if ident, ok := last(m.file.General, "auth_ident_file"); ok && ident != "" {
		return m.set([]string{"auth", "ident_file"}, m.absolute(ident))
	}
	return nil
}
