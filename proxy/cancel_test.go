package proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// One client cancels its statements just as they end, over and over; neither its
// own next statement nor another client's on the same server connection is ever hit.
func TestCancelHitsNothingElse(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1))
	canceler, other := s.connect(t, database), s.connect(t, database)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// It pays to be near the end: the pause adapts to how long the statement takes.
	const naps = `/* pgweir:primary */ select pg_sleep(0.002)`
	until := time.Now().Add(4 * time.Second)
	var hits, misses, others atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for time.Now().Before(until) {
			if _, err := other.Exec(ctx, "/* pgweir:primary */ select 1"); err != nil {
				t.Errorf("another client's statement: %v", err)
				return
			}
			others.Add(1)
		}
	})
	pause := 2 * time.Millisecond
	for time.Now().Before(until) {
		sent := make(chan error, 1)
		go sendCancel(ctx, canceler, pause+time.Duration(rand.IntN(600)-300)*time.Microsecond, sent)
		_, err := canceler.Exec(ctx, naps)
		switch {
		case wantCode(err) == "57014":
			hits.Add(1)
			pause += 20 * time.Microsecond
		case err != nil:
			t.Fatal(err)
		default:
			misses.Add(1)
			pause = max(pause-20*time.Microsecond, 300*time.Microsecond)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if _, err := canceler.Exec(ctx, "/* pgweir:primary */ select 1"); err != nil {
			t.Fatalf("the statement after a canceled one: %v", err)
		}
	}
	wg.Wait()
	t.Logf("%d canceled, %d canceled too late, %d of the other client", hits.Load(), misses.Load(), others.Load())
	if hits.Load() == 0 || misses.Load() == 0 || others.Load() == 0 {
		t.Error("the edge was not found")
	}
}

// sendCancel sends a cancel request after a pause and returns when it was dealt with.
func sendCancel(ctx context.Context, conn *pgx.Conn, pause time.Duration, done chan<- error) {
	time.Sleep(pause)
	done <- conn.PgConn().CancelRequest(ctx)
}

// cancelable is a way to run a statement that is to be canceled.
type cancelable struct {
	name   string
	before []string // each answered before the statement; %d is a number of the try's own
	sql    string   // %s is the sleep, in seconds
	after  string
	rare   bool // it costs much
}

var cancelables = []cancelable{
	{name: "on the primary", sql: "/* pgweir:primary */ select pg_sleep(%s)"},
	{name: "on a replica", sql: "select pg_sleep(%s)"},
	{name: "a write", sql: "insert into naps select 1 from pg_sleep(%s)"},
	{name: "a read behind a write", before: []string{"insert into naps values (%d)"}, sql: "select count(*) from naps, pg_sleep(%s)"},
	{name: "a strong read", before: []string{"set pgweir.consistency = 'strong'"}, sql: "select count(*) from naps, pg_sleep(%s)"},
	{name: "with a setting", before: []string{"set app.a = '%d'"}, sql: "select pg_sleep(%s), current_setting('app.a')"},
	{name: "with a setting, a string", before: []string{"set app.a = '%d'"}, sql: "begin; select pg_sleep(%s); commit", after: "rollback"},
	{name: "with a path", before: []string{"set search_path = public, s%d"}, sql: "select pg_sleep(%s)", after: "reset search_path"},
	{name: "in a transaction", before: []string{"begin", "set local app.a = '%d'"}, sql: "select pg_sleep(%s)", after: "rollback"},
	{name: "a write in a transaction", before: []string{"begin", "select 1", "savepoint s"}, sql: "insert into naps select %d from pg_sleep(%s)", after: "rollback"},
	{name: "behind BEGIN in a string", sql: "begin; select pg_sleep(%s)", after: "rollback"},
	{name: "of a new table", before: []string{"create table nap_%d (a int)"}, sql: "select pg_sleep(%s) from nap_%d right join (values (1)) v on true", rare: true},
}

// TestCancelAlways cancels statements at random moments of their lives: while they are
// looked at, wait for a connection or for a replica, go to a server, run, or are over. A
// request that found a statement ends it, unless it ends by itself, and nothing else is hit.
func TestCancelAlways(t *testing.T) {
	database := newDatabase(t, "create table naps (a int)")
	s := start(t, poolSize(2))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 3 { // they have the pools' connections half of the time, and are never hit
		wg.Go(func() { s.bystand(ctx, t, database) })
	}
	c := &canceler{s: s, conn: s.connect(t, database)}
	tries, until := 500, time.Now()
	if long := os.Getenv("PGWEIR_FUZZ_TIME"); long != "" {
		tries = 10_000
	}
	for n := range tries {
		k := cancelables[n%len(cancelables)]
		if k.rare && n%5 != 0 {
			continue
		}
		if c.try(ctx, t, &k, n); t.Failed() {
			return
		}
	}
	t.Logf("%v: %d canceled, %d over before; %d requests too early or too late", time.Since(until).Round(time.Second), c.canceled, c.finished, c.idle)
	if c.canceled < tries/4 || c.finished == 0 || c.idle > tries/2 {
		t.Error("what was to be tried was not")
	}
}

