package proxy_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// failoverConfig is a proxy in front of a cluster whose servers a test kills,
// promotes and freezes; addresses stand in for the servers' own, if given.
func failoverConfig(t testing.TB, cluster *pgtest.Cluster, addresses ...string) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.HTTP = config.Addresses{pgtest.FreeAddress(t)}, ""
	if len(addresses) == 0 {
		for _, s := range cluster.Servers() {
			addresses = append(addresses, s.Addr())
		}
	}
	for _, a := range addresses {
		cfg.Servers = append(cfg.Servers, config.Server{Address: a, Weight: 1})
	}
	cfg.ServerTLS.Mode, cfg.Service.User, cfg.Auth.Method = "disable", pgtest.Superuser, "trust"
	cfg.Log.Connections = false
	return cfg
}

// must ends the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bounded is a context that ends long before the test would.
func bounded(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// state waits until a server is in a state.
func (s *service) state(t testing.TB, server *pgtest.Server, role, state string) {
	t.Helper()
	until(t, fmt.Sprintf("%s (%s) is a %s, %s", server.Name, server.Addr(), role, state), func() bool {
		return s.metric(t, "pgweir_server_state", "server="+server.Addr(), "state="+state) == 1 &&
			s.metric(t, "pgweir_server_up", "server="+server.Addr(), "role="+role) == map[bool]float64{true: 1}[state == "serving" || state == "slow"]
	})
}

// ledger is a load of autocommit writes, each of an id of its own, and of what
// became of them from their clients' point of view.
type ledger struct {
	t       testing.TB
	s       *service
	stop    chan struct{}
	clients sync.WaitGroup

	slowest atomic.Int64 // ns of one statement
	written atomic.Int64
	read    atomic.Int64

	mu           sync.Mutex // protects the fields below
	acknowledged map[int64]bool
	first        time.Time // of the writes acknowledged since mark
	writeErrors  []string
	readErrors   []string
}

func newLedger(t testing.TB, s *service) *ledger {
	return &ledger{t: t, s: s, stop: make(chan struct{}), acknowledged: map[int64]bool{}}
}

// end stops the load and waits for it: no client may hang.
func (l *ledger) end() {
	l.t.Helper()
	close(l.stop)
	done := make(chan struct{})
	go func() { l.clients.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		l.t.Fatal("a client hangs")
	}
}

func (l *ledger) ended() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// client runs one statement after the other, connecting again when cut off.
func (l *ledger) client(number int, step func(ctx context.Context, conn *pgx.Conn, n int64) error, failed func(error)) {
	l.clients.Go(func() {
		var conn *pgx.Conn
		var err error
		for n := int64(number) * 1_000_000; !l.ended(); n++ {
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			if conn == nil {
				if conn, err = pgx.Connect(ctx, l.s.dsn("postgres", "application_name=client"+strconv.Itoa(number))); err != nil {
					conn = nil
				}
			}
			if err == nil {
				err = step(ctx, conn, n)
			}
			cancel()
			if took := int64(time.Since(began)); took > l.slowest.Load() {
				l.slowest.Store(took)
			}
			if err != nil {
				l.mu.Lock()
				failed(err)
				l.mu.Unlock()
			}
			if conn != nil && conn.IsClosed() {
				conn = nil
			}
			err = nil
		}
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	})
}

// writer inserts ids, by a prepared statement or a simple query.
func (l *ledger) writer(number int, mode pgx.QueryExecMode) {
	l.client(number, func(ctx context.Context, conn *pgx.Conn, n int64) error {
		if _, err := conn.Exec(ctx, "insert into ledger values ($1, $2)", mode, n, number); err != nil {
			return err
		}
		l.written.Add(1)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.acknowledged[n] = true
		if l.first.IsZero() {
			l.first = time.Now()
		}
		return nil
	}, func(err error) { l.writeErrors = append(l.writeErrors, err.Error()) })
}

// reader reads what was written, with a custom setting in force that is its own: a
// connection that did not take it over would give it away.
func (l *ledger) reader(number int, mode pgx.QueryExecMode) {
	name := "reader " + strconv.Itoa(number)
	var set *pgx.Conn
	l.client(number, func(ctx context.Context, conn *pgx.Conn, _ int64) error {
		if set != conn {
			if _, err := conn.Exec(ctx, "set app.who = '"+name+"'", pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
			set = conn
		}
		var who string
		var count int
		least := l.acknowledgements()
		if err := conn.QueryRow(ctx, "select current_setting('app.who', true), count(*) from ledger where client >= $1", mode, 0).Scan(&who, &count); err != nil {
			return err
		}
		l.read.Add(1)
		if who != name {
			return fmt.Errorf("read under the setting %q, not %q", who, name)
		}
		if count < least {
			return fmt.Errorf("read %d rows after %d were acknowledged", count, least)
		}
		return nil
	}, func(err error) { l.readErrors = append(l.readErrors, err.Error()) })
}

// more waits for a number of further writes.
func (l *ledger) more(number int64) {
	l.t.Helper()
	from := l.written.Load()
	until(l.t, "writes go on", func() bool { return l.written.Load() >= from+number })
}

// acknowledgements is how many writes were acknowledged.
func (l *ledger) acknowledgements() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

// mark says that from now on the first acknowledged write counts.
func (l *ledger) mark() {
	l.mu.Lock()
	l.first = time.Time{}
	l.mu.Unlock()
}

// after waits for the first write since mark and tells how long after a moment it was
// acknowledged.
func (l *ledger) after(moment time.Time) (d time.Duration) {
	l.t.Helper()
	until(l.t, "a write is acknowledged", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		d = l.first.Sub(moment).Round(time.Millisecond)
		return !l.first.IsZero()
	})
	return d
}

// audit compares what clients were told with what a server has: every acknowledged id
// once, no id twice.
func (l *ledger) audit(server *pgtest.Server) {
	l.t.Helper()
	ctx := bounded(l.t, patience)
	conn, err := pgx.Connect(ctx, server.ConnString("postgres", pgtest.Superuser))
	must(l.t, err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select id, count(*) from ledger group by id")
	must(l.t, err)
	found := map[int64]int64{}
	var id, times int64
	_, err = pgx.ForEachRow(rows, []any{&id, &times}, func() error { found[id] = times; return nil })
	must(l.t, err)
	lost, doubled := 0, 0
	for id := range l.acknowledged {
		if found[id] == 0 {
			lost++
		}
	}
	for _, times := range found {
		if times > 1 {
			doubled++
		}
	}
	if lost > 0 || doubled > 0 {
		l.t.Errorf("of %d acknowledged commits %d are lost; %d of %d ids are there twice", len(l.acknowledged), lost, doubled, len(found))
	}
}

// some are a few of many texts.
func some(texts []string) []string { return texts[:min(len(texts), 5)] }

// mostAdvanced is the replica that has received the most of the primary's log.
func mostAdvanced(t testing.TB, replicas []*pgtest.Server) (best *pgtest.Server, others []*pgtest.Server) {
	t.Helper()
	at := ""
	for _, r := range replicas {
		v, err := r.Value(bounded(t, patience), "postgres", "select lpad((pg_last_wal_receive_lsn() - '0/0')::text, 30)")
		must(t, err)
		if best != nil && v <= at {
			others = append(others, r)
			continue
		}
		if best != nil {
			others = append(others, best)
		}
		best, at = r, v
	}
	return best, others
}
