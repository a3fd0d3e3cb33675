package insight

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// client sends statements at times of its own making.
type client struct {
	*Session
	book  *Book
	now   time.Time
	event Event // what its statements have in common
	batch uint64
}

func newClient(o Options) *client {
	b := New(o)
	return &client{Session: b.NewSession(Who{User: "app", Application: "web", Route: "GET /x"}), book: b, now: time.Unix(1e9, 0)}
}

func (c *client) statement(fingerprint string, s Shape) *Statement {
	return c.book.Statement("db", fingerprint, fingerprint, s)
}

// run sends one statement after a pause.
func (c *client) run(s *Statement, params, rows uint64, pause time.Duration) {
	c.now = c.now.Add(pause)
	c.batch++
	e := c.event
	e.Statement, e.Params, e.Rows, e.Began, e.Duration = s, params, rows, c.now, time.Millisecond
	if e.Batch == 0 {
		e.Batch = c.batch
	}
	c.Ran(&e)
	c.now = c.now.Add(e.Duration)
}

// found are the kinds of what is found once the client is done.
func (c *client) found() (kinds []string) {
	c.End()
	for _, f := range c.book.Summary().Findings {
		kinds = append(kinds, f.Kind)
	}
	return kinds
}

var (
	list  = Shape{Reads: true, Table: "parents"}
	child = Shape{Reads: true, Table: "children", Bound: BoundKey, Keys: []string{"id"}}
)

func TestNPlusOne(t *testing.T) {
	for _, tc := range []struct {
		name  string
		event Event
		calls int
		rows  uint64 // of the statement before
		same  bool   // parameters
		pause time.Duration
		want  []string
	}{
		{"in a transaction", Event{Transaction: 1}, 5, 3, false, 0, []string{"n_plus_one"}},
		{"four are none", Event{Transaction: 1}, 4, 4, false, 0, nil},
		{"the same again", Event{Transaction: 1}, 5, 3, true, 0, []string{"duplicate"}},
		{"sent at once", Event{Transaction: 1, Batch: 7}, 50, 50, false, 0, nil},
		{"a burst behind its parent", Event{}, 20, 20, false, 0, []string{"n_plus_one"}},
		{"a burst behind some list", Event{}, 20, 3, false, 0, nil},
		{"a burst of requests", Event{}, 20, 20, false, time.Second, nil},
	} {
		c := newClient(Options{})
		c.event = tc.event
		parent, s := c.statement("parent", list), c.statement("child", child)
		c.run(parent, 0, tc.rows, 0)
		for i := range tc.calls {
			params := uint64(i)
			if tc.same {
				params = 1
			}
			c.run(s, params, 1, tc.pause)
		}
		require.Equal(t, tc.want, c.found(), tc.name)
	}
}

func TestNPlusOneEvidence(t *testing.T) {
	c := newClient(Options{})
	c.event.Transaction = 1
	parent, s := c.statement("parent", list), c.statement("child", child)
	c.run(parent, 0, 10, 0)
	for i := range uint64(10) {
		c.run(s, i, 1, 0)
	}
	c.End()
	f := c.book.Summary().Findings[0]
	require.Equal(t, "certain", f.Sure)
	require.Equal(t, []string{"parent"}, f.With)
	require.Equal(t, []string{"GET /x"}, f.Routes)
	require.Equal(t, "sent 10 times a transaction with other parameters, 10 times at worst, once for each row of another statement", f.Detail)
	require.Equal(t, "9 round trips too many each time, 9ms", f.Cost)
	require.Equal(t, "SELECT … FROM children WHERE id = ANY ($1)", f.SQL)
	require.Equal(t, [Kinds]uint64{NPlusOne: 1}, c.book.Counts())
}

func TestExempt(t *testing.T) {
	c := newClient(Options{Exempt: []string{"web"}})
	c.event.Transaction = 1
	for i := range uint64(10) {
		c.run(c.statement("child", child), i, 1, 0)
	}
	require.Empty(t, c.found())
}

