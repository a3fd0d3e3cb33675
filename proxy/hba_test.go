package proxy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
)

// The first line that matches says how a client proves who it is, by its address, user, groups
// and database; nothing else is tried.
func TestHBA(t *testing.T) {
	database := newDatabase(t, "")
	name := func(s string) string { return s + "_" + database }
	run(t, "postgres", fmt.Sprintf(`create role %[1]s; create role %[2]s in role %[1]s;
create role %[3]s login password 'open sesame' in role %[2]s; create role %[4]s login password 'open sesame'; create role %[5]s login`,
		name("staff"), name("team"), name("alice"), name("bob"), name("carol")))
	t.Cleanup(func() {
		run(t, "postgres", fmt.Sprintf("drop role %s, %s, %s, %s, %s", name("alice"), name("bob"), name("carol"), name("team"), name("staff")))
	})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(file, text string) string {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hba := write("hba", fmt.Sprintf(`
local  all       all        peer map=own
host   %[1]s     +staff_%[1]s  127.0.0.1/32  scram-sha-256
host   all       +staff_%[1]s  all           reject
host   sameuser  all        all           trust
host   all       bob_%[1]s  127.0.0.2/32  trust
host   all       bob_%[1]s  127.0.0.3/32  password
`, database))
	ident := write("ident", fmt.Sprintf("own %[1]s carol_%[2]s\nown other bob_%[2]s\n", me.Username, database))
	s := start(t, func(c *config.Config) {
		c.Auth.Method, c.Auth.FailureDelay = "scram-sha-256", 0
		c.Auth.HBAFile, c.Auth.IdentFile = hba, ident
		c.Listen = append(c.Listen, dir+":6432")
		c.Databases = map[string]config.Database{database: {}, "other": {Name: database}}
	})
	connect := func(from, user, password, database string) string {
		host, port, _ := net.SplitHostPort(s.addr)
		if from == "local" {
			host, port = dir, "6432"
		}
		cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s password='%s' dbname=%s sslmode=disable", host, port, user, password, database))
		if err != nil {
			t.Fatal(err)
		}
		if from != "local" {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			cfg.DialFunc = dialer.DialContext
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			return wantCode(err) + " " + err.Error()
		}
		defer func() { _ = conn.Close(ctx) }()
		var as string
		if err := conn.QueryRow(ctx, "select session_user").Scan(&as); err != nil {
			return err.Error()
		}
		return "in as " + strings.TrimSuffix(as, "_"+database)
	}
	for _, c := range []struct{ from, user, password, database, want string }{
		{"127.0.0.1", "alice", "open sesame", database, "in as alice"}, // a member of a member
		{"127.0.0.1", "alice", "wrong", database, "28P01"},
		{"127.0.0.1", "alice", "open sesame", "other", "pg_hba.conf rejects connection for host \"127.0.0.1\""},
		{"127.0.0.2", "alice", "open sesame", database, "pg_hba.conf rejects connection"},
		{"127.0.0.2", "bob", "", database, "in as bob"},
		{"127.0.0.1", "bob", "open sesame", database, "no pg_hba.conf entry for host \"127.0.0.1\""},
		{"127.0.0.3", "bob", "open sesame", database, "requires a TLS connection"}, // a password in clear
		{"127.0.0.1", "nobody", "open sesame", database, "no pg_hba.conf entry"},
		{"local", "carol", "", database, "in as carol"},
		{"local", "bob", "open sesame", database, "Peer authentication failed"}, // no other method is tried
	} {
		user := strings.ReplaceAll(name(c.user), name("nobody"), "nobody")
		if got := connect(c.from, user, c.password, c.database); !strings.Contains(got, c.want) {
			t.Errorf("%s from %s to %s: %s, want %s", user, c.from, c.database, got, c.want)
		}
	}
	// Who leaves a group is let in as what is left, at latest after a second.
	run(t, "postgres", fmt.Sprintf("revoke %s from %s", name("team"), name("alice")))
	time.Sleep(1100 * time.Millisecond)
	if got := connect("127.0.0.1", name("alice"), "open sesame", database); !strings.Contains(got, "no pg_hba.conf entry") {
		t.Error(got)
	}
	rejected := false
	for _, e := range s.logs.All() {
		rejected = rejected || strings.Contains(fmt.Sprint(e.ContextMap()["because"]), "hba line 4: host all +staff")
	}
	if !rejected {
		t.Error("no line of the log names the line that rejects")
	}
}
