package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/serve"
	"github.com/pgweir/pgweir/internal/setup"
)

// passwords are the lines of servers that let nobody in over TCP without a password.
var passwords = []string{"host all all 127.0.0.1/32 scram-sha-256"}

// ordinary is a cluster with a service account that is nothing but a role, and one user.
func ordinary(t *testing.T) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Replicas: 1, TLS: true, HBA: append([]string{"host replication all 127.0.0.1/32 trust"}, passwords...)})
	if err := c.Exec(t.Context(), "CREATE ROLE pgweir LOGIN PASSWORD 'its own'; CREATE ROLE app LOGIN PASSWORD 'correct horse'"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// ordinaryConfig writes a configuration for it, with more lines.
func ordinaryConfig(t *testing.T, c *pgtest.Cluster, lines string) string {
	t.Helper()
	var servers []string
	for _, s := range c.Servers() {
		servers = append(servers, s.Addr())
	}
	path := filepath.Join(t.TempDir(), "pgweir.yaml")
	text := fmt.Sprintf("listen: %s\nhttp: %s\nservers: [%s]\nservice: {user: pgweir, password: its own}\n%s",
		pgtest.FreeAddress(t), pgtest.FreeAddress(t), strings.Join(servers, ", "), lines)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// proxyOf runs the service of a configuration for the length of a test.
func proxyOf(t *testing.T, path string) (config.Config, *observer.ObservedLogs) {
	t.Helper()
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	running, err := serve.Start(t.Context(), cfg, zap.New(core), serve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = running.Stop(ctx)
	})
	return cfg, logs
}

// through is what a client of the proxy gets: an error, or the user of its session.
func through(t *testing.T, cfg config.Config, user, password, database string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	host, port, _ := net.SplitHostPort(cfg.Listen[0])
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%s user=%s password='%s' dbname=%s sslmode=disable", host, port, user, password, database))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	var as string
	err = conn.QueryRow(ctx, "SELECT session_user").Scan(&as)
	return as, err
}

// TestSetupSQL: what setup-sql prints is run by who administers the servers there, twice, and
// then the service account, nothing but a role before, does all that pgweir needs.
func TestSetupSQL(t *testing.T) {
	for kind, as := range map[string]string{
		setup.Plain: pgtest.Superuser,
		// A cloud's administrator: no superuser, and no reader of pg_shadow.
		setup.RDS: "admin", setup.CloudSQL: "admin",
	} {
		t.Run(kind, func(t *testing.T) {
			c := ordinary(t)
			if err := c.Exec(t.Context(), "CREATE DATABASE shop"); err != nil {
				t.Fatal(err)
			}
			if err := c.Exec(t.Context(), `CREATE ROLE admin LOGIN CREATEROLE PASSWORD 'x'; GRANT pg_monitor TO admin WITH ADMIN OPTION;
GRANT CREATE ON DATABASE postgres TO admin; DROP ROLE pgweir; REVOKE CONNECT ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO app; GRANT CONNECT ON DATABASE shop TO admin WITH GRANT OPTION`); err != nil {
				t.Fatal(err)
			}
			first := ordinaryConfig(t, c, "databases: {store: {name: shop}, postgres: {}}\n")
			sql, code := pgweir("", "setup-sql", "--config", first, "--for", kind)
			if code != 0 {
				t.Fatal(sql)
			}
			for range 2 {
				runAs(t, c, as, "x", sql)
			}
			runAs(t, c, as, "x", "ALTER ROLE pgweir PASSWORD 'its own'")
			switch kind {
			case setup.RDS: // what psql's \password would make
				secret, err := c.Primary.Value(t.Context(), "postgres", "SELECT passwd FROM pg_shadow WHERE usename = 'app'")
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Exec(t.Context(), "GRANT app TO admin WITH ADMIN OPTION; ALTER ROLE app PASSWORD NULL"); err != nil {
					t.Fatal(err)
				}
				runAs(t, c, as, "x", "SELECT pgweir.set_secret('app', '"+secret+"')")
			case setup.CloudSQL: // what the flag does
				if err := c.Exec(t.Context(), "GRANT SELECT ON pg_shadow TO pgweir"); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.WaitReplay(t.Context()); err != nil {
				t.Fatal(err)
			}
			works(t, c, kind)
		})
	}
}

// works logs in by what setup-sql made.
func works(t *testing.T, c *pgtest.Cluster, kind string) {
	t.Helper()
	lines := "databases: {store: {name: shop}, postgres: {}}\n"
	if q := setup.Query(kind); q != "" {
		lines += fmt.Sprintf("auth: {query: %q}\n", q)
	}
	path := ordinaryConfig(t, c, lines)
	out, code := pgweir("", "check", "--connect", "--config", path)
	if wantOutput(t, out, "servers: ok", "primary", "replica"); code != 0 || strings.Contains(out, "could not") {
		t.Errorf("exit %d\n%s", code, out)
	}
	cfg, logs := proxyOf(t, path)
	for database, want := range map[string]string{"store": "app", "postgres": "app"} {
		if as, err := through(t, cfg, "app", "correct horse", database); err != nil || as != want {
			t.Errorf("%s: %q, %v", database, as, err)
		}
	}
	for _, user := range []string{"app", "nobody"} {
		if _, err := through(t, cfg, user, "wrong", "store"); err == nil || !strings.Contains(err.Error(), "28P01") {
			t.Errorf("%s with a wrong password: %v", user, err)
		}
	}
	if err := c.Exec(t.Context(), "ALTER ROLE app VALID UNTIL '2000-01-01'"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an expired password is none", func() bool {
		_, err := through(t, cfg, "app", "correct horse", "store")
		return err != nil && strings.Contains(err.Error(), "28P01")
	})
	for _, e := range logs.All() {
		if e.Message != "login refused" {
			t.Errorf("logged: %s %v", e.Message, e.ContextMap())
		}
	}
	if kind == setup.CloudSQL {
		return
	}
	for _, sql := range []string{"SELECT pgweir.secret('app')", "CREATE FUNCTION pgweir.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"} {
		if err := c.Exec(t.Context(), "CREATE ROLE other; SET ROLE other; "+sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("anybody may %s: %v", sql, err)
		}
	}
}

// runAs runs a script as a role that logs in.
func runAs(t *testing.T, c *pgtest.Cluster, user, password, sql string) {
	t.Helper()
	dsn := fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", c.Primary.SocketDir, c.Primary.Port, user)
	if user != pgtest.Superuser {
		dsn = fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=postgres sslmode=disable", c.Primary.Port, user, password)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%v in\n%s", err, sql)
	}
}

// TestSetupSQLQuotes: names that need quotes get them.
func TestSetupSQLQuotes(t *testing.T) {
	sql, err := setup.SQL(setup.Plain, setup.Account{User: `O'Neil "x"`, Database: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	wantOutput(t, sql, `rolname = 'O''Neil "x"'`, `CREATE ROLE "O'Neil ""x""" LOGIN;`)
	if _, err := setup.SQL("azure", setup.Account{}); err == nil {
		t.Error("there is SQL for azure")
	}
	out, code := pgweir("", "setup-sql", "--for", "azure", "--config", "testdata/smallest.yaml")
	if wantOutput(t, out, "there is for plain, rds, cloudsql"); code != exitFailure {
		t.Errorf("exit %d", code)
	}
}
