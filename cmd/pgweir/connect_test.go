package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/pool/cluster"
)

// configFor writes a configuration of the given servers.
func configFor(t *testing.T, servers ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pgweir.yaml")
	text := fmt.Sprintf("servers: [%s]\nservice: {user: %s}\n", strings.Join(servers, ", "), pgtest.Superuser)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantOutput(t *testing.T, out string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in:\n%s", part, out)
		}
	}
}

func TestCheckConnect(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	primary, replica := c.Primary.Addr(), c.Replicas[0].Addr()
	out, code := pgweir("", "check", "--connect", "--config", configFor(t, replica, primary))
	wantOutput(t, out, "cluster default", primary+"  primary", replica+"  replica", c.Primary.Version, "servers: ok")
	if code != 0 {
		t.Errorf("exit %d", code)
	}

	wantOutput(t, out, "  connections: "+primary+": the server lets in 297: room for 14 full pools (pool.size 20). To leave some to others set pool.max_server_connections\n")
	path := configFor(t, replica, primary)
	wantOutput(t, checkWith(t, path, "pool: {size: 200}\n"), "room for 1 full pool (pool.size 200)")
	wantOutput(t, checkWith(t, path, "pool: {max_server_connections: 200}\n"), "pools may open 196 in all, and the server lets in 297")
	wantOutput(t, checkWith(t, path, "pool: {max_server_connections: 298}\n"), "  warning: "+primary+": max_server_connections is 298, but the server lets in 297")
	wantOutput(t, checkWith(t, path, "pool: {size: 300}\n"), "  warning: "+primary+": the pool of one user and database may have 300 connections")

	out, code = pgweir("", "check", "--connect", "--config", configFor(t, replica, "127.0.0.1:1"))
	wantOutput(t, out, "127.0.0.1:1      unreachable", "no server is a primary", "connection refused", "2 faults")
	if code != exitFailure {
		t.Errorf("exit %d", code)
	}

	path = filepath.Join(t.TempDir(), "stranger.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "servers: [%s]\nservice: {user: stranger}\n", primary), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = pgweir("", "check", "--connect", "--config", path)
	wantOutput(t, out, primary+"  refused", `role "stranger" does not exist`, "cure: the servers do not let stranger in", "pgweir setup-sql prints what makes it")

	if err := c.Replicas[0].Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, code = pgweir("", "check", "--connect", "--user", pgtest.Superuser, "--config", configFor(t, primary, replica))
	wantOutput(t, out, primary+" is an old primary on timeline 1; "+replica+" has succeeded it on timeline 2", "1 fault\n")
	if code != exitFailure {
		t.Errorf("exit %d", code)
	}
}

// TestServersAreFound: what is not listed is found by the commands as by the service.
func TestServersAreFound(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"members": [{"host": "127.0.0.1", "port": %d}, {"host": "127.0.0.1", "port": %d}]}`, c.Primary.Port, c.Replicas[0].Port)
	}))
	path := filepath.Join(t.TempDir(), "pgweir.yaml")
	text := fmt.Sprintf("patroni: {urls: [%s]}\nservice: {user: %s}\n", api.URL, pgtest.Superuser)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := pgweir("", "check", "--connect", "--config", path)
	wantOutput(t, out, "members that Patroni knows at "+api.URL, c.Primary.Addr()+"  primary", c.Replicas[0].Addr()+"  replica", "servers: ok")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	out, _ = pgweir("", "explain", "--config", path, "SELECT 1")
	wantOutput(t, out, "database postgres on 127.0.0.1:")
	api.Close()
	out, code = pgweir("", "check", "--connect", "--config", path)
	wantOutput(t, out, "fault: find out which servers there are", "connection refused", "1 fault\n")
	if code != exitFailure {
		t.Errorf("exit %d", code)
	}
	out, _ = pgweir("", "explain", "--config", path, "SELECT 1")
	wantOutput(t, out, "built in", "find out which servers there are")
}

// TestCheckRecommendsDeclaring: what policies read and nobody declared is named, with the
// lines that declare it; with these it is not named any more.
func TestCheckRecommendsDeclaring(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	for database, sql := range map[string]string{
		"postgres": `CREATE FUNCTION actor() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN current_setting('app.actor', true); END$$;
CREATE TABLE rows (org text, author text); CREATE POLICY p ON rows USING (org = current_setting('App.Org', true) AND author = actor())`,
		"template1": `CREATE TABLE unseen (org text); CREATE POLICY p ON unseen USING (org = current_setting('app.unseen'))`,
	} {
		if err := c.Primary.Exec(t.Context(), database, sql); err != nil {
			t.Fatal(err)
		}
	}
	path := configFor(t, c.Primary.Addr())
	out, code := pgweir("", "check", "--connect", "--config", path)
	wantOutput(t, out, "database postgres: policies read settings that are not declared: app.actor, app.org\n",
		"    settings:\n      assert: [app.actor, app.org]\n", "servers: ok")
	if code != 0 || strings.Contains(out, "unseen") {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, lines := range []string{
		"settings:\n  assert: [app.actor, app.org]\n",
		"settings: {assert: [app.actor]}\ntenant: {settings: [app.org]}\n",
	} {
		if out := checkWith(t, path, lines); strings.Contains(out, "declared") {
			t.Errorf("with %s\n%s", lines, out)
		}
	}
	wantOutput(t, checkWith(t, path, "databases: {app: {name: postgres}}\nsettings: {assert: [app.x]}\n"), "assert: [app.x, app.actor, app.org]")
	if out := checkWith(t, path, "databases: {app: {}}\n"); strings.Contains(out, "declared") {
		t.Errorf("no client can ask for the database:\n%s", out)
	}
}

// checkWith runs check on a configuration with more lines.
func checkWith(t *testing.T, path, lines string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	longer := filepath.Join(t.TempDir(), "longer.yaml")
	if err := os.WriteFile(longer, append(text, lines...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := pgweir("", "check", "--connect", "--config", longer)
	if code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	return out
}

func TestExplainReadsTheCatalog(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	if err := c.Exec(t.Context(), "CREATE UNLOGGED TABLE scratch (a int); CREATE TABLE orders (a int)"); err != nil {
		t.Fatal(err)
	}
	path := configFor(t, "127.0.0.1:1", c.Primary.Addr())
	out, code := pgweir("", "explain", "--config", path, "SELECT * FROM orders")
	wantOutput(t, out, "replica", "orders", "database postgres on "+c.Primary.Addr())
	if code != 0 || strings.Contains(out, "orders (") {
		t.Errorf("exit %d\n%s", code, out)
	}
	out, _ = pgweir("", "explain", "--config", path, "SELECT * FROM scratch")
	wantOutput(t, out, "target     primary", "reason     relation", "scratch (unlogged")
	out, code = pgweir("", "explain", "--config", path, "--database", "nope", "SELECT 1")
	if wantOutput(t, out, `database "nope" does not exist (SQLSTATE 3D000)`); code != exitFailure || strings.Contains(out, "target") {
		t.Errorf("exit %d\n%s", code, out)
	}
	out, _ = pgweir("", "explain", "--config", configFor(t, "127.0.0.1:1"), "SELECT * FROM orders")
	wantOutput(t, out, "orders (unknown to the catalog)", "built in", "connection refused")
}

func TestJudge(t *testing.T) {
	cl := config.Cluster{Sources: config.Sources{Servers: []config.Server{{Address: "a"}, {Address: "b"}}}}
	healthy := func(replica bool) serverState {
		return serverState{Probe: cluster.Probe{InRecovery: replica, Version: 170002, Timeline: 3, SystemID: "1"}, version: "17.2"}
	}
	for name, tc := range map[string]struct {
		change func(primary, replica *serverState)
		want   string
	}{
		"healthy": {func(p, r *serverState) {}, ""},
		"old":     {func(p, r *serverState) { r.version, r.Version = "14.1", 140001 }, "b: it runs PostgreSQL 14; supported are 15 to 18"},
		"new":     {func(p, r *serverState) { p.version, p.Version = "19beta1", 190000 }, "a: it runs PostgreSQL 19; supported are 15 to 18"},
		"foreign": {func(p, r *serverState) { r.SystemID = "2" }, "b has system identifier 2, a has 1: they are not one cluster: take the wrong one out of servers"},
		"foreign primary": {func(p, r *serverState) { p.Timeline, r.InRecovery, r.SystemID = 1, false, "2" },
			"b has system identifier 2, a has 1: they are not one cluster: take the wrong one out of servers"},
		"left behind": {func(p, r *serverState) { r.Timeline = 2 }, "b is on timeline 2, a on 3: it does not follow"},
		"silent":      {func(p, r *serverState) { r.Unproved = errors.New("no") }, "b: it does not tell how far it is, so that reads above eventual run elsewhere: no"},
		"unreachable": {func(p, r *serverState) { *r = serverState{err: errors.New("no\nway")} }, "b: no; way"},
		"no primary":  {func(p, r *serverState) { p.InRecovery = true }, "no server is a primary; writes would wait for one"},
		"two":         {func(p, r *serverState) { r.InRecovery = false }, "a and b are both primaries on timeline 3; pgweir uses none until one is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			states := []serverState{healthy(false), healthy(true)}
			tc.change(&states[0], &states[1])
			if got := strings.Join(judge(cl, states), "|"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestFormatLag(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 10239: "10239 B", 64 << 10: "64 KiB", 32 << 20: "32 MiB"} {
		if got := formatLag(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