func TestCountFanOut(t *testing.T) {
	count := func(table, source string) Shape {
		return Shape{Reads: true, Table: table, Bound: BoundAggregate, Counts: true, Source: source}
	}
	c := newClient(Options{})
	c.event.Transaction = 1
	a, b := c.statement("a", count("t", "1")), c.statement("b", count("t", "2"))
	c.run(a, 1, 1, 0)
	c.run(a, 2, 1, 0)
	c.run(c.statement("other", count("u", "3")), 1, 1, 0)
	require.Empty(t, c.found())
	c.event.Transaction = 2
	c.run(a, 1, 1, 0)
	c.run(a, 2, 1, 0)
	c.run(b, 2, 1, 0)
	require.Equal(t, []string{"count_fan_out"}, c.found())

	page := c.statement("page", Shape{Reads: true, Table: "t", Bound: BoundLimit, Source: "1"})
	c.event.Transaction = 3
	c.run(page, 1, 10, 0)
	c.run(b, 1, 1, 0)
	require.Equal(t, []string{"count_fan_out"}, c.found(), "the count of something else")
	c.event.Transaction = 4
	c.run(page, 1, 10, 0)
	c.run(a, 1, 1, 0)
	require.Equal(t, []string{"count_fan_out", "page_and_count"}, c.found())
}

func TestIdleInTransaction(t *testing.T) {
	c := newClient(Options{Idle: time.Second})
	s := c.statement("s", child)
	c.event.Transaction = 1
	c.run(s, 1, 1, 0)
	c.run(s, 1, 1, 900*time.Millisecond)
	c.event.Transaction = 0
	c.run(s, 1, 1, time.Hour)
	require.Empty(t, c.found())
	c.event.Transaction = 2
	c.run(s, 1, 1, 0)
	c.run(s, 1, 1, 2*time.Second)
	require.Equal(t, []string{"idle_in_transaction"}, c.found())
	require.Equal(t, "2s of a server connection each time", c.book.Summary().Findings[0].Cost)
}

func TestStatementFindings(t *testing.T) {
	c := newClient(Options{Rows: 1000, Bytes: 1 << 20})
	few, many, large := c.statement("few", list), c.statement("many", list), c.statement("large", list)
	for range 100 {
		c.run(few, 1, 500, time.Second)
		c.run(many, 1, 5000, time.Second)
	}
	c.event.Bytes = 2 << 20
	c.run(large, 1, 1, time.Second)
	c.event = Event{Target: Replica, Offset: 5000}
	c.run(c.statement("deep", Shape{Reads: true, Table: "t", Bound: BoundLimit, Offset: true}), 1, 10, time.Second)
	c.event = Event{Target: Primary, Reason: "freshness"}
	c.run(c.statement("stale", child), 1, 1, time.Second)
	c.run(c.statement("unfiltered", Shape{Reads: true, Table: "t", Bound: BoundLimit, Unfiltered: true}), 1, 1, time.Second)
	c.End()
	got := map[string]string{}
	for _, f := range c.book.Summary().Findings {
		got[f.Statement+" "+f.Kind] = f.Severity
	}
	require.Equal(t, map[string]string{
		"many unbounded": Warning, "large unbounded": Warning, "deep offset": Warning, "stale read_on_primary": Info,
		"unfiltered read_on_primary": Info, "unfiltered unfiltered": Warning,
	}, got)
}

// TestShapes: what a text says is as new as the catalog of its last plan.
func TestShapes(t *testing.T) {
	c := newClient(Options{})
	c.run(c.statement("s", Shape{Reads: true, Table: "t", Bound: BoundKey}), 1, 5000, 0)
	require.Empty(t, c.found())
	c.run(c.statement("s", Shape{Reads: true, Table: "t", Unfiltered: true}), 1, 5000, 0)
	require.Equal(t, []string{"unbounded", "unfiltered"}, c.found())
}

