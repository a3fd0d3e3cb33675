package compare

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight"
)

// workload is what an application does in a period.
type workload struct {
	statements []timing
	routes     []float64 // mean statements of a transaction
}

type timing struct {
	calls         int
	median, sigma float64 // of a lognormal distribution, in seconds
	stalls        float64 // part of the calls that take a second more
}

func newWorkload(r *rand.Rand) (w workload) {
	for range 12 {
		w.statements = append(w.statements, timing{100 + r.IntN(400), 20e-6 * math.Pow(10, 3*r.Float64()), 0.05 + r.Float64(), 0.002 * r.Float64()})
	}
	for range 5 {
		w.routes = append(w.routes, 1+10*r.Float64())
	}
	return w
}

// run is what a Book counts of a workload.
func (w *workload) run(r *rand.Rand) *insight.Snapshot {
	b := insight.New(insight.Options{})
	s := b.NewSession(insight.Who{Database: "d"})
	for i, t := range w.statements {
		st := b.Statement("d", fmt.Sprint("f", i), fmt.Sprint("SELECT ", i), insight.Shape{})
		for range t.calls {
			seconds := t.median * math.Exp(t.sigma*r.NormFloat64())
			if r.Float64() < t.stalls {
				seconds++
			}
			s.Ran(&insight.Event{Statement: st, Duration: time.Duration(seconds * 1e9), Rows: 1})
			s.End()
		}
	}
	one := b.Statement("d", "one", "SELECT", insight.Shape{})
	for i, mean := range w.routes {
		route := s.Route(fmt.Appendf(nil, "/%d", i), func(b []byte) string { return string(b) })
		for range 60 {
			for range 1 + r.IntN(int(2*mean)) {
				s.Ran(&insight.Event{Statement: one, Route: route, Untimed: true})
			}
			s.End()
		}
	}
	return b.Snapshot()
}

// statuses counts the statements and routes of a report that differ.
func (r *Report) statuses() (all []string) {
	for _, s := range r.Statements {
		if s.Status != Same && s.Status != Few {
			all = append(all, fmt.Sprint(s.Status, " ", s.Fingerprint))
		}
	}
	for _, x := range r.Routes {
		if x.Status != Same && x.Status != Few {
			all = append(all, fmt.Sprint(x.Status, " ", x.Route))
		}
	}
	return all
}

// TestEqual: of 60 comparisons of equal periods, of other workloads each, three at most find a
// difference, of 5 %.
func TestEqual(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	differ := 0
	for range 60 {
		w := newWorkload(r)
		if found := Compare(w.run(r), w.run(r), Options{Slower: 0.05, More: 0.05}).statuses(); len(found) > 0 {
			differ++
			t.Log(found)
		}
	}
	t.Logf("%d of 60 differ", differ)
	require.LessOrEqual(t, differ, 3)
}

// TestFactorTwo: of a statement that takes twice or half as long, and a route that sends twice
// as many statements, it is found, and nothing else is.
func TestFactorTwo(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	others := 0
	for range 20 {
		w := newWorkload(r)
		before := w.run(r)
		w.statements[3].median *= 2
		w.statements[5].median /= 2
		w.routes[3] *= 2
		report := Compare(before, w.run(r), Options{})
		found := report.statuses()
		require.Contains(t, found, "slower f3")
		require.Contains(t, found, "faster f5")
		require.Contains(t, found, "more /3")
		others += len(found) - 3
		require.Equal(t, Slower, report.Statements[0].Status)
		require.InDelta(t, 2, report.Statements[0].Change, 0.8)
		require.Equal(t, More, report.Routes[0].Status)
	}
	require.LessOrEqual(t, others, 1)
}

// TestWithinABucket: what moves within a bucket of the histogram is told by the mean, and what
// a few slow calls do to the mean is no difference.
func TestWithinABucket(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	w := workload{statements: []timing{{200, 300e-6, 0.05, 0}, {200, 300e-6, 0.05, 0}}}
	before := w.run(r)
	w.statements[0].median = 400e-6 // both are within 256 to 512 µs
	w.statements[1].stalls = 0.01
	report := Compare(before, w.run(r), Options{})
	require.Equal(t, []string{"slower f0"}, report.statuses())
	require.InDelta(t, 4.0/3, report.Statements[0].Change, 0.02)
	require.Empty(t, Compare(before, w.run(r), Options{Slower: 0.5}).statuses())
}