// bystand runs statements on the same servers until ctx ends.
func (s *service) bystand(ctx context.Context, t *testing.T, database string) {
	conn, err := pgx.Connect(ctx, s.dsn(database))
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		for _, sql := range []string{"begin", "/* pgweir:primary */ select pg_sleep(0.002)", "commit", "select pg_sleep(0.002)"} {
			if _, err := conn.Exec(context.WithoutCancel(ctx), sql); err != nil {
				t.Errorf("another client's %q: %v", sql, err)
				return
			}
		}
	}
}

// canceler cancels its own statements.
type canceler struct {
	s                        *service
	conn                     *pgx.Conn
	canceled, finished, idle int
}

// try runs one statement and cancels it.
func (c *canceler) try(ctx context.Context, t *testing.T, k *cancelable, n int) {
	number := func(sql string) string { return strings.ReplaceAll(sql, "%d", fmt.Sprint(n)) }
	for _, sql := range k.before {
		_, err := c.conn.Exec(ctx, number(sql))
		require.NoError(t, err, "%s: %s", k.name, sql)
	}
	sleep, pause := "30", time.Duration(rand.IntN(6_000))*time.Microsecond
	if n%3 == 0 {
		sleep = "0.002"
	}
	sql := strings.ReplaceAll(number(k.sql), "%s", sleep)
	mode := []any{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement}[rand.IntN(3)]
	if strings.Contains(sql, ";") {
		mode = pgx.QueryExecModeSimpleProtocol
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.conn.Exec(ctx, sql, mode)
		done <- err
	}()
	time.Sleep(pause)
	what := fmt.Sprintf("%s: try %d, %v after it was sent", k.name, n, pause)
	switch err := c.cancel(ctx, t, done, what); {
	case wantCode(err) == "57014":
		c.canceled++
	case err != nil:
		t.Fatalf("%s: %v", what, err)
	case sleep == "30":
		t.Fatalf("%s: it ran on", what)
	default:
		c.finished++
	}
	if k.after != "" {
		_, err := c.conn.Exec(ctx, k.after)
		require.NoError(t, err, what)
	}
	var got int
	require.NoError(t, c.conn.QueryRow(ctx, "select $1::int", n).Scan(&got), "the statement after a canceled one: %s", what)
	require.Equal(t, n, got)
}

// cancel sends a cancel request, and further ones as long as they find nothing, until the
// statement is over. One that finds it must end it.
func (c *canceler) cancel(ctx context.Context, t *testing.T, done <-chan error, what string) error {
	const met = "outcome=met"
	for {
		before := c.s.metric(t, "pgweir_cancel_requests_total", met)
		require.NoError(t, c.conn.PgConn().CancelRequest(ctx))
		limit := 10 * time.Second
		if c.s.metric(t, "pgweir_cancel_requests_total", met) == before {
			c.idle++
			limit = time.Millisecond
		}
		select {
		case err := <-done:
			return err
		case <-time.After(limit):
			if limit > time.Second {
				t.Fatalf("%s: the cancel request is lost", what)
			}
		}
	}
}

// A statement that waits for the catalog, so that the audit knows its tables, can be canceled.
func TestCancelWhileTheCatalogIsRead(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, func(c *config.Config) { c.Tenant.Columns = []string{"organization_id"} })
	conn := s.connect(t, database)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := conn.Exec(ctx, "select 1")
	require.NoError(t, err)
	blocker, err := pgx.Connect(ctx, shared(t).Primary.ConnString(database, pgtest.Superuser))
	require.NoError(t, err)
	defer blocker.Close(ctx)
	_, err = blocker.Exec(ctx, "begin; lock table pg_catalog.pg_rewrite")
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "create table fresh (a int)")
	require.NoError(t, err)
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := conn.Exec(ctx, "select count(*) from fresh, pg_sleep(30)", pgx.QueryExecModeSimpleProtocol)
		done <- err
	}()
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, conn.PgConn().CancelRequest(ctx))
	require.Equal(t, "57014", wantCode(<-done))
	require.Less(t, time.Since(began), 1500*time.Millisecond, "it waited for the catalog all the same")
}
