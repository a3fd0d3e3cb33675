package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
)

const soakSchema = `
create table account (id int primary key, balance bigint not null);
insert into account select i, 1000 from generate_series(1, 200) i;
create table moved (id bigserial primary key, amount bigint not null);
create table loaded (batch int not null, n int not null)`

// soakTime is 20 seconds, 30 where CI is set, or what PGWEIR_SOAK says.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	if v := os.Getenv("PGWEIR_SOAK"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if os.Getenv("CI") != "" {
		return 30 * time.Second
	}
	return 20 * time.Second
}

// soak is what its clients share.
type soak struct {
	*service
	t        *testing.T
	database string
	done     atomic.Int64 // pieces of work
	killed   atomic.Int64 // clients that were cut off
	failures sync.Map     // SQLSTATE or kind → *atomic.Int64
	batch    atomic.Int64 // of COPY
	sizes    sync.Map     // of batches that may be there: batch → rows
}

// TestSoak: two hundred clients do all kinds of work while clients are cut off in
// any state and server connections are terminated. In the end nothing is left
// behind: no server connection in use, no goroutine, no open transaction, and
// nothing was done by halves.
func TestSoak(t *testing.T) {
	s := &soak{t: t, database: newDatabase(t, soakSchema)}
	goroutines := runtime.NumGoroutine()
	s.service = start(t, poolSize(8), func(c *config.Config) {
		c.Pool.AcquireTimeout = 10 * time.Second
		c.Pool.MaxLifetime = 5 * time.Second
	})
	until := time.Now().Add(soakTime(t))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var clients sync.WaitGroup
	for i := range 200 {
		clients.Go(func() { s.client(rand.New(rand.NewPCG(seed, uint64(i))), until) })
	}
	clients.Go(func() { s.terminator(rand.New(rand.NewPCG(seed, 1000)), until) })
	clients.Wait()
	s.report()
	s.settle(t)
	s.checkServers()
	s.checkData()
	s.Close()
	waitGoroutines(t, goroutines)
	s.checkGone()
}

// client does pieces of work, connecting anew when it was cut off, until time is up.
func (s *soak) client(rnd *rand.Rand, until time.Time) {
	for time.Now().Before(until) {
		if err := s.session(rnd, until); err != nil {
			s.failed(err)
		}
	}
}

// session is one connection's life.
func (s *soak) session(rnd *rand.Rand, until time.Time) error {
	ctx := context.Background()
	cfg, err := pgx.ParseConfig(s.dsn(s.database))
	if err != nil {
		return err
	}
	if rnd.IntN(3) == 0 {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	}
	cfg.ConnectTimeout = 2 * patience
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for range 1 + rnd.IntN(60) {
		if time.Now().After(until) {
			return nil
		}
		if rnd.IntN(40) == 0 {
			return s.cutOff(ctx, conn, rnd)
		}
		if err := s.work(ctx, conn, rnd); err != nil {
			return err
		}
		s.done.Add(1)
	}
	return nil
}

// work is one piece of work.
func (s *soak) work(ctx context.Context, conn *pgx.Conn, rnd *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	switch n := rnd.IntN(20); {
	case n < 8:
		var sum int64
		return conn.QueryRow(ctx, "select balance from account where id = $1", 1+rnd.IntN(200)).Scan(&sum)
	case n < 10:
		var sum int64
		if err := conn.QueryRow(ctx, "select sum(balance) from account").Scan(&sum); err != nil {
			return err
		}
		if sum != 200*1000 {
			s.t.Errorf("a reader saw a sum of %d: half a transaction", sum)
		}
		return nil
	case n < 14:
		return s.transfer(ctx, conn, rnd)
	case n < 15:
		return s.copyIn(ctx, conn, rnd)
	case n < 16:
		var out bytes.Buffer
		_, err := conn.PgConn().CopyTo(ctx, &out, "copy (select * from generate_series(1, 2000)) to stdout")
		if err == nil && strings.Count(out.String(), "\n") != 2000 {
			s.t.Errorf("COPY TO gave %d lines", strings.Count(out.String(), "\n"))
		}
		return err
	case n < 17:
		return s.canceled(ctx, conn)
	case n < 18:
		_, err := conn.Exec(ctx, "select 1/0")
		return ignore(err, "22012")
	case n < 19:
		batch := &pgx.Batch{}
		for i := range 5 {
			batch.Queue("select $1::int + 1", i)
		}
		return conn.SendBatch(ctx, batch).Close()
	default:
		return s.settings(ctx, conn)
	}
}