// TestAudited: an unfiltered statement is as bad as the worst of its calls.
func TestAudited(t *testing.T) {
	c := newClient(Options{})
	s := c.statement("s", Shape{Reads: true, Table: "t", Bound: BoundLimit, Unfiltered: true})
	severity := func() string {
		c.run(s, 1, 1, 0)
		found := c.book.Summary().Findings
		require.Len(t, found, 1)
		return found[0].Severity
	}
	require.Equal(t, Warning, severity(), "nobody has audited it")
	s.Audited(false)
	require.Equal(t, Info, severity())
	s.Audited(true)
	require.Equal(t, Warning, severity())
	s.Audited(false)
	require.Equal(t, Warning, severity())
}

func TestRows(t *testing.T) {
	c := newClient(Options{})
	s := c.statement("s", child)
	for i := range 100 {
		c.event.Failed = i == 0
		c.event.Target = Target(i % 2)
		c.event.Bytes, c.event.Waited = 10, time.Millisecond
		c.run(s, 1, 2, time.Second)
	}
	sum := c.book.Summary()
	require.Len(t, sum.Statements, 2)
	for _, r := range sum.Statements {
		require.Equal(t, "50 100 500 50", fmt.Sprint(r.Calls, r.Rows, r.Bytes, r.Total))
		require.Equal(t, 50.0, r.Waited)
		require.Equal(t, 1.024, r.P50)
		require.Equal(t, []string{"web"}, r.Apps)
		require.Equal(t, 1e9+1.0, float64(r.First.Unix()), 2.0)
	}
	require.Equal(t, uint64(1), sum.Statements[0].Errors+sum.Statements[1].Errors)
}

// TestBoundedMemory: of 100,000 statements 4,000 are told apart, in about 4 MiB; the others
// are counted together.
func TestBoundedMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := newClient(Options{})
	const many = 100_000
	for i := range many {
		text := fmt.Sprintf("SELECT a, b, c, d FROM some_table_of_many JOIN another USING (id) WHERE column_%06d = $1 AND another_column = $2", i)
		s := c.book.Statement("db", fmt.Sprintf("%016x", i), text, child)
		c.event.Transaction = uint64(i / 500)
		c.run(s, uint64(i), 1, 0)
	}
	c.End()
	runtime.GC()
	runtime.ReadMemStats(&after)
	sum := c.book.Summary()
	require.LessOrEqual(t, after.HeapAlloc-before.HeapAlloc, uint64(6<<20))
	require.LessOrEqual(t, c.book.bytes, 4<<20)
	require.GreaterOrEqual(t, len(c.book.order), 3500)
	require.Equal(t, many, len(c.book.order)+sum.Left)
	var calls uint64
	for _, r := range sum.Statements {
		calls += r.Calls
	}
	require.Equal(t, uint64(many), calls)
	require.Equal(t, "other statements", sum.Statements[len(sum.Statements)-1].Statement)
}

// TestAllocations: in the steady state nothing is allocated, whatever is repeated.
func TestAllocations(t *testing.T) {
	c := newClient(Options{})
	a, b := c.statement("a", list), c.statement("b", child)
	n := uint64(0)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		n++
		c.event.Transaction = n
		c.run(a, n, 3, 0)
		for i := range uint64(4) {
			c.run(b, i, 1, 0)
		}
	}))
}

// BenchmarkRan counts statements of transactions of four.
//
// On one core of a shared two-core machine 54 ns of CPU each; nothing is allocated.
func BenchmarkRan(b *testing.B) {
	c := newClient(Options{})
	statements := []*Statement{c.statement("a", list), c.statement("b", child), c.statement("c", child), c.statement("d", child)}
	e := Event{Began: c.now, Duration: time.Millisecond, Rows: 3, Bytes: 300}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.Statement, e.Batch, e.Transaction, e.Params = statements[i%4], uint64(i), uint64(i/4), uint64(i)
		c.Ran(&e)
	}
}
