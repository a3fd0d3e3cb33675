package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// timeoutCase is what a client says and what becomes of it.
type timeoutCase struct {
	limits  config.Timeouts
	queries []string
	ends    string // the SQLSTATE its session ends with; empty is that it lives
	fails   string // the SQLSTATE of the last query
}

// role is the user of a case.
func role(name string) string { return "timeout of " + name }

// What takes too long by the configuration ends with PostgreSQL's errors, and leaves nothing
// behind.
func TestTimeouts(t *testing.T) {
	db := newDatabase(t, items+"; create table held ()")
	holder, err := pgx.Connect(t.Context(), shared(t).Primary.ConnString(db, pgtest.Superuser))
	must(t, err)
	t.Cleanup(func() { _ = holder.Close(context.Background()) })
	_, err = holder.Exec(t.Context(), "begin; lock table held", pgx.QueryExecModeSimpleProtocol)
	must(t, err)
	const limit, long = 300 * time.Millisecond, "select pg_sleep(20)"
	idle, within := config.Timeouts{ClientIdle: limit}, config.Timeouts{IdleTransaction: limit}
	transaction, statement := config.Timeouts{Transaction: limit}, config.Timeouts{Statement: limit}
	cases := map[string]timeoutCase{
		"idle, at once":               {limits: idle, ends: "57P05"},
		"idle, after a write":         {limits: idle, queries: []string{"insert into w values (1)"}, ends: "57P05"},
		"idle, tied":                  {limits: idle, queries: []string{"create temp table x (a int)"}, ends: "57P05"},
		"idle, listening":             {limits: idle, queries: []string{"listen x"}, ends: "57P05"},
		"idle, the session's is more": {limits: idle, queries: []string{"set idle_session_timeout = '1h'"}, ends: "57P05"},
		"idle, in a transaction":      {limits: idle, queries: []string{"begin"}},
		"within, BEGIN alone":         {limits: within, queries: []string{"begin"}, ends: "25P03"},
		"within, after a read":        {limits: within, queries: []string{"begin", "select count(*) from items"}, ends: "25P03"},
		"within, after a write":       {limits: within, queries: []string{"begin", "insert into w values (1)"}, ends: "25P03"},
		"within, failed":              {limits: within, queries: []string{"begin", "select 1/0"}, ends: "25P03"},
		"within, over":                {limits: within, queries: []string{"begin", "insert into w values (1)", "commit"}},
		"transaction, idle":           {limits: transaction, queries: []string{"begin"}, ends: "25P04"},
		"transaction, after a write":  {limits: transaction, queries: []string{"begin", "insert into w values (1)"}, ends: "25P04"},
		"transaction, at work":        {limits: transaction, queries: []string{"begin", "insert into w values (1)", long}, ends: "25P04"},
		"transaction, of a statement": {limits: transaction, queries: []string{long}, ends: "25P04"},
		"transaction, over":           {limits: transaction, queries: []string{"begin", "insert into w values (1)", "commit"}},
		"transaction, waiting":        {limits: transaction, queries: []string{"begin", "lock table held"}, ends: "25P04"},
		"statement":                   {limits: statement, queries: []string{long}, fails: "57014"},
		"statement, a read":           {limits: statement, queries: []string{"select count(*) from items, generate_series(1, 1000000000)"}, fails: "57014"},
		"statement, waiting":          {limits: statement, queries: []string{"begin", "lock table held"}, fails: "57014"},
		"statement, in a transaction": {limits: statement, queries: []string{"begin", "insert into w values (1)", long}, fails: "57014"},
		"statement, quick ones":       {limits: statement, queries: []string{"select pg_sleep(0.2)", "select pg_sleep(0.2)"}},
	}
	users := map[string]config.User{}
	for name, v := range cases {
		user := role(name)
		users[user] = config.User{PoolSize: 1, Timeouts: v.limits}
		run(t, db, fmt.Sprintf("create role %q superuser login", user))
		t.Cleanup(func() { run(t, db, fmt.Sprintf("drop role %q", user)) })
	}
	s := start(t, func(c *config.Config) { c.Servers, c.Users = c.Servers[:2], users })
	for name, v := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := raw(t, s.addr, db, "user", role(name))
			for i, q := range v.queries {
				last := i == len(v.queries)-1
				if last && v.ends != "" {
					r.send(&pgproto3.Query{String: q})
					break
				}
				got := tail(r.query(q))
				if last && v.fails != "" && !strings.Contains(got, "ERROR ERROR "+v.fails) || !last && q != "select 1/0" && strings.Contains(got, "ERROR") {
					t.Errorf("%s: %s", q, got)
				}
				if v.fails == "57014" && last && !strings.Contains(got, "statement timeout") {
					t.Errorf("%s: %s", q, got)
				}
			}
			if v.ends != "" {
				if got := tail(r.wait("end")); !strings.Contains(got, "FATAL FATAL "+v.ends) {
					t.Errorf("its end: %s", got)
				}
			} else {
				time.Sleep(limit + limit/2) // that nothing happens
				if got := tail(r.query("rollback")); strings.Contains(got, "FATAL") {
					t.Error(got)
				}
			}
			r.close()
			other := raw(t, s.addr, db, "user", role(name))
			if got := tail(other.query("insert into w values (2)")); !strings.Contains(got, "INSERT 0 1") {
				t.Errorf("the next: %s", got)
			}
			other.close()
		})
	}
}

