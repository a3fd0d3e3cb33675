package insight

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRecent: what was called in each of the last intervals is told of each statement, whenever
// it came, and of no more than those.
func TestRecent(t *testing.T) {
	c := newClient(Options{})
	a := c.statement("a", list)
	c.run(a, 1, 3, 0)
	r, now := c.book.NewRecent(3), time.Now()
	require.Empty(t, r.Of(a))
	r.Sample(now)
	require.Empty(t, r.Of(a), "what was before is in no interval")
	tick := func() {
		now = now.Add(10 * time.Second)
		r.Sample(now)
	}
	c.run(a, 2, 3, 0)
	c.run(a, 3, 3, 0)
	tick()
	b := c.statement("b", child)
	c.run(b, 1, 1, 0)
	tick()
	got := r.Of(a)
	require.Len(t, got, 2)
	require.Equal(t, []uint64{2, 0}, []uint64{got[0].Calls, got[1].Calls})
	require.Equal(t, 10*time.Second, got[0].Length)
	require.Equal(t, now, got[1].End)
	require.Positive(t, got[0].Took)
	require.Equal(t, uint64(1), r.Of(b)[1].Calls)
	for range 5 {
		tick()
	}
	got = r.Of(a)
	require.Len(t, got, 3)
	require.Zero(t, got[0].Calls)
	require.Nil(t, r.Of(&c.book.other))
}

// TestSlow: of a statement's calls one of the slowest is told, with who made it and where.
func TestSlow(t *testing.T) {
	b := New(Options{})
	s := b.Statement("d", "f", "select", Shape{})
	asked := 0
	who := Who{Application: "shop", User: "u", Route: "/x", Tenant: func() string { asked++; return "hash" }}
	began := time.Now().Add(-time.Minute)
	for i, took := range []time.Duration{time.Millisecond, time.Second, 1100 * time.Millisecond, 2 * time.Second, time.Millisecond} {
		s.ran(&Event{Began: began.Add(time.Duration(i) * time.Second), Duration: took, Rows: uint64(i), Target: Target(i % 2)}, &who)
	}
	s.ran(&Event{Began: began, Duration: time.Hour, Untimed: true}, &who)
	rows := b.SummaryOf(b.Find("d", "f")).Statements
	require.Len(t, rows, 2)
	slow := rows[0].Slow
	if rows[0].Target != Replica.String() {
		require.Nil(t, slow)
		slow = rows[1].Slow
	}
	require.Equal(t, &Slow{Began: unix(began.Add(3 * time.Second).Unix()), Took: 2000, Rows: 3, Application: "shop", User: "u", Route: "/x", Tenant: "hash"}, slow)
	require.Equal(t, 5, asked, "of three that were slow, and of the first on each server")
	require.Nil(t, b.Find("d", "g"))
}
