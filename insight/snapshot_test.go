package insight

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// play has sessions of a Book do what is drawn.
func play(rt *rapid.T, b *Book, routes []string) {
	for range rapid.IntRange(0, 6).Draw(rt, "units") {
		s := b.NewSession(Who{Database: "d", User: "u", Application: rapid.SampledFrom([]string{"web/1.0", "web/1.1", "job"}).Draw(rt, "app")})
		route := s.Route([]byte(rapid.SampledFrom(routes).Draw(rt, "route")), func(b []byte) string { return string(b) })
		statement := b.Statement("d", fmt.Sprint("f", rapid.IntRange(1, 4).Draw(rt, "statement")), "select", Shape{Reads: true, Table: "t", Keys: []string{"k"}})
		for i := range rapid.IntRange(1, 9).Draw(rt, "times") {
			s.Ran(&Event{
				Statement: statement, Route: route, Target: Target(rapid.IntRange(0, 1).Draw(rt, "target")), Transaction: 1, Batch: uint64(i + 1), Params: uint64(i),
				Rows: uint64(i), Bytes: 10, Began: time.Unix(1000, 0), Duration: time.Duration(rapid.IntRange(0, 1e9).Draw(rt, "took")), Offset: int64(i * 500),
				Failed: i == 3,
			})
		}
		s.End()
	}
}

// TestSnapshots: periods, added up in another Book and taken through JSON on the way, are
// what was counted in all of them.
func TestSnapshots(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b, sum := New(Options{}), New(Options{})
		before := b.Snapshot()
		for range rapid.IntRange(1, 4).Draw(rt, "periods") {
			play(rt, b, []string{"/a", "/b", ""})
			now := b.Snapshot()
			period := now.Since(before)
			require.Equal(rt, before.End, period.Begin)
			for i := range period.Statements {
				require.Positive(rt, period.Statements[i].All().Calls)
				var c Counted
				text, err := json.Marshal(period.Statements[i])
				require.NoError(rt, err)
				require.NoError(rt, json.Unmarshal(text, &c))
				require.Equal(rt, period.Statements[i], c)
			}
			sum.Add(period)
			before = now
		}
		got, want := sum.Snapshot(), b.Snapshot()
		for _, s := range []*Snapshot{got, want} {
			s.Begin, s.End = time.Time{}, time.Time{}
			slices.SortFunc(s.Statements, func(x, y Counted) int { return int(x.Fingerprint[1]) - int(y.Fingerprint[1]) })
			slices.SortFunc(s.Patterns, func(x, y Pattern) int {
				return slices.Compare([]string{x.Kind, x.Fingerprint}, []string{y.Kind, y.Fingerprint})
			})
			for i := range s.Statements { // names are told by their ranks
				c := &s.Statements[i]
				c.Apps, c.Users, c.Routes, c.Tenants, c.Reasons = nil, nil, nil, nil, nil
			}
			for i := range s.Patterns {
				s.Patterns[i].Apps, s.Patterns[i].Routes = nil, nil
			}
		}
		require.Equal(rt, want, got)
		require.Empty(rt, want.Since(want).Statements)
	})
}

// TestAddHasBounds: what is added takes no more room than what is counted.
func TestAddHasBounds(t *testing.T) {
	from, to := New(Options{}), New(Options{MaxStatements: 2})
	for i := range 5 {
		s := from.NewSession(Who{})
		s.Ran(&Event{Statement: from.Statement("", fmt.Sprint("f", i), "select", Shape{}), Began: time.Unix(1, 0)})
		s.End()
	}
	to.Add(from.Snapshot())
	sum := to.Summary()
	require.Equal(t, 3, sum.Left)
	require.Len(t, to.Snapshot().Statements, 2)
	for i := range 3 * maxRoutes {
		to.Route("d", "a", fmt.Appendf(nil, "/%d", i), func(b []byte) string { return string(b) })
	}
	require.LessOrEqual(t, len(*to.routes.Load()), maxRoutes+1)
	require.Same(t, &to.otherRoute, to.Route("d", "a", []byte("/more"), func(b []byte) string { return string(b) }))
	require.Nil(t, to.Route("d", "a", make([]byte, maxRouteName+1), nil))
}

// TestRoutesOfTransactions: what a transaction did counts for the route that it served, and
// quick statements of two requests are told apart.
func TestRoutesOfTransactions(t *testing.T) {
	b := New(Options{})
	s := b.NewSession(Who{Database: "d", Application: "web/2"})
	shown := func(b []byte) string { return string(b) }
	one := b.Statement("d", "f", "select", Shape{})
	at := time.Unix(1000, 0)
	run := func(route string, transaction uint64, ends bool) {
		e := Event{Statement: one, Transaction: transaction, Ends: ends, Began: at, Duration: time.Millisecond}
		if route != "" {
			e.Route = s.Route([]byte(route), shown)
		}
		at = at.Add(2 * time.Millisecond)
		s.Ran(&e)
	}
	run("", 1, false)
	run("/a", 1, false)
	run("/a", 1, true)
	run("/b", 0, false)
	run("/b", 0, false)
	run("/a", 0, false)
	run("/b", 0, false)
	s.End()
	var got []string
	for _, r := range b.Routes() {
		got = append(got, fmt.Sprint(r.Application, " ", r.Route, " ", r.Transactions, r.Statements, r.Squares, r.Took, r.Idle))
	}
	require.ElementsMatch(t, []string{"web /a 2 4 10 4ms 2ms", "web /b 2 3 5 3ms 0s"}, got)
}

// TestVersions: a version of an application that is new is a change, if others are known.
func TestVersions(t *testing.T) {
	b := New(Options{})
	for _, tc := range []struct{ application, changed string }{
		{"web", ""}, {"web/1.2.3", ""}, {"web/1.2.3", ""}, {"web/v1.3", "web/v1.3"}, {"web/1.2.3", ""}, {"web/v1.3", ""},
		{"job/1", ""}, {"job/two", ""}, {"/3", ""}, {"job/2", "job/2"}, {"psql/", ""},
	} {
		b.NewSession(Who{Application: tc.application})
		require.Equal(t, tc.changed, b.TakeChange(), tc.application)
	}
}

// TestQuantiles are of what is known: the buckets, and the mean exactly.
func TestQuantiles(t *testing.T) {
	var d counts
	for i := range 1000 {
		d.times.add(time.Duration(i) * time.Millisecond)
	}
	n := d.exported()
	mean, variance := n.Mean()
	require.InDelta(t, 0.4995, mean, 1e-9)
	require.InDelta(t, 1.0/12, variance, 0.01)
	require.InDelta(t, 0.5, n.Quantile(0.5), 0.02)
	require.InDelta(t, 0.95, n.Quantile(0.95), 0.06)
	require.Zero(t, new(Counts).Quantile(0.5))
}
