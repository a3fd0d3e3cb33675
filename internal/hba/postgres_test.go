package hba

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Suite(m).Run()) }

// files are pg_hba.conf files; who may come by which line is compared with what a server does.
var files = []string{
	"local all all trust\nhost all all 127.0.0.1/32 trust",
	"local all all reject\nhost all all 127.0.0.0/8 reject\nhost all all all trust",
	"host all alice 127.0.0.1/32 trust\nhost all bob 127.0.0.2/32 trust",
	"host one,two alice 127.0.0.1 255.255.255.255 trust\nhost all \"all\" all trust",
	"host \"all\" all all trust\nlocal \"sameuser\" all trust",
	"host sameuser all samehost trust\nhost samerole all all reject\nlocal samegroup all trust",
	"host all +staff samenet trust\nlocal all +staff trust\nhost all +alice all reject",
	"host all +nobody,\"+staff\",bob all trust\nhost all all all reject",
	"host /^o.e$ /^a 0.0.0.0/0 trust\nlocal /tw \"/o,b|bob\" trust",
	"hostssl all all all trust\nhostnossl all alice all trust\nhostgssenc all all all reject\nhostnogssenc all bob all reject",
	"host replication all all trust\nhost all alice all reject",
	"host all all 127.0.0.1/32 password\nhost all all 127.0.0.2/32 trust\nhost all all ::1/128 trust",
	"# a comment\n\nhost all \\\n  alice all trust # another\n  local\tall, one\tbob   trust",
	"host all @names all trust\nlocal @names @names trust",
	"include more\nhost all bob all reject\ninclude_if_exists none",
	"host all \"al\"\"ice\",\"\" all trust\nhost one bo\"b\" all trust",
}

// beside are the files that those include.
var besides = map[string]string{
	"names": "alice, one\n\"two\" # a comment\n",
	"more":  "host all alice 127.0.0.1/32 trust\nlocal all bob reject\n",
}

// visitor is somebody who comes to the server.
type visitor struct {
	user, database, from string // from is an address, or local
	replication          bool
}

func visitors() (all []visitor) {
	for _, user := range []string{"alice", "bob", "carol"} {
		for _, database := range []string{"one", "alice", "staff"} {
			for _, from := range []string{"127.0.0.1", "127.0.0.2", "local"} {
				all = append(all, visitor{user, database, from, false})
			}
		}
		all = append(all, visitor{user, "", "127.0.0.1", true})
	}
	return all
}

