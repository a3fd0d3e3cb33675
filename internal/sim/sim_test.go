package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "the first seed; 0 is 1, and for the time of -sim.time only")
	timeFlag  = flag.Duration("sim.time", 0, "how long seeds are played; 0 with -sim.seed is that seed alone")
	allFlag   = flag.Bool("sim.all", false, "go on after a failure")
	wholeFlag = flag.Bool("sim.whole", false, "do not make a history short that fails")
	twiceFlag = flag.Int("sim.twice", 60, "how many seeds TestSeedsTwice plays")
	sqlFlag   = flag.Bool("sim.sql", false, "traces tell every statement that servers run for clients")
	traceFlag = flag.Bool("sim.trace", false, "print the trace of every run")
)

// usual is for how long TestSimulation plays when nobody says.
const usual = 25 * time.Second

// endless is how long a history may take, in real time.
const endless = 3 * time.Minute

// play plays a history in a bubble of its own.
func play(t *testing.T, h *History) (o *Outcome) {
	t.Helper()
	// Where the proxy turns in a circle without waiting, virtual time stands still.
	watch := time.AfterFunc(endless, func() { panic(fmt.Sprintf("seed %d: no end of it in %v\n%v", h.Seed, endless, h)) })
	defer watch.Stop()
	defer func() {
		if p := recover(); p != nil {
			o = &Outcome{Faults: []string{fmt.Sprint("in the bubble: ", p)}}
		}
	}()
	synctest.Test(t, func(*testing.T) {
		var err error
		if o, err = Play(h); err != nil {
			o = &Outcome{Faults: []string{err.Error()}}
		}
	})
	return o
}

// Histories of many seeds are played, and everything in them is as it must be.
func TestSimulation(t *testing.T) {
	first, limit := *seedFlag, *timeFlag
	tell = *sqlFlag
	image() // in real time
	// With so much garbage at a time the heap needs a bound of its own: what dies slowly would have it grow.
	percent, most := debug.SetGCPercent(400), debug.SetMemoryLimit(1<<30)
	t.Cleanup(func() { // when the workers have ended, which are parallel
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(most)
	})
	if first == 0 {
		first = 1
		if limit == 0 {
			limit = usual
		}
		if testing.Short() {
			limit = min(limit, 3*time.Second)
		}
	}
	if limit == 0 {
		judge(t, Draw(Seed(first)))
		return
	}
	began := time.Now()
	var next, steps atomic.Uint64
	var virtual atomic.Int64
	next.Store(first)
	var workers sync.WaitGroup
	for i := range 2 {
		workers.Add(1)
		t.Run(fmt.Sprint("worker", i), func(t *testing.T) {
			t.Parallel()
			defer workers.Done()
			told := began
			for time.Since(began) < limit && (*allFlag || !t.Failed()) {
				if i == 0 && time.Since(told) > time.Minute {
					told = time.Now()
					t.Logf("%d histories in %v", next.Load()-first, time.Since(began).Round(time.Second))
				}
				o := judge(t, Draw(Seed(next.Add(1)-1)))
				steps.Add(uint64(o.Steps))
				virtual.Add(int64(o.Took))
			}
		})
	}
	t.Cleanup(func() {
		n, took := next.Load()-first, time.Since(began)
		t.Logf("%d histories of %d steps in %v: %.0f a minute; %v of virtual time", n, steps.Load()/max(n, 1),
			took.Round(time.Millisecond), float64(n)/took.Minutes(), time.Duration(virtual.Load()).Round(time.Second))
	})
}

// judge plays a history; one that fails is made short and shown.
func judge(t *testing.T, h *History) *Outcome {
	t.Helper()
	o := play(t, h)
	if *traceFlag {
		fmt.Fprintln(os.Stderr, strings.Join(o.Trace, "\n"))
	}
	if len(o.Faults) == 0 {
		return o
	}
	if *wholeFlag {
		t.Errorf("seed %d: %s", h.Seed, strings.Join(o.Faults, "\n"))
		return o
	}
	short, so := shrink(h, o, func(h *History) *Outcome { return play(t, h) }, time.Now().Add(30*time.Second))
	t.Errorf("seed %d: %s\n\nshortest history found:\n%s\nits faults:\n%s\n\nits trace:\n%s", h.Seed, strings.Join(o.Faults, "\n"),
		short, strings.Join(so.Faults, "\n"), strings.Join(so.Trace, "\n"))
	return o
}

// A run is a function of its seed.
func TestSeedsTwice(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	n := *twiceFlag
	if testing.Short() {
		n = 5
	}
	// Two that become ready at one virtual instant go in any order all the same: now and then
	// one of them counts a dial more, or less.
	differ, most := 0, max(n/10, 1)
	for seed := range n {
		h := Draw(Seed(1_000_000 + seed))
		a, b := play(t, h), play(t, h)
		if !slices.Equal(a.Faults, b.Faults) {
			t.Errorf("seed %d: %q and %q", h.Seed, a.Faults, b.Faults)
		}
		if !slices.Equal(a.Trace, b.Trace) {
			differ++
			t.Logf("seed %d: %s", h.Seed, difference(a.Trace, b.Trace))
		}
	}
	if t.Logf("%d of %d seeds gave another trace the second time", differ, n); differ > most && !raced {
		t.Errorf("%d of %d seeds gave another trace the second time", differ, n)
	}
}

// difference shows where two traces part.
func difference(a, b []string) string {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("line %d:\n%s\nor\n%s", i, strings.Join(a[i:min(i+3, len(a))], "\n"), strings.Join(b[min(i, len(b)):min(i+3, len(b))], "\n"))
		}
	}
	return "one ends before the other"
}

// Played without a proxy, on a server of the cluster and on the one alone, histories show
// no fault: what shows one with a proxy is the proxy's.
func TestWithoutProxy(t *testing.T) {
	n := 100
	if testing.Short() {
		n = 5
	}
	for seed := range n {
		h := Draw(Seed(2_000_000 + seed))
		h.Knobs.Direct, h.Faults, h.Events = true, nil, nil
		judge(t, h)
	}
}
