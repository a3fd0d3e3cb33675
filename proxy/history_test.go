package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// Histories: sessions of several tenants write and read registers while replicas lag,
// stand still or crash. A write gives its register the next number, so that a number
// tells how much a read has seen. Runs follow a seed; PGWEIR_HISTORY gives them another
// length, such as 10m.

const historySeed = 20261122

// historyLength is how long one run takes.
func historyLength(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("PGWEIR_HISTORY")
	if text == "" {
		return 1500 * time.Millisecond
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// event is one operation as its client saw it. Times are from the run's beginning.
type event struct {
	session, tenant int
	register        int
	write           bool
	number          int // written or read; -1 if nobody knows
	call, end       time.Duration
}

// history is what all clients saw.
type history struct {
	mu     sync.Mutex
	events []event
	began  time.Time
}

func (h *history) add(e event) {
	h.mu.Lock()
	h.events = append(h.events, e)
	h.mu.Unlock()
}

const (
	tenants           = 2
	sessionsPerTenant = 3
	registersUsed     = 4
)

// dsnFunc is how a session connects, as service.dsn is.
type dsnFunc func(database string, more ...string) string

// record lets the sessions work until ctx ends. A session whose connection is lost
// opens another.
func (h *history) record(ctx context.Context, s dsnFunc, level string) error {
	h.began = time.Now()
	var g errgroup.Group
	for id := range tenants * sessionsPerTenant {
		rnd := rand.New(rand.NewPCG(historySeed, uint64(id)))
		g.Go(func() error { return h.session(ctx, s, level, id, rnd) })
	}
	return g.Wait()
}

func (h *history) session(ctx context.Context, s dsnFunc, level string, id int, rnd *rand.Rand) error {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}()
	for ctx.Err() == nil {
		if conn == nil || conn.IsClosed() {
			var err error
			dsn := s("postgres", fmt.Sprintf("options='-c pgweir.consistency=%s -c app.tenant=%d'", level, id%tenants))
			if conn, err = pgx.Connect(ctx, dsn); err != nil {
				return ignoreEnd(ctx, err)
			}
		}
		e := event{session: id, tenant: id % tenants, register: rnd.IntN(registersUsed), write: rnd.IntN(5) == 0, number: -1}
		if err := h.step(ctx, conn, &e, rnd); err != nil {
			return err
		}
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond) // clients think
	}
	return nil
}

// step carries out one operation, a write in one of several ways, and records it.
func (h *history) step(ctx context.Context, conn *pgx.Conn, e *event, rnd *rand.Rand) error {
	const write = "update r set v = v + 1 where id = $1 returning v"
	way := rnd.IntN(4)
	e.call = time.Since(h.began)
	var err error
	switch {
	case !e.write:
		err = conn.QueryRow(ctx, "select v from r where id = $1", e.register).Scan(&e.number)
	case way == 0:
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, write, e.register).Scan(&e.number)
		})
	case way == 1:
		err = conn.QueryRow(ctx, "select bump($1)", e.register).Scan(&e.number)
	default:
		err = conn.QueryRow(ctx, write, e.register).Scan(&e.number)
	}
	e.end = time.Since(h.began)
	switch {
	case err != nil && e.write:
		e.number = -1
		h.add(*e)
	case err == nil:
		h.add(*e)
	}
	var failed *pgconn.PgError
	if err != nil && ctx.Err() == nil && !conn.IsClosed() && (!errors.As(err, &failed) || failed.Code[:2] != "08" && failed.Code[:2] != "57") {
		return err
	}
	return nil
}

// sees reports whether a level promises a reader that it sees a write.
func sees(level string, reader, writer event) bool {
	switch level {
	case "session":
		return reader.session == writer.session
	case "tenant":
		return reader.tenant == writer.tenant
	case "database", "strong":
		return true
	}
	return false
}

