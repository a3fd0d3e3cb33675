package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestEndsItself: a session that terminates or cancels the backend that it asks for ends, or
// is canceled, as on one server, and only it.
func TestEndsItself(t *testing.T) {
	t.Parallel()
	stage{setup: items}.tell(t,
		story{name: "canceled", steps: "Q select pg_cancel_backend(pg_backend_pid()), pg_sleep(5)\nQ select count(*) from items"},
		story{name: "canceled in a transaction", mode: "outside", steps: "Q begin\nQ insert into w values (1)\nQ select pg_cancel_backend(pg_backend_pid()), pg_sleep(5)\nQ select 1\nQ rollback\nQ select count(*) from w"},
		story{name: "canceled by code", steps: "Q do $$ begin perform pg_cancel_backend(pg_backend_pid()); perform pg_sleep(5); end $$\nQ select count(*) from items"},
	)
	database := newDatabase(t, "create table w (a int)")
	s := start(t, poolSize(2))
	for name, addr := range map[string]string{"directly": shared(t).Primary.Addr(), "through": s.addr} {
		for _, sql := range []string{
			"select pg_terminate_backend(pg_backend_pid())", "select pg_terminate_backend(pg_backend_pid()), pg_sleep(5)",
			"begin; insert into w values (1); select pg_terminate_backend(pg_backend_pid()); commit",
			"do $$ begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); end $$",
		} {
			other, r := raw(t, addr, database), raw(t, addr, database)
			other.query("select 1")
			r.send(&pgproto3.Query{String: sql})
			if got := r.wait("end"); !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "E FATAL FATAL 57P01") }) {
				t.Errorf("%s, %s: %q", name, sql, got)
			}
			if got := other.query("select count(*) from w"); !slices.Contains(got, `D "0"`) {
				t.Errorf("%s, after %s another session reads %q", name, sql, got)
			}
		}
	}
}

// TestForeignProcessID: the process ID that a client is told is the proxy's, so no server knows
// it: nobody else is hit.
func TestForeignProcessID(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(2))
	r, other := raw(t, s.addr, database), raw(t, s.addr, database)
	for _, f := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		if got := other.query(fmt.Sprintf("select %s(%d)", f, r.pid)); !slices.Contains(got, `D "f"`) {
			t.Errorf("%s of another session's: %q", f, got)
		}
		if got := r.query("select 1"); !slices.Contains(got, `D "1"`) {
			t.Errorf("after %s: %q", f, got)
		}
	}
}