// settings leaves something on its connection that nobody else must see.
func (s *soak) settings(ctx context.Context, conn *pgx.Conn) error {
	var before string
	if err := conn.QueryRow(ctx, "select current_setting('work_mem')").Scan(&before); err != nil {
		return err
	}
	if before != "4MB" && before != "7MB" {
		s.t.Errorf("another session's work_mem: %s", before)
	}
	if _, err := conn.Exec(ctx, "set work_mem = '7MB'"); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "discard all")
	return errors.Join(err, conn.DeallocateAll(ctx))
}

// transfer moves money between two accounts, and notes it.
func (s *soak) transfer(ctx context.Context, conn *pgx.Conn, rnd *rand.Rand) error {
	a, b := 1+rnd.IntN(200), 1+rnd.IntN(200)
	a, b = min(a, b), max(a, b) // in one order, so that none deadlocks
	amount := rnd.IntN(10)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, id := range []int{a, b} {
			if _, err := tx.Exec(ctx, "update account set balance = balance + $1 where id = $2", amount, id); err != nil {
				return err
			}
			amount = -amount
		}
		if _, err := tx.Exec(ctx, "insert into moved (amount) values ($1), ($2)", amount, -amount); err != nil {
			return err
		}
		if rnd.IntN(5) == 0 {
			return errChanged
		}
		return nil
	})
	if errors.Is(err, errChanged) {
		return nil
	}
	return err
}

var errChanged = errors.New("changed its mind")

// copyIn loads a batch of rows, all or none.
func (s *soak) copyIn(ctx context.Context, conn *pgx.Conn, rnd *rand.Rand) error {
	batch, rows := s.batch.Add(1), 1+rnd.IntN(3000)
	s.sizes.Store(int(batch), rows)
	var in strings.Builder
	for i := range rows {
		fmt.Fprintf(&in, "%d\t%d\n", batch, i)
	}
	var from io.Reader = strings.NewReader(in.String())
	broken := rnd.IntN(4) == 0
	if broken {
		from = io.MultiReader(strings.NewReader(in.String()), strings.NewReader("not a number\t1\n"))
	}
	_, err := conn.PgConn().CopyFrom(ctx, from, "copy loaded from stdin")
	if broken {
		return ignore(err, "22P02")
	}
	return err
}

// canceled runs something long and cancels it.
func (s *soak) canceled(ctx context.Context, conn *pgx.Conn) error {
	sent := make(chan error, 1)
	go sendCancel(ctx, conn, 5*time.Millisecond, sent)
	_, err := conn.Exec(ctx, "select pg_sleep(0.02)")
	if err2 := <-sent; err == nil {
		err = err2
	}
	return ignore(err, "57014")
}

// cutOff resets the client's connection in the middle of something.
func (s *soak) cutOff(ctx context.Context, conn *pgx.Conn, rnd *rand.Rand) error {
	s.killed.Add(1)
	tcp, ok := conn.PgConn().Conn().(*net.TCPConn)
	if !ok {
		return errors.New("not a TCP connection")
	}
	pending := make(chan error, 1)
	kill := func(wait time.Duration) error {
		time.Sleep(wait)
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
		<-pending
		return nil
	}
	wait := time.Duration(rnd.IntN(5000)) * time.Microsecond
	switch rnd.IntN(5) {
	case 0: // idle in a transaction that has written
		_, _ = conn.Exec(ctx, "begin")
		_, _ = conn.Exec(ctx, "update account set balance = balance + 1000000 where id = $1", 1+rnd.IntN(200))
		pending <- nil
	case 1: // while a statement runs or waits for a connection
		go func() { _, err := conn.Exec(ctx, "/* pgweir:primary */ select pg_sleep(0.01)"); pending <- err }()
	case 2: // within COPY
		reader, writer := io.Pipe()
		go func() {
			_, err := conn.PgConn().CopyFrom(ctx, reader, "copy loaded from stdin")
			_ = reader.Close()
			pending <- err
		}()
		_, _ = writer.Write([]byte("-1\t1\n"))
		defer writer.Close()
	case 3: // while it is sent a large result
		go func() {
			_, err := conn.Exec(ctx, "select repeat('x', 1000) from generate_series(1, 20000)")
			pending <- err
		}()
	default: // in the middle of a frame
		_, _ = tcp.Write([]byte{'Q', 0, 0, 1, 0, 's', 'e', 'l'})
		pending <- nil
	}
	return kill(wait)
}