// violations are the reads that missed a write which had been acknowledged before
// they began, and which their level promises them.
func (h *history) violations(level string) (found []string) {
	for _, r := range h.events {
		if r.write {
			continue
		}
		for _, w := range h.events {
			if w.write && w.number > r.number && w.register == r.register && w.end < r.call && sees(level, r, w) {
				found = append(found, fmt.Sprintf("session %d of tenant %d read %d of register %d at %v, after session %d of tenant %d had written %d by %v",
					r.session, r.tenant, r.number, r.register, r.call, w.session, w.tenant, w.number, w.end))
				break
			}
		}
	}
	return found
}

func (h *history) count() (reads, writes int) {
	for _, e := range h.events {
		if e.write {
			writes++
		} else {
			reads++
		}
	}
	return reads, writes
}

const historySetup = registers + `
create function bump(x int) returns int language sql as 'update r set v = v + 1 where id = x returning v';`

// disturb holds up replay on one replica or both, and crashes them, until ctx ends.
func disturb(ctx context.Context, l *lagging, rnd *rand.Rand, kill bool) error {
	wait := func(most int) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(1+rnd.IntN(most)) * time.Millisecond):
		}
	}
	long := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		victims := l.Replicas
		if one := rnd.IntN(4); one < len(victims) {
			victims = victims[one : one+1]
		}
		crash := kill && rnd.IntN(3) == 0
		for _, r := range victims {
			if err := holdUp(long, r, crash); err != nil {
				return err
			}
		}
		wait(200)
		for _, r := range victims {
			if err := letGo(long, r, crash); err != nil {
				return err
			}
		}
		wait(300)
	}
	return nil
}

func holdUp(ctx context.Context, r *pgtest.Server, crash bool) error {
	if crash {
		return r.Kill()
	}
	return r.PauseReplay(ctx)
}

func letGo(ctx context.Context, r *pgtest.Server, crash bool) error {
	if crash {
		return r.Start(ctx)
	}
	return r.ResumeReplay(ctx)
}

// TestHistories: at each level the reads of randomized runs see what it promises.
func TestHistories(t *testing.T) {
	l := newLagging(t, historySetup, map[string]string{"recovery_min_apply_delay": "5ms"},
		func(c *config.Config) { c.Routing.FreshnessWait = 20 * time.Millisecond })
	s := l.proxy(t)
	for _, level := range []string{"eventual", "session", "tenant", "database", "strong"} {
		t.Run(level, func(t *testing.T) {
			if err := l.WaitReplay(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var h history
			begun, onReplica := s.metric(t, "pgweir_statements_total"), s.metric(t, "pgweir_statements_total", "target=replica")
			var g errgroup.Group
			g.Go(func() error { // it is as long once it is under way
				defer cancel()
				for late := time.Now().Add(patience); s.metric(t, "pgweir_statements_total") < begun+20 && time.Now().Before(late); {
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(historyLength(t))
				return nil
			})
			g.Go(func() error { return disturb(ctx, l, rand.New(rand.NewPCG(historySeed, 100)), false) })
			err := errors.Join(h.record(ctx, s.dsn, level), g.Wait())
			if err != nil {
				t.Fatal(err)
			}
			onReplica = s.metric(t, "pgweir_statements_total", "target=replica") - onReplica
			reads, writes := h.count()
			t.Logf("%d writes, %d reads, %.0f %% of them on replicas; delayed %v, redirected %v", writes, reads, 100*onReplica/float64(reads), s.metric(t, "pgweir_reads_delayed_total", "level="+level), s.metric(t, "pgweir_reads_redirected_total", "level="+level))
			if onReplica == 0 || writes == 0 {
				t.Error("the run proves nothing")
			}
			for _, v := range h.violations(level) {
				t.Error(v)
			}
			if level == "eventual" && len(h.violations("session")) == 0 {
				t.Error("reads at level eventual missed nothing: the checker of the others proves nothing")
			}
		})
	}
}

// register is one counter: a write takes it one further, a read tells where it is.
// Of a write whose outcome is not known the output is -1.
var register = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, registersUsed)
		for _, o := range all {
			i := o.Input.(event).register
			parts[i] = append(parts[i], o)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		now, number := state.(int), output.(int)
		switch {
		case !input.(event).write:
			return number == now, now
		case number < 0:
			return true, now + 1
		}
		return number == now+1, now + 1
	},
}

