package auth

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/pool/backend"
)

// realUsers all have passwords only PostgreSQL knows.
const realUsers = `
create role app login password 'correct horse';
create role accent login password U&'p\00E4ss\00A0\2167w\00ADort';
set password_encryption = 'md5';
create role old login password 'correct horse';
create role nopassword login`

// TestPassThrough logs clients in by what the primary stores, and then in to the
// server as them, with what the client proved and nothing else.
func TestPassThrough(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{TLS: true, HBA: []string{
		"host all app,accent 127.0.0.1/32 scram-sha-256",
		"host all old 127.0.0.1/32 md5",
	}})
	if err := c.Exec(testContext(t), realUsers); err != nil {
		t.Fatal(err)
	}
	lookup := func(ctx context.Context, _, user string) (Found, error) {
		secret, err := c.Primary.Value(ctx, "postgres", "select passwd from pg_shadow where usename = $1", user)
		return Found{Secret: secret}, err
	}
	conf, _ := testTLS(t, "allow")
	for _, l := range []struct {
		method, user, password string
		want, secret           string
	}{
		{"scram-sha-256", "app", "correct horse", "ok", "keys"},
		{"scram-sha-256", "accent", "p\u00e4ss VIIIwort", "ok", "keys"},
		{"scram-sha-256", "app", "wrong", "28P01", ""},
		{"scram-sha-256", "nopassword", "x", "28P01", ""},
		{"scram-sha-256", "nobody", "x", "28P01", ""},
		{"md5", "app", "correct horse", "ok", "keys"},
		{"md5", "old", "correct horse", "ok", "md5"},
		{"md5", "old", "wrong", "28P01", ""},
		{"password", "app", "correct horse", "ok", "password keys"},
		{"password", "old", "correct horse", "ok", "password"},
	} {
		cfg := config.Auth{Method: l.method, AllowPlainPassword: true, Query: "select …"}
		f := newFront(t, mustNew(t, cfg, nil, conf, lookup), conf)
		for _, mode := range []string{"disable", "require"} {
			for _, client := range []struct {
				name    string
				connect func() error
			}{
				{"pgx", func() error { return f.pgx(t, l.user, l.password, mode) }},
				{"psql", func() error { return f.psql(t, l.user, l.password, mode) }},
			} {
				t.Run(fmt.Sprintf("%s %s %q %s %s", l.method, l.user, l.password, mode, client.name), func(t *testing.T) {
					err := client.connect()
					if got := code(err); got != l.want {
						t.Fatalf("got %s, want %s", got, l.want)
					}
					if err != nil {
						return
					}
					id := f.last(t)
					if got := kinds(id.Secret); got != l.secret {
						t.Errorf("the secret holds %q, want %q", got, l.secret)
					}
					enter(t, c, id)
				})
			}
		}
	}
}

// enter logs in to the server, both plain and with TLS (and channel binding).
func enter(t *testing.T, c *pgtest.Cluster, id Identity) {
	t.Helper()
	addr, err := backend.ParseAddress(c.Primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	secured, err := backend.LoadTLS(config.ServerTLS{Mode: "verify-full", CAFile: c.CA()})
	if err != nil {
		t.Fatal(err)
	}
	cred := backend.Credentials{User: id.User, Password: id.Secret.Password, Keys: id.Secret.Keys, MD5: id.Secret.MD5}
	for _, conf := range []*backend.TLS{nil, secured} {
		l, err := backend.Open(testContext(t), backend.Options{Address: addr, TLS: conf}, cred, "postgres", nil)
		if err != nil {
			t.Errorf("log in to the server: %v", err)
			continue
		}
		if l.PID == 0 || l.Parameters["session_authorization"] != id.User {
			t.Errorf("process %d, session of %q", l.PID, l.Parameters["session_authorization"])
		}
		_ = l.Conn.Close()
	}
}

func (f *front) pgx(t testing.TB, user, password, mode string) error {
	t.Helper()
	host, port, _ := strings.Cut(f.addr, ":")
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s dbname=d sslmode=%s", host, mode))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Port, cfg.User, cfg.Password = uint16(n), user, password
	conn, err := pgx.ConnectConfig(testContext(t), cfg)
	if err == nil {
		_ = conn.Close(testContext(t))
	}
	return err
}

// psql connects with libpq. As the front answers no query, an empty command is all
// it is given.
func (f *front) psql(t testing.TB, user, password, mode string) error {
	t.Helper()
	host, port, _ := strings.Cut(f.addr, ":")
	cmd := exec.CommandContext(testContext(t), "psql", "-X", "-w", "-c", `\echo in`)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/nonexistent", "PGCLIENTENCODING=UTF8",
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + user, "PGPASSWORD=" + password, "PGDATABASE=d", "PGSSLMODE=" + mode,
	}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), fmt.Sprintf("FATAL:  password authentication failed for user %q", user)) {
		return errPsqlPassword
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestPasswordThatIsNotUTF8 takes libpq's word for what its bytes become.
func TestPasswordThatIsNotUTF8(t *testing.T) {
	const password = "\xff\xfe not UTF-8"
	for _, method := range []string{"scram-sha-256", "md5", "password"} {
		v := mustNew(t, config.Auth{Method: method, AllowPlainPassword: true}, map[string]config.User{"u": {Password: password}}, nil, nil)
		f := newFront(t, v, nil)
		if err := f.psql(t, "u", password, "disable"); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		if err := f.psql(t, "u", password+"x", "disable"); code(err) != "28P01" {
			t.Errorf("%s, wrong: %v", method, err)
		}
	}
}

// TestManyAtOnce shares one Verifier, as all clients do.
func TestManyAtOnce(t *testing.T) {
	v := mustNew(t, config.Auth{FailureDelay: time.Microsecond}, testUsers(t), nil, nil)
	f := newFront(t, v, nil)
	var all sync.WaitGroup
	for i := range 40 {
		user, pw, want := "plain", "secret", "ok"
		switch i % 4 {
		case 1:
			user = "scram"
		case 2:
			pw, want = "wrong", "28P01"
		case 3:
			user, want = fmt.Sprint("unknown", i%8), "28P01"
		}
		all.Go(func() {
			if err := f.connect(t, user, pw, "sslmode=disable"); code(err) != want {
				t.Errorf("%s/%s: %v", user, pw, err)
			}
		})
	}
	all.Wait()
}
