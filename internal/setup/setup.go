// Package setup knows what pgweir's service account needs on the servers: the SQL that
// gives it that, for servers of one's own and for those of clouds, and what is missing when
// a server refuses what the account asks.
package setup

import (
	"embed"
	"fmt"
	"strings"
	"text/template"
)

// Kinds of servers there is SQL for.
const (
	Plain    = "plain"    // superusers are at hand
	RDS      = "rds"      // Amazon RDS and Aurora: nobody reads pg_shadow
	CloudSQL = "cloudsql" // Google Cloud SQL: a flag lets a role read pg_shadow
)

// Kinds lists them.
func Kinds() []string { return []string{Plain, RDS, CloudSQL} }

// Query is the auth.query for what the SQL of a kind makes; empty is the default one.
func Query(kind string) string {
	if kind == CloudSQL {
		return ""
	}
	return "SELECT * FROM pgweir.secret($1)"
}

//go:embed *.sql
var files embed.FS

var scripts = template.Must(template.New("").Funcs(template.FuncMap{"ident": identifier, "text": literal}).ParseFS(files, "*.sql"))

// Account is what the SQL is for.
type Account struct {
	User     string // the service account
	Database string // where auth.query runs
	// Databases are those that the account must be able to enter; with none it is taken
	// that everybody may.
	Databases []string
}

// SQL is a script for psql, with comments, to be run in a.Database by who administers
// the server. It may be run again.
func SQL(kind string, a Account) (string, error) {
	if scripts.Lookup(kind+".sql") == nil {
		return "", fmt.Errorf("there is no SQL for %q; there is for %s", kind, strings.Join(Kinds(), ", "))
	}
	var b strings.Builder
	err := scripts.ExecuteTemplate(&b, kind+".sql", struct {
		Account
		Query string
	}{a, Query(kind)})
	return b.String(), err
}

// Statements is SQL without comments, a line each.
func Statements(kind string, a Account) []string {
	text, err := SQL(kind, a)
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); line != "" && !strings.HasPrefix(line, "--") {
			out = append(out, line)
		}
	}
	return out
}

// Cure says what to do about a server's refusal, by its SQLSTATE, of what the service
// account asked by query. sql, which may be empty, cures it once it has run in a.Database.
func Cure(code string, a Account, query string) (advice string, sql []string) {
	user := identifier(a.User)
	switch code {
	case "28P01":
		return fmt.Sprintf("service.password is not the password of %s", user), []string{"ALTER ROLE " + user + " PASSWORD '…';"}
	case "28000":
		return fmt.Sprintf("the servers do not let %s in: see pg_hba.conf, whether it is there (pgweir setup-sql prints what makes it), and may log in", user), []string{"ALTER ROLE " + user + " LOGIN;"}
	case "3D000":
		return "service.database names a database that is not there", nil
	}
	lookUp := Query(Plain)
	advice = fmt.Sprintf("run what pgweir setup-sql prints in database %s, and set auth.query to %s", a.Database, lookUp)
	switch {
	case strings.Contains(query, "pgweir.secret("):
		advice = fmt.Sprintf("run what pgweir setup-sql prints in database %s", a.Database)
	case code != "42501", strings.Contains(query, "pg_shadow"), strings.Contains(query, "pg_authid"):
	default: // a function or a table of the operator's own
		return fmt.Sprintf("grant %s what auth.query uses, or %s", user, advice), nil
	}
	switch code {
	case "42501", "42703", "42883", "42P01", "3F000":
		return advice, Statements(Plain, a)
	}
	return "auth.query is refused: mend it", nil
}

// identifier quotes a name where it must be.
func identifier(name string) string {
	plain := name != "" && (name[0] < '0' || name[0] > '9') && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
	if plain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
