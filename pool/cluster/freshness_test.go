package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
)

// gauges is a Sampler over numbers.
type gauges struct {
	mu        sync.Mutex
	inserted  lsn.LSN
	unflushed lsn.LSN             // of these
	replayed  map[*Server]lsn.LSN // missing: hangs
	samples   int
	took      time.Duration // of an answer
}

func (g *gauges) Written(ctx context.Context, _ *Server) (Written, error) {
	g.mu.Lock()
	w := Written{Inserted: g.inserted, Flushed: g.inserted - g.unflushed, Delay: time.Hour}
	if g.unflushed > 0 {
		w.Delay = 600 * time.Millisecond
	}
	g.samples++
	g.mu.Unlock()
	time.Sleep(g.took)
	return w, ctx.Err()
}

func (g *gauges) Replayed(ctx context.Context, s *Server) (Replayed, error) {
	g.mu.Lock()
	at, ok := g.replayed[s]
	g.mu.Unlock()
	if !ok {
		<-ctx.Done()
		return Replayed{}, errors.New("it hangs")
	}
	time.Sleep(g.took)
	return Replayed{LSN: at}, nil
}

func (g *gauges) Forget(*Server) {}

func (g *gauges) Close() {}

func (g *gauges) set(inserted lsn.LSN, replayed ...lsn.LSN) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inserted = inserted
	for s := range g.replayed {
		g.replayed[s] = replayed[index(s)-1]
	}
}

