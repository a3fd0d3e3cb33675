package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/internal/setup"
)

// TestCheckAs: a whole login is made, each step is said, and where it fails what the client is
// told and why.
func TestCheckAs(t *testing.T) {
	c := ordinary(t)
	sql, err := setup.SQL(setup.Plain, setup.Account{User: "pgweir", Database: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(t.Context(), sql+"; CREATE ROLE locked PASSWORD 'x'; CREATE ROLE reader LOGIN PASSWORD 'reads'"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rules := write("hba", "local all all peer map=own\nhost all +pg_monitor all reject\nhostssl all all 10.0.0.0/8 scram-sha-256\n")
	maps := write("ident", fmt.Sprintf("own %s guest\n", me.Username))
	users := write("users", "\"guest\" \"file's\"\n\"locked\" \"x\"\n\"bad\" \"SCRAM-SHA-256$1\"\n")
	cert, key, err := c.ServerCert("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	const query = "query: 'SELECT * FROM pgweir.secret($1)'"
	plain := ordinaryConfig(t, c, fmt.Sprintf("auth: {%s, user_file: %s}\nusers: {guest: {server_user: reader, server_password: reads}}\n", query, users))
	byLine := ordinaryConfig(t, c, fmt.Sprintf("auth: {%s, hba_file: %s, ident_file: %s}\ntls: {cert_file: %s, key_file: %s}\nusers: {guest: {server_user: reader, server_password: reads}}\n", query, rules, maps, cert, key))
	for _, tc := range []struct {
		config, password string
		args             []string
		want             []string
	}{
		{plain, "correct horse", []string{"--as", "app", "--database", "postgres"}, []string{
			"login of app to database postgres from 127.0.0.1", "database  postgres of cluster default", "method    scram-sha-256, by auth.method",
			"secret    SCRAM, by auth.query; PGPASSWORD fits", "login     ok", "primary   " + c.Primary.Addr() + " as app", "replica   " + c.Replicas[0].Addr() + " as app", "login: ok",
		}},
		{plain, "wrong", []string{"--as", "app", "--database", "postgres"}, []string{
			"PGPASSWORD does not fit", `login     fault: password authentication failed for user "app" (SQLSTATE 28P01): wrong password`,
		}},
		{plain, "x", []string{"--as", "nobody"}, []string{"database  nobody", "secret    none: no such user, or no password for it", "28P01"}},
		{plain, "correct horse", []string{"--as", "app"}, []string{"PGPASSWORD fits", `login     fault: database "app" does not exist (SQLSTATE 3D000)`}},
		{plain, "file's", []string{"--as", "guest", "--database", "postgres"}, []string{"secret    plain, by auth.user_file; PGPASSWORD fits", "as reader", "login: ok"}},
		{plain, "x", []string{"--as", "locked", "--database", "postgres"}, []string{`role "locked" is not permitted to log in (SQLSTATE 28000)`}},
		{plain, "x", []string{"--as", "bad", "--database", "postgres"}, []string{"secret    none: " + users + " line 3", "28P01"}},
		{byLine, "correct horse", []string{"--as", "app", "--database", "postgres", "--from", "10.9.8.7"}, []string{
			"scram-sha-256, by " + rules + " line 3: hostssl all all 10.0.0.0/8 scram-sha-256", "PGPASSWORD fits", "login: ok",
		}},
		{byLine, "its own", []string{"--as", "pgweir", "--database", "postgres", "--from", "10.9.8.7"}, []string{
			`method    fault: pg_hba.conf rejects connection for host "10.9.8.7"`, rules + " line 2",
		}},
		{byLine, "correct horse", []string{"--as", "app", "--database", "postgres", "--from", "192.0.2.1"}, []string{"no pg_hba.conf entry for host \"192.0.2.1\""}},
		{byLine, "", []string{"--as", "guest", "--database", "postgres", "--from", "local"}, []string{"peer, by " + rules + " line 1", "as reader", "login: ok"}},
		{byLine, "", []string{"--as", "app", "--database", "postgres", "--from", "local"}, []string{"Peer authentication failed", "by map own"}},
		{byLine, "", []string{"--as", "app", "--from", "example.com"}, []string{"neither an address nor local"}},
	} {
		t.Setenv("PGPASSWORD", tc.password)
		out, code := pgweir("", append([]string{"check", "--connect", "--config", tc.config}, tc.args...)...)
		wantOutput(t, out, tc.want...)
		if right := strings.Contains(strings.Join(tc.want, " "), "login: ok"); (code == 0) != right {
			t.Errorf("%v: exit %d", tc.args, code)
		}
	}
	byUsers := write("own.yaml", fmt.Sprintf("servers: [%s]\nauth: {user_file: %s}\n", c.Primary.Addr(), write("app", `"app" "correct horse"`)))
	t.Setenv("PGPASSWORD", "correct horse")
	out, code := pgweir("", "check", "--connect", "--config", byUsers, "--as", "app", "--database", "postgres")
	if wantOutput(t, out, "  warning: no account to log in with", "login: ok"); code != 0 || strings.Contains(out, "servers: ok") {
		t.Errorf("who logs in where pgweir itself has no account: exit %d\n%s", code, out)
	}
	out, code = pgweir("", "check", "--connect", "--config", byUsers)
	if wantOutput(t, out, "cluster default\n  fault: no account to log in with", "1 fault\n"); code != exitFailure {
		t.Errorf("exit %d", code)
	}
	out, code = pgweir("", "check", "--config", plain, "--as", "app")
	if wantOutput(t, out, "--as needs --connect"); code != exitFailure {
		t.Errorf("exit %d", code)
	}
}