// A transaction that takes too long while it waits for a connection ends, and what one has
// running does not run on.
func TestTransactionTimeoutWhileWaiting(t *testing.T) {
	db := newDatabase(t, items)
	s := start(t, poolSize(1), func(c *config.Config) {
		c.Users = map[string]config.User{pgtest.Superuser: {Timeouts: config.Timeouts{Transaction: time.Second}}}
	})
	running := func() bool {
		n, err := shared(t).Primary.Value(t.Context(), db, "select count(*) from pg_stat_activity where query like 'insert into w select 1 from pg_sleep(30)%'")
		must(t, err)
		return n != "0"
	}
	first, second := raw(t, s.addr, db), raw(t, s.addr, db)
	first.send(&pgproto3.Query{String: "insert into w select 1 from pg_sleep(30)"})
	until(t, "the statement runs", running)
	second.query("begin")
	second.send(&pgproto3.Query{String: "insert into w values (1)"})
	for _, r := range []*rawConn{first, second} {
		if got := tail(r.wait("end")); !strings.Contains(got, "FATAL FATAL 25P04") {
			t.Error(got)
		}
		r.close()
	}
	until(t, "it does not run on", func() bool { return !running() })
}

// A statement is canceled however it is asked, and its session goes on.
func TestStatementTimeout(t *testing.T) {
	db := newDatabase(t, items)
	s := start(t, poolSize(1), func(c *config.Config) { c.Timeouts.Statement = 300 * time.Millisecond })
	r := raw(t, s.addr, db)
	for name, ask := range map[string]func() []string{
		"extended": func() []string { return r.ext("select pg_sleep(20)") },
		"copy in": func() []string {
			r.send(&pgproto3.Query{String: "copy w from stdin"})
			r.wait("G")
			time.Sleep(600 * time.Millisecond) // a server looks up when it hears of its client
			r.send(&pgproto3.CopyData{Data: []byte("5\n")}, &pgproto3.CopyDone{})
			return r.wait("Z")
		},
		"behind others": func() []string { return r.query("insert into w values (7); select pg_sleep(20)") },
	} {
		got := tail(ask())
		if !strings.Contains(got, "57014") || !strings.Contains(got, "statement timeout") {
			t.Errorf("%s: %s", name, got)
		}
		for range 3 { // at once, where a late request would hit
			if got := tail(r.query("insert into w values (1)")); !strings.Contains(got, "INSERT 0 1") {
				t.Errorf("%s, afterwards: %s", name, got)
			}
		}
	}
	if got := tail(r.query("select count(*) from w where a = 7")); !strings.Contains(got, `D "0"`) {
		t.Error(got)
	}
	if n := s.metric(t, "pgweir_timeouts_total", "timeout=statement"); n != 3 {
		t.Errorf("%v timeouts are counted", n)
	}
	r.close()
}

// Many statements that take about as long as they may, are answered or canceled, each by itself.
func TestStatementTimeoutsHitNobodyElse(t *testing.T) {
	db := newDatabase(t, items)
	s := start(t, poolSize(4), func(c *config.Config) { c.Timeouts.Statement = 100 * time.Millisecond })
	done := make(chan error)
	for i := range 8 {
		go func() {
			conn := s.connect(t, db)
			for n := range 40 {
				_, err := conn.Exec(t.Context(), fmt.Sprintf("select pg_sleep(%v)", 0.09+float64((n*7+i)%20)/1000))
				if err != nil && wantCode(err) != "57014" {
					done <- err
					return
				}
				if _, err := conn.Exec(t.Context(), "select 1"); err != nil { // takes no time
					done <- fmt.Errorf("the next: %w", err)
					return
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := s.metric(t, "pgweir_timeouts_total", "timeout=statement"); n == 0 {
		t.Error("none took too long")
	}
}

// A client that stalls within a message, before there is enough of it to be looked at, has said
// nothing for too long as any other has.
func TestStalledMessages(t *testing.T) {
	db := newDatabase(t, "create table t (a int)")
	const limit = 300 * time.Millisecond
	s := start(t, poolSize(1), func(c *config.Config) {
		c.Timeouts = config.Timeouts{ClientIdle: limit, IdleTransaction: limit}
	})
	query := encode(t, &pgproto3.Query{String: "select 1"})
	parse := encode(t, &pgproto3.Parse{Query: "select 1"})
	for name, v := range map[string]struct {
		setup string
		sent  []byte
		ends  string
	}{
		"header":              {sent: query[:3], ends: "57P05"},
		"text":                {sent: query[:10], ends: "57P05"},
		"head of a large one": {sent: bindBig(t, "")[:100], ends: "57P05"},
		"within a batch":      {sent: append(parse, query[:3]...), ends: "25P03"},
		"in a transaction":    {setup: "begin; insert into t values (1)", sent: query[:10], ends: "25P03"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := raw(t, s.addr, db)
			if v.setup != "" {
				r.query(v.setup)
			}
			r.write(v.sent, false)
			if got := tail(r.wait("end")); !strings.Contains(got, "FATAL FATAL "+v.ends) {
				t.Errorf("its end: %s", got)
			}
		})
	}
}