// TestMannWhitney compares with what SciPy says: mannwhitneyu(b, a, method="asymptotic").
func TestMannWhitney(t *testing.T) {
	p, exceeds := mannWhitney([]uint64{10, 20, 5, 0}, []uint64{4, 12, 14, 6})
	require.InEpsilon(t, 0.00030833145413644694, p, 1e-9)
	require.InEpsilon(t, 0.7341269841269841, exceeds, 1e-9)
	p, exceeds = mannWhitney([]uint64{1000, 2000, 500}, []uint64{950, 2030, 520})
	require.InEpsilon(t, 0.18170430823866623, p, 1e-9)
	require.InEpsilon(t, 0.5081632653061224, exceeds, 1e-9)
	p, _ = mannWhitney([]uint64{7, 0}, []uint64{9, 0})
	require.Equal(t, 1.0, p)
	p, _ = mannWhitney(nil, nil)
	require.Equal(t, 1.0, p)
	p, _ = mannWhitney([]uint64{5, 5}, []uint64{5, 5})
	require.Equal(t, 1.0, p)
}

// TestWelch compares with the distribution of t for 29 degrees of freedom, by SciPy: 2*t.sf(x, 29).
func TestWelch(t *testing.T) {
	for t29, want := range map[float64]float64{2.0452: 0.05, 3.6594: 0.001, 4.5305: 0.0000932} {
		// a second period that is known exactly leaves the degrees of freedom of the first
		require.InEpsilon(t, want, welch(0, 30, 30, t29, 0, 1e9), 0.03)
	}
	require.Equal(t, 0.0, welch(1, 0, 30, 2, 0, 30))
	require.Equal(t, 1.0, welch(1, 0, 30, 1, 0, 30))
}

func TestHolm(t *testing.T) {
	all := []*verdict{{p: 0.03}, {p: 0.01}, {p: 0.04}, {p: 0.9}}
	correct(all)
	for i, want := range []float64{0.09, 0.04, 0.09, 0.9} {
		require.InDelta(t, want, all[i].p, 1e-9)
	}
}

// TestReport: what is new, gone, too rare, and in what the periods differ besides.
func TestReport(t *testing.T) {
	b := insight.New(insight.Options{})
	s := b.NewSession(insight.Who{})
	run := func(fingerprint string, times int, params bool) {
		st := b.Statement("", fingerprint, "SELECT "+fingerprint, insight.Shape{Reads: true, Table: "t", Keys: []string{"id"}, Bound: insight.BoundForeign})
		for i := range times {
			e := insight.Event{Statement: st, Transaction: 1, Batch: uint64(i), Duration: time.Millisecond}
			if params {
				e.Params = uint64(i)
			}
			s.Ran(&e)
		}
		s.End()
	}
	run("gone", 40, true)
	run("rare", 3, true)
	before := b.Snapshot()
	run("new", 40, true)
	run("rare", 1, true)
	after := b.Snapshot().Since(before)
	after.Lag.Sample(3 * time.Second)
	after.Left = 2
	before.Begin, before.End = time.Unix(0, 0), time.Unix(60, 0)
	after.Begin, after.End = time.Unix(50, 0), time.Unix(51, 0)
	r := Compare(before, after, Options{})
	var got []string
	for _, x := range r.Statements {
		got = append(got, fmt.Sprint(x.Status, " ", x.Fingerprint))
	}
	require.Equal(t, []string{"new new", "gone gone", "few rare"}, got)
	require.Equal(t, New, r.Patterns[0].Status)
	require.Equal(t, "n_plus_one new", r.Patterns[0].Kind+" "+r.Patterns[0].Fingerprint)
	require.Equal(t, "n_plus_one gone", r.Patterns[len(r.Patterns)-1].Kind+" "+r.Patterns[len(r.Patterns)-1].Fingerprint)
	require.Equal(t, []string{
		"after has 57 times the statements a second", "after has 57 times the statements at the same time",
		"replicas lagged 0 ms before and 3000 ms after, so other reads ran on the primary",
		"0 statements had no room before and 2 after", "the periods overlap",
	}, r.Notes)
}