// TestAgainstPostgres lets a server judge who may come by which file.
func TestAgainstPostgres(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Version: newest(t)})
	server := c.Primary
	for _, sql := range []string{
		"create role staff; create role team in role staff; create role alice login in role team replication; create role bob login; create role carol login superuser",
		"create database one", "create database alice", "create database staff",
	} {
		if err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range besides {
		if err := os.WriteFile(filepath.Join(server.DataDir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PostgreSQL %s", server.Version)
	members := map[string][]string{"alice": {"alice", "team", "staff"}, "bob": {"bob"}, "carol": {"carol"}}
	path := filepath.Join(server.DataDir, "pg_hba.conf")
	for _, file := range files {
		if major(t, server) < 16 && newer(file) {
			continue
		}
		install(t, server, path, file)
		for _, v := range visitors() {
			want := visit(t, server, v)
			rules, faults := Parse(path, os.ReadFile)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			if got := judge(t, rules, v, members[v.user]); got != want {
				t.Errorf("%s\n%+v: %s, PostgreSQL: %s", file, v, got, want)
			}
		}
	}
}

// install gives the server a file, behind the line by which this package comes itself.
func install(t *testing.T, server *pgtest.Server, path, file string) {
	t.Helper()
	text := "local all postgres trust\n" + file + "\n"
	before, err := server.Value(t.Context(), "postgres", "select pg_conf_load_time()::text")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if now, err := server.Value(t.Context(), "postgres", "select pg_conf_load_time()::text"); err == nil && now != before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the file is not loaded")
		}
	}
	wrong, err := server.Value(t.Context(), "postgres", "select coalesce(string_agg(error, '; '), '') from pg_hba_file_rules where error not like '%cannot match%'")
	if err != nil || wrong != "" {
		t.Fatalf("the server says of %s: %s %v", file, wrong, err)
	}
}

// newest is the newest version there is: it knows the whole syntax.
func newest(t *testing.T) string {
	pgtest.SkipShort(t)
	versions := pgtest.Versions(t.Context())
	if len(versions) == 0 {
		return ""
	}
	return slices.Max(versions)
}

// newer reports whether PostgreSQL 15 does not know the syntax of a file.
func newer(file string) bool {
	return strings.Contains(file, "include") || strings.Contains(file, "/^") || strings.Contains(file, " /")
}

func major(t *testing.T, server *pgtest.Server) (n int) {
	t.Helper()
	_, _ = fmt.Sscanf(server.Version, "%d", &n)
	return n
}

// visit is what the server does.
func visit(t *testing.T, server *pgtest.Server, v visitor) string {
	t.Helper()
	dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable", server.Port, v.user, v.database)
	if v.from == "local" {
		dsn = fmt.Sprintf("host=%s port=%d user=%s dbname=%s", server.SocketDir, server.Port, v.user, v.database)
	}
	if v.replication {
		dsn += " dbname=replication replication=true"
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if v.from != "local" {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(v.from)}}
		cfg.DialFunc = dialer.DialContext
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err == nil {
		_ = conn.Close(ctx)
		return Trust
	}
	var refused *pgconn.PgError
	switch {
	case !errors.As(err, &refused):
		return err.Error()
	case strings.Contains(refused.Message, "rejects"):
		return refused.Message
	case strings.Contains(refused.Message, "no pg_hba.conf entry"):
		return refused.Message
	case refused.Code == "28P01": // asked for a password, which there is none of
		return Password
	case refused.Code == "42501", strings.Contains(refused.Message, "must be superuser"): // let in, and may not replicate
		return Trust
	}
	return refused.Code + " " + refused.Message
}

// judge is what this package says.
func judge(t *testing.T, rules Rules, v visitor, of []string) string {
	t.Helper()
	c := Connection{
		User: v.user, Database: v.database, Physical: v.replication, Local: v.from == "local",
		MemberOf: func(role string) (bool, error) {
			return strings.Contains(" "+strings.Join(of, " ")+" ", " "+role+" "), nil
		},
	}
	if !c.Local {
		c.Address = netip.MustParseAddr(v.from)
	}
	r, err := rules.Match(c)
	switch {
	case err != nil:
		return err.Error()
	case r == nil:
		return c.NoMatch()
	case r.Method == Reject:
		return c.Rejected()
	}
	return r.Method
}

// lines are each a file; whether they are right is the server's to say, but for what is not served.
var lines = []struct{ line, served string }{
	{"local all all trust", ""},
	{"host all all 10.0.0.0/8 md5", ""},
	{"host all all 10.0.0.1 255.255.255.0 md5", ""},
	{"host all all 10.0.0.0/33 md5", ""},
	{"host all all 10.0.0.1 md5", ""},
	{"host all all 10.0.0.1", ""},
	{"host all all ::1/128 scram-sha-256", ""},
	{"host all all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff scram-sha-256", ""},
	{"host all all ::1 255.0.0.0 scram-sha-256", ""},
	{"hosts all all all trust", ""},
	{"local all all", ""},
	{"local all", ""},
	{"local", ""},
	{"local all all nonsense", ""},
	{"local all all trust,reject", ""},
	{"host all all all peer", ""},
	{"local all all peer map=m", ""},
	{"local all all ident", ""},
	{"local all all trust map=m", ""},
	{"local all all trust nonsense", ""},
	{"local all all trust a=b", ""},
	{"hostssl all all all cert map=m clientname=DN", ""},
	{"hostssl all all all cert clientcert=verify-ca", ""},
	{"host all all all cert", ""},
	{"hostssl all all all scram-sha-256 clientcert=verify-full", ""},
	{"hostssl all all all scram-sha-256 clientcert=1", "is nothing for method"}, // the view says nothing of it
	{"host all all all scram-sha-256 clientcert=verify-ca", ""},
	{"host all all all,samehost trust", ""},
	{"local all /( trust", ""},
	{"host all all example.com trust", "host name"},
	{"host all all .example.com trust", "host name"},
	{"host all all all ident", "is not served"},
	{"host all all all radius radiusservers=a radiussecrets=b", "is not served"},
}

// TestLinesAgainstPostgres: a line is right or wrong as a server finds it.
func TestLinesAgainstPostgres(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{TLS: true, Version: newest(t)})
	path := filepath.Join(c.Primary.DataDir, "pg_hba.conf")
	for _, l := range lines {
		if newer(l.line) && major(t, c.Primary) < 16 {
			continue
		}
		if err := os.WriteFile(path, []byte(l.line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		// The running server keeps its file; the view reads the new one.
		said, err := c.Primary.Value(t.Context(), "postgres", "select coalesce(string_agg(error, '; '), '') from pg_hba_file_rules")
		if err != nil {
			t.Fatal(err)
		}
		_, faults := Parse(path, os.ReadFile)
		switch got := fmt.Sprint(faults); {
		case l.served != "":
			if !strings.Contains(got, l.served) || !strings.Contains(got, "line 1") || said != "" {
				t.Errorf("%s: %s; PostgreSQL: %q", l.line, got, said)
			}
		case (len(faults) > 0) != (said != ""):
			t.Errorf("%s: %s; PostgreSQL: %q", l.line, got, said)
		}
	}
}
