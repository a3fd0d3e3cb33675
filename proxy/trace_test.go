package proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

// ask sends a statement and returns its answer.
func (r *rawConn) ask(s statement) []string {
	r.t.Helper()
	if s.bound == nil {
		return r.query(s.sql)
	}
	r.send(&pgproto3.Parse{Query: s.sql}, &pgproto3.Bind{Parameters: [][]byte{s.bound}}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, advSync)
	return r.wait("Z")
}

var moment = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00`)

// timeless hides what now() was in an answer: no other moments are later than the
// start of the test. Nothing else of an answer may differ: sequences give the same
// numbers, as all statements run in the same order.
func timeless(lines []string, started time.Time) string {
	return moment.ReplaceAllStringFunc(strings.Join(lines, "\n"), func(m string) string {
		if at, err := time.Parse("2006-01-02 15:04:05.999999-07", m); err == nil && at.After(started) {
			return "(now)"
		}
		return m
	})
}

// replay is one run of the trace.
type replay struct {
	tenants []int
	habits  []habit // the requests take them in turn
	// conns is the application's own pool; its requests take them in turn.
	conns []*rawConn
	// before and after are told of each request, if set.
	before func(*request)
	after  func(*request)
}

// run replays the trace for one tenant after the other and returns the answers.
func (p *replay) run(f *fleet) (answers []answer) {
	started := time.Now()
	for _, tenant := range p.tenants {
		for i := range f.requests {
			r := &f.requests[i]
			conn := p.conns[r.Req%len(p.conns)]
			if p.before != nil {
				p.before(r)
			}
			for _, s := range r.as(p.habits[(r.Req+tenant)%len(p.habits)], tenant) {
				lines := conn.ask(s)
				answers = append(answers, answer{r, tenant, s, timeless(lines, started), slices.ContainsFunc(lines, isError)})
			}
			if p.after != nil {
				p.after(r)
			}
		}
	}
	return answers
}

// answer is what one statement of a request was answered.
type answer struct {
	request *request
	tenant  int
	statement
	lines  string
	failed bool
}

// traceRun is one way of replaying the trace.
type traceRun struct {
	name    string
	habits  []habit
	pool    int
	clients int
	tenants []int
	// lagging: replicas show commits when they may, and the proxy knows when they do.
	// Otherwise they show them at once, and the proxy needs not look.
	lagging bool
	// replicas is the least share of the requests that only read that need no
	// primary, in percent. Two ask for pg_stat_activity, which is the primary's, and
	// one ends with a COMMIT outside a transaction.
	replicas int
}

// TestTrace replays the application's trace, with the tenant set in each request, on
// PostgreSQL itself and through the proxy: every answer must be the same, and what
// only reads must have run on replicas, with no session tied to its connection.
func TestTrace(t *testing.T) {
	f := newFleet(t)
	for _, r := range []traceRun{
		{"one client", []habit{bySet}, 1, 1, []int{1, 2, 3}, true, 90},
		{"five clients, one connection", everyHabit, 1, 5, []int{2, 1}, false, 98},
		{"five clients, four connections", everyHabit, 4, 5, []int{3}, false, 98},
	} {
		t.Run(r.name, func(t *testing.T) { r.run(t, f) })
	}
}

func (v *traceRun) run(t *testing.T, f *fleet) {
	conns := func(addr string) (all []*rawConn) {
		database := f.fresh(t, !v.lagging)
		for range v.clients {
			all = append(all, raw(t, addr, database, "user", fleetUser))
		}
		return all
	}
	want := (&replay{tenants: v.tenants, habits: v.habits, conns: conns(f.Primary.Addr())}).run(f)
	s := f.proxy(t, poolSize(v.pool), func(c *config.Config) {
		if !v.lagging {
			eventual(c)
		}
	})
	reading, onReplicas, before := 0, 0, 0.0
	primary := func() float64 { return s.metric(t, "pgweir_statements_total", "target=primary") }
	got := (&replay{tenants: v.tenants, habits: v.habits, conns: conns(s.addr),
		before: func(*request) { before = primary() },
		after: func(r *request) {
			if r.reads() {
				reading++
				if primary() == before {
					onReplicas++
				}
			}
		}}).run(f)
	failed := compareAnswers(t, want, got)
	t.Logf("%d statements, %d of them refused; of %d requests that only read %d needed no primary", len(got), failed, reading, onReplicas)
	if onReplicas*100 < reading*v.replicas {
		t.Errorf("%d requests that only read needed the primary", reading-onReplicas)
	}
	for _, name := range []string{"pgweir_pinned_sessions", "pgweir_pins_total"} {
		if n := s.metric(t, name); n != 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
}

// maxFaults is how many differences are shown.
const maxFaults = 3

// compareAnswers returns how many statements failed, by the application's own faults.
func compareAnswers(t *testing.T, want, got []answer) (failed int) {
	faults := 0
	for i := range want {
		w, g := &want[i], &got[i]
		if w.failed {
			failed++
		}
		if w.lines == g.lines || ofServer(w.sql) {
			continue
		}
		if faults++; faults <= maxFaults {
			t.Errorf("request %d (%s) for tenant %d, %s\n%s", w.request.Req, w.request.Route, w.tenant, abridge(w.sql),
				difference(strings.Split(w.lines, "\n"), strings.Split(g.lines, "\n")))
		}
	}
	if faults > maxFaults {
		t.Errorf("%d answers differ", faults)
	}
	return failed
}

// task is a request to be made for a tenant, and what PostgreSQL itself answers to
// each of its own statements.
type task struct {
	request *request
	tenant  int
	want    []string
}

// tasks are the requests of a fleet for the given tenants.
func (f *fleet) tasks(t *testing.T, tenants []int) (all []*task) {
	t.Helper()
	direct := raw(t, f.Primary.Addr(), "fleet", "user", fleetUser)
	for _, a := range (&replay{tenants: tenants, habits: []habit{bySet}, conns: []*rawConn{direct}}).run(f) {
		if n := len(all); n == 0 || all[n-1].request != a.request || all[n-1].tenant != a.tenant {
			all = append(all, &task{request: a.request, tenant: a.tenant})
		}
		if last := all[len(all)-1]; a.own {
			last.want = append(last.want, a.lines)
		}
	}
	return all
}

// do makes the request and returns how many rows told their tenant, or what was wrong.
func (k *task) do(conn *rawConn, h habit, owned map[string]bool) (rows int, fault string) {
	answers := 0
	for _, s := range k.request.as(h, k.tenant) {
		lines := conn.ask(s)
		if !s.own {
			continue
		}
		n, foreign := foreigners(lines, owned, k.tenant)
		d := difference(strings.Split(k.want[answers], "\n"), lines)
		if foreign != "" || d != "" {
			return rows, fmt.Sprintf("request %d for tenant %d, %s\n%s\n%s", k.request.Req, k.tenant, abridge(s.sql), foreign, d)
		}
		rows += n
		answers++
	}
	return rows, ""
}

// TestTraceOfTenantsAtOnce has many clients send the requests that only read, for all
// tenants at once, over two connections to each server. Every answer is what
// PostgreSQL itself gives that tenant, and no row is another one's.
func TestTraceOfTenantsAtOnce(t *testing.T) {
	f := newFleet(t)
	f.requests = slices.DeleteFunc(f.requests, func(r request) bool { return !r.reads() || slices.ContainsFunc(r.Events, ofServer) })
	tasks, owned := f.tasks(t, []int{1, 2, 3}), f.owned(t)
	rand.Shuffle(len(tasks), func(i, k int) { tasks[i], tasks[k] = tasks[k], tasks[i] })
	s := f.proxy(t, poolSize(2))
	work := make(chan *task, len(tasks))
	for _, k := range tasks {
		work <- k
	}
	close(work)
	var rows atomic.Int64
	var clients sync.WaitGroup
	for i := range 12 {
		conn := raw(t, s.addr, "fleet", "user", fleetUser)
		h := everyHabit[i%len(everyHabit)]
		clients.Go(func() {
			for k := range work {
				n, fault := k.do(conn, h, owned)
				rows.Add(int64(n))
				if fault != "" {
					t.Errorf("%s: %s", h.name, fault)
					return
				}
			}
		})
	}
	clients.Wait()
	t.Logf("%d requests, %d rows that tell their tenant", len(tasks), rows.Load())
	if rows.Load() < 5000 {
		t.Error("too few rows were seen")
	}
	if n := s.metric(t, "pgweir_pins_total"); n != 0 {
		t.Errorf("%v pins", n)
	}
}

// ofServer reports whether a statement asks of the server's connections rather than of data.
func ofServer(sql string) bool { return strings.Contains(sql, " pg_stat_activity") }

// owned are the columns that hold the tenant of tables whose policies are forced, as
// SQLAlchemy labels them.
func (f *fleet) owned(t *testing.T) map[string]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := f.Primary.Value(ctx, "fleet", "select string_agg(relname || '_organization_id', ' ') from pg_class c join pg_attribute a on a.attrelid = c.oid "+
		"where relforcerowsecurity and attname = 'organization_id'")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, name := range strings.Fields(v) {
		all[name] = true
	}
	return all
}

// foreigners counts the rows of an answer that tell their tenant, and shows one that
// is not the given tenant's.
func foreigners(lines []string, owned map[string]bool, tenant int) (rows int, foreign string) {
	at := -1
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "T "):
			at = slices.IndexFunc(strings.Fields(l[2:]), func(column string) bool {
				name, _, _ := strings.Cut(column, ":")
				return owned[name]
			})
		case strings.HasPrefix(l, "D ") && at >= 0:
			rows++
			if vs := words(l[2:]); vs[at] != fmt.Sprint(tenant) {
				foreign = l
			}
		}
	}
	return rows, foreign
}
