package proxy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

// TestLearnedWrite: a function the catalog knows as STABLE is replaced, past the
// proxy, by one that writes. Called through SELECT it is refused by a replica, runs
// once on the primary, counts as a commit, and goes straight to the primary then.
func TestLearnedWrite(t *testing.T) {
	l := newLagging(t, registers+`create function f(x int) returns int stable language sql as 'select x';`, nil,
		func(c *config.Config) { c.Routing.CatalogInterval = 0 })
	s := l.proxy(t)
	c, other := s.watch(t), s.watch(t)
	l.settle(t, c, "select f(1)")
	l.settle(t, other, "select v from r where id = 1")
	if err := l.Primary.Exec(t.Context(), "postgres",
		"create or replace function f(x int) returns int volatile language sql as 'update r set v = v + x where id = 1 returning v'"); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.pause(t)
	retries := func() float64 { return s.metric(t, "pgweir_retries_total", "reason=read_only") }
	for i, why := range []string{"retried", "learned", "learned"} {
		want := string(rune('1' + i))
		if got := c.value("select f($1)::text", 1); got != want || c.role != "primary" || c.why != why {
			t.Errorf("call %d: %s on a %s (%s), want %s, %s", i+1, got, c.role, c.why, want, why)
		}
		if got := other.value("select v::text from r where id = 1"); got != want {
			t.Errorf("call %d: another session reads %s, want %s", i+1, got, want)
		}
	}
	if n := retries(); n != 1 {
		t.Errorf("%v retries, want 1", n)
	}
}

// TestFullReplica: replicas that let nobody in are passed over; the client sees nothing of it.
func TestFullReplica(t *testing.T) {
	l := newLagging(t, registers+"create role app login connection limit 2; grant select on r to app;", nil, eventual)
	s := l.proxy(t)
	for _, r := range l.Replicas {
		for range 2 {
			conn, err := pgx.Connect(t.Context(), r.ConnString("postgres", "app"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
		}
	}
	c, err := pgx.Connect(t.Context(), "postgres://app@"+s.addr+"/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var v int
	if err := c.QueryRow(t.Context(), "select v from r where id = 1").Scan(&v); err != nil {
		t.Fatal(err)
	}
	// As one that was retried, or, on a busy machine, as one that found no replica any more.
	if n := s.metric(t, "pgweir_statements_total", "target=primary"); n != 1 {
		t.Errorf("%v reads ran on the primary instead", n)
	}
	if n := s.metric(t, "pgweir_retries_total", "reason=connection_lost"); n == 0 {
		t.Error("it was not counted")
	}
}

// TestFirstRowReleases: an answer of a replica is held back for a retry only until its
// first row, which the client gets while the statement still runs.
func TestFirstRowReleases(t *testing.T) {
	s := start(t, eventual)
	database := newDatabase(t, "")
	const rows = "select repeat('x', 20000), pg_sleep(0.2) from generate_series(1, 4)" // more than a server gathers
	for name, ask := range map[string][]pgproto3.FrontendMessage{
		"simple": {&pgproto3.Query{String: rows}},
		"extended": {&pgproto3.Parse{Query: rows}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'},
			&pgproto3.Execute{}, &pgproto3.Sync{}},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.metric(t, "pgweir_statements_total", "target=replica")
			r := raw(t, s.addr, database)
			began := time.Now()
			r.send(ask...)
			lines := r.wait("D")
			first := time.Since(began)
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "D ") }) {
				t.Fatalf("%.80q", lines)
			}
			r.wait("Z")
			if whole := time.Since(began); whole-first < 300*time.Millisecond {
				t.Errorf("the first row came after %v of %v", first, whole)
			}
			until(t, "it ran on the replica", func() bool { return s.metric(t, "pgweir_statements_total", "target=replica") > before })
		})
	}
}