// tracked runs a tracker over a primary and two replicas within a bubble.
func tracked(t *testing.T, hang int, test func(t *testing.T, c *Cluster, g *gauges)) {
	defer func(real time.Time) { began = real }(began)
	synctest.Test(t, func(t *testing.T) {
		began = time.Now()
		g := &gauges{replayed: map[*Server]lsn.LSN{}, took: 100 * time.Microsecond}
		servers := servers(1, 1, 1)
		for _, s := range servers[1:] {
			if index(s) != hang {
				g.replayed[s] = 0
			}
		}
		c := New(Options{Servers: servers, Timeout: func() time.Duration { return 5 * time.Second }, Sampler: g})
		c.update(func(states []State) {
			for i := range states {
				states[i] = State{Server: servers[i], Role: RoleReplica, Up: true, Timeline: 1}
			}
			states[0].Role = RolePrimary
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { c.Track(ctx) })
		test(t, c, g)
		cancel()
		wg.Wait()
	})
}

func TestFreshAfterReplay(t *testing.T) {
	tracked(t, 0, func(t *testing.T, c *Cluster, g *gauges) {
		a, b := c.o.Servers[1], c.o.Servers[2]
		g.set(100, 50, 100)
		commit := Now()
		if !c.AwaitFresh(t.Context(), commit, time.Second) {
			t.Fatal("no replica is fresh")
		}
		if a.Fresh(commit) || !b.Fresh(commit) {
			t.Errorf("fresh: a %v, b %v", a.Fresh(commit), b.Fresh(commit))
		}
		if c.AwaitFreshOn(t.Context(), a, "", commit, 20*time.Millisecond) {
			t.Error("a is fresh before it replayed")
		}
		g.set(100, 100, 100)
		if !c.AwaitFreshOn(t.Context(), a, "", commit, time.Second) {
			t.Error("a is not fresh though it replayed")
		}
		if n := c.Topology().Replica(0, Never); n != nil {
			t.Errorf("%s serves what nobody can", n.Address)
		}
	})
}

// A crashed replica comes back with less than it had: it is not as fresh as before.
func TestFreshnessGoesBack(t *testing.T) {
	tracked(t, 0, func(t *testing.T, c *Cluster, g *gauges) {
		a := c.o.Servers[1]
		g.set(100, 100, 100)
		first := Now()
		if !c.AwaitFreshOn(t.Context(), a, "", first, time.Second) {
			t.Fatal("not fresh")
		}
		g.set(200, 60, 200)
		if c.AwaitFreshOn(t.Context(), a, "", Now(), 20*time.Millisecond) || a.Fresh(first) {
			t.Error("still fresh")
		}
	})
}

// A replica that hangs holds up nothing but itself.
func TestHangingReplica(t *testing.T) {
	tracked(t, 1, func(t *testing.T, c *Cluster, g *gauges) {
		for range 5 {
			g.set(g.inserted+10, 0, g.inserted+10)
			began := time.Now()
			if !c.AwaitFresh(t.Context(), Now(), time.Second) {
				t.Fatal("not fresh")
			}
			if took := time.Since(began); took > 5*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// Reads that wait at the same time share one sample, taken after they came.
func TestSharedSamples(t *testing.T) {
	tracked(t, 0, func(t *testing.T, c *Cluster, g *gauges) {
		g.set(100, 100, 100)
		c.AwaitFresh(t.Context(), Now(), time.Second)
		time.Sleep(100 * time.Millisecond)
		g.mu.Lock()
		before := g.samples
		g.mu.Unlock()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if !c.AwaitFresh(t.Context(), Now(), time.Second) {
					t.Error("not fresh")
				}
			})
		}
		wg.Wait()
		if n := g.samples - before; n < 1 || n > 2 {
			t.Errorf("%d samples for 1000 reads", n)
		}
	})
}

// Who waits is woken once its own need is met, and leaves nothing behind for who waits next,
// however it ended.
func TestWaiters(t *testing.T) {
	tracked(t, 0, func(t *testing.T, c *Cluster, g *gauges) {
		g.set(100, 100, 100)
		c.AwaitFresh(t.Context(), Now(), time.Second)
		a, b := c.o.Servers[1], c.o.Servers[2]
		for range 3 {
			time.Sleep(time.Millisecond)
			g.set(200, 100, 200) // a stands still
			commit := Now()
			ended, end := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for s, wants := range map[*Server]bool{a: false, b: true, nil: true} {
				wg.Go(func() {
					fresh := false
					if s == nil {
						fresh = c.AwaitFresh(t.Context(), commit, 10*time.Millisecond)
					} else {
						fresh = c.AwaitFreshOn(t.Context(), s, "", commit, 10*time.Millisecond)
					}
					if fresh != wants {
						t.Errorf("fresh: %v, of %v", fresh, s)
					}
				})
			}
			wg.Go(func() {
				if c.AwaitFreshOn(ended, a, "", commit, time.Second) {
					t.Error("fresh for who left")
				}
			})
			time.Sleep(5 * time.Millisecond)
			end()
			wg.Wait()
			if n := len(c.tracker.waiters); n != 0 || len(c.tracker.spare) != 4 {
				t.Errorf("%d wait, %d are spare", n, len(c.tracker.spare))
			}
			g.set(200, 200, 200)
			if !c.AwaitFreshOn(t.Context(), a, "", commit, time.Second) {
				t.Error("it caught up, and is not fresh")
			}
			g.set(100, 100, 100)
		}
	})
}

// What lags longer than a read may wait is not waited for; that it caught up is
// learned all the same.
func TestWaitsOnlyIfLikely(t *testing.T) {
	tracked(t, 0, func(t *testing.T, c *Cluster, g *gauges) {
		g.set(100, 100, 100)
		c.AwaitFresh(t.Context(), Now(), time.Second)
		g.set(200, 100, 100)
		if c.AwaitFresh(t.Context(), Now(), 10*time.Millisecond) {
			t.Fatal("fresh too early")
		}
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		c.AwaitFresh(t.Context(), Now(), 10*time.Millisecond)
		if took := time.Since(began); took > time.Millisecond {
			t.Errorf("a read waited %v for what stands still", took)
		}
		g.set(200, 200, 200)
		time.Sleep(100 * time.Millisecond)
		g.set(300, 300, 300)
		time.Sleep(2 * time.Second)
		if !c.AwaitFresh(t.Context(), Now(), 10*time.Millisecond) {
			t.Error("replicas that caught up are not waited for")
		}
	})
}

func TestCovering(t *testing.T) {
	tracked(t, 0, func(t *testing.T, c *Cluster, g *gauges) {
		g.set(100, 100, 50)
		at, err := c.Sampled(t.Context(), Now())
		if err != nil || at != 100 {
			t.Fatal(at, err)
		}
		asOf := c.Covering(t.Context(), 80, time.Second)
		if !c.AwaitFreshOn(t.Context(), c.o.Servers[1], "", asOf, time.Second) {
			t.Error("a has it and does not serve it")
		}
		if c.AwaitFreshOn(t.Context(), c.o.Servers[2], "", asOf, 10*time.Millisecond) {
			t.Error("b lacks it and serves it")
		}
		if asOf := c.Covering(t.Context(), 101, 10*time.Millisecond); asOf != Never {
			t.Errorf("what the primary has not reached is covered by %v", asOf)
		}
	})
}

// What was inserted and is not flushed keeps a replica from nothing for long.
func TestUnflushed(t *testing.T) {
	tracked(t, 0, func(t *testing.T, c *Cluster, g *gauges) {
		g.mu.Lock()
		g.unflushed = 30
		g.mu.Unlock()
		g.set(130, 100, 99)
		commit := Now()
		if c.AwaitFresh(t.Context(), commit, 100*time.Millisecond) {
			t.Error("a commit may be among what is not flushed")
		}
		time.Sleep(2 * time.Second)
		a, b := c.topo.Load().Replicas[0], c.topo.Load().Replicas[1]
		if !c.AwaitFreshOn(t.Context(), a, "", commit, 100*time.Millisecond) {
			t.Error("the commit is flushed by now, and replayed")
		}
		if b.Fresh(commit) {
			t.Error("b lacks what is flushed")
		}
		if a.Fresh(Now()) {
			t.Error("it is no proof of the present")
		}
	})
}

// Samples are thinned, not lost: what a replica far behind has is still known.
func TestManySamples(t *testing.T) {
	tr := newTracker()
	for i := range 100000 {
		tr.samples.note(sample{Moment(i * 1000), Moment(i * 1000), lsn.LSN(i)})
	}
	if n := len(tr.samples); n > maxSamples {
		t.Errorf("%d samples", n)
	}
	for _, behind := range []int{1, 10, 100, 1000, 10000, 90000} {
		at, _ := tr.samples.reached(lsn.LSN(100000-behind), -1)
		if known := 100000 - int(at)/1000; known < behind || known > behind+behind/4+2 {
			t.Errorf("%d samples behind, known as %d", behind, known)
		}
	}
}