// operations are the events as the checker wants them: a write of unknown outcome may
// take effect at any later time, or never, which is the same as after all else.
func (h *history) operations(from map[int]int) (all []porcupine.Operation) {
	for _, e := range h.events {
		o := porcupine.Operation{ClientId: e.session, Input: e, Call: int64(e.call), Output: e.number, Return: int64(e.end)}
		if e.number >= 0 {
			o.Output = e.number - from[e.register]
		} else {
			o.Return = int64(time.Hour)
		}
		all = append(all, o)
	}
	return all
}

// TestLinearizable: at level strong a workload of registers is linearizable while
// replicas stand still, crash and come back.
func TestLinearizable(t *testing.T) {
	l := newLagging(t, historySetup, nil, func(c *config.Config) { c.Routing.FreshnessWait = 20 * time.Millisecond })
	s := l.proxy(t)
	for _, run := range []struct {
		level string
		holds bool
	}{{"strong", true}, {"eventual", false}} {
		t.Run(run.level, func(t *testing.T) {
			from := l.registersNow(t)
			ctx, cancel := context.WithTimeout(t.Context(), 2*historyLength(t))
			defer cancel()
			var h history
			before := s.metric(t, "pgweir_statements_total", "target=replica")
			var g errgroup.Group
			g.Go(func() error { return disturb(ctx, l, rand.New(rand.NewPCG(historySeed, 7)), true) })
			if err := errors.Join(h.record(ctx, s.dsn, run.level), g.Wait()); err != nil {
				t.Fatal(err)
			}
			n, writes := h.count()
			onReplica := s.metric(t, "pgweir_statements_total", "target=replica") - before
			t.Logf("%d writes, %d reads, %.0f %% of them on replicas", writes, n, 100*onReplica/float64(n))
			got := porcupine.CheckOperationsTimeout(register, h.operations(from), time.Minute)
			if want := map[bool]porcupine.CheckResult{true: porcupine.Ok, false: porcupine.Illegal}[run.holds]; got != want {
				t.Errorf("linearizable: %v, want %v", got, want)
			}
			if onReplica == 0 {
				t.Error("no replica read: the run proves nothing")
			}
		})
	}
}

// TestLinearizableThroughFailover: strong stays linearizable when the primary is killed
// and a replica promoted, with synchronous replication.
func TestLinearizableThroughFailover(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2, Sync: true})
	must(t, cluster.Exec(t.Context(), historySetup))
	must(t, cluster.WaitReplay(t.Context()))
	cfg := failoverConfig(t, cluster)
	cfg.Routing.FreshnessWait = 20 * time.Millisecond
	s := startConfig(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	recorded, stop := context.WithCancel(ctx)
	var h history
	var g errgroup.Group
	g.Go(func() error { return h.record(recorded, s.dsn, "strong") })
	more := func(n int) {
		until(t, "clients go on", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.events) >= n
		})
	}
	more(300)
	must(t, cluster.Primary.Kill())
	until(t, "the primary is missed", func() bool { return s.metric(t, "pgweir_cluster_has_primary") == 0 })
	next, others := mostAdvanced(t, cluster.Replicas)
	must(t, next.Promote(ctx))
	for _, o := range others {
		must(t, o.Follow(ctx, next))
	}
	s.state(t, next, "primary", "serving")
	h.mu.Lock()
	n := len(h.events)
	h.mu.Unlock()
	more(n + 500)
	stop()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	reads, writes := h.count()
	t.Logf("%d writes, %d reads", writes, reads)
	if got := porcupine.CheckOperationsTimeout(register, h.operations(map[int]int{}), time.Minute); got != porcupine.Ok {
		t.Errorf("linearizable: %v", got)
	}
}

// registersNow are the registers' numbers.
func (l *lagging) registersNow(t *testing.T) map[int]int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), l.Primary.ConnString("postgres", pgtest.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), "select id, v from r")
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[int]int{}
	var id, v int
	if _, err := pgx.ForEachRow(rows, []any{&id, &v}, func() error { numbers[id] = v; return nil }); err != nil {
		t.Fatal(err)
	}
	return numbers
}