// terminator ends server connections of the proxy at random.
func (s *soak) terminator(rnd *rand.Rand, until time.Time) {
	servers := shared(s.t).Servers()
	ctx := context.Background()
	for time.Now().Before(until) {
		time.Sleep(time.Duration(20+rnd.IntN(150)) * time.Millisecond)
		_, err := servers[rnd.IntN(len(servers))].Value(ctx, "postgres",
			`select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name <> 'pgweir' order by random() limit 1`, s.database)
		if err != nil {
			s.t.Errorf("terminate: %v", err)
		}
	}
}

// ignore makes nothing of an error that was to be expected.
func ignore(err error, code string) error {
	if wantCode(err) == code {
		return nil
	}
	return err
}

// failed counts an error, which must be one of those that terminated connections cause.
func (s *soak) failed(err error) {
	kind := wantCode(err)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		kind = "connection lost"
		if errors.Is(err, context.DeadlineExceeded) {
			kind = "timeout"
		}
	}
	n, _ := s.failures.LoadOrStore(kind, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	switch kind {
	case "57P01", "08006", "connection lost":
	default:
		s.t.Errorf("unexpected failure: %v", err)
	}
}

func (s *soak) report() {
	text := fmt.Sprintf("%d pieces of work, %d clients cut off; failures:", s.done.Load(), s.killed.Load())
	s.failures.Range(func(k, n any) bool {
		text += fmt.Sprintf(" %s %d", k, n.(*atomic.Int64).Load())
		return true
	})
	s.t.Log(text)
	if s.done.Load() < 1000 || s.killed.Load() == 0 {
		s.t.Error("too little was done")
	}
}

// checkServers compares what the servers have with what the pools hold idle.
func (s *soak) checkServers() {
	for _, server := range shared(s.t).Servers() {
		until(s.t, server.Name+" has the pool's idle connections and no other", func() bool {
			return s.metricsAgree(server.Addr(), server.Value)
		})
	}
}

func (s *soak) metricsAgree(addr string, value func(context.Context, string, string, ...any) (string, error)) bool {
	v, err := value(context.Background(), "postgres",
		`select count(*) || ' ' || count(*) filter (where state <> 'idle') from pg_stat_activity where datname = $1 and application_name = ''`, s.database)
	if err != nil {
		s.t.Fatal(err)
	}
	return v == fmt.Sprintf("%v 0", s.metric(s.t, "pgweir_pool_connections", "server="+addr, "state=idle"))
}

// checkData: transactions happened as a whole or not at all.
func (s *soak) checkData() {
	ctx := context.Background()
	primary := shared(s.t).Primary
	for sql, want := range map[string]string{
		"select sum(balance) from account":                          "200000",
		"select coalesce(sum(amount), 0) from moved":                "0",
		"select count(*) from pg_prepared_xacts":                    "0",
		"select count(*) from loaded where batch < 0":               "0",
		"select count(*) from pg_locks where locktype = 'advisory'": "0",
		"select count(*) > 0 from moved":                            "t",
		"select count(*) > 0 from loaded":                           "t",
	} {
		if got, err := primary.Value(ctx, s.database, sql); err != nil || got != want {
			s.t.Errorf("%s: %s, %v; want %s", sql, got, err, want)
		}
	}
	all, err := primary.Value(ctx, s.database, "select string_agg(batch || ':' || n, ' ') from (select batch, count(*) n from loaded group by 1) b")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, item := range strings.Fields(all) {
		var batch, rows int
		if _, err := fmt.Sscanf(item, "%d:%d", &batch, &rows); err != nil {
			s.t.Fatal(err)
		}
		if want, _ := s.sizes.Load(batch); want != rows {
			s.t.Errorf("batch %d has %d rows, want %v or none", batch, rows, want)
		}
	}
}

// checkGone: a closed proxy has no connection to any server.
func (s *soak) checkGone() {
	for _, server := range shared(s.t).Servers() {
		until(s.t, "no connection is left on "+server.Name, func() bool {
			v, err := server.Value(context.Background(), "postgres", "select count(*) from pg_stat_activity where datname = $1", s.database)
			return err == nil && v == "0"
		})
	}
}

// waitGoroutines waits until there are no more goroutines than before.
func waitGoroutines(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
