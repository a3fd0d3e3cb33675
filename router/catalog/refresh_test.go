package catalog

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// refreshing is a Refresher in a bubble with a record of what it does.
type refreshing struct {
	*Refresher
	start time.Time

	mu        sync.Mutex      // protects the fields below
	loads     []time.Duration // when each load began
	published []uint64
	failures  int

	version uint64        // of the next load
	err     error         // of the next load
	takes   time.Duration // each load

	stop func() // and wait for the end
}

// next says how the next loads go.
func (r *refreshing) next(version uint64, err error, takes time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version, r.err, r.takes = version, err, takes
}

func (r *refreshing) record(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func refresh(t *testing.T, o RefreshOptions) *refreshing {
	r := &refreshing{start: time.Now(), version: 1}
	o.Load = func(ctx context.Context, previous *Snapshot) (*Snapshot, error) {
		r.mu.Lock()
		r.loads = append(r.loads, time.Since(r.start))
		s, err, takes := &Snapshot{loaded: true, version: r.version}, r.err, r.takes
		r.mu.Unlock()
		select {
		case <-time.After(takes):
			return s, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	o.Publish = func(s *Snapshot) { r.record(func() { r.published = append(r.published, s.Version()) }) }
	o.Failed = func(error) { r.record(func() { r.failures++ }) }
	r.Refresher = NewRefresher(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	r.stop = func() { cancel(); <-done }
	return r
}

func (r *refreshing) failed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures
}

// pass lets time pass and everything due in it end.
func pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func (r *refreshing) want(t *testing.T, loads ...time.Duration) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.loads, loads) {
		t.Fatalf("loads at %v, want %v", r.loads, loads)
	}
}

// TestRefreshHurry: who waits for a change does not wait for more changes.
func TestRefreshHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refresh(t, RefreshOptions{Delay: time.Second})
		pass(10 * time.Second)
		r.Changed()
		pass(100 * time.Millisecond)
		r.Hurry()
		pass(10 * time.Second)
		r.want(t, 0, 10100*time.Millisecond)
		r.stop()
	})
}

func TestRefreshInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refresh(t, RefreshOptions{Interval: time.Minute})
		pass(2*time.Minute + time.Second)
		r.next(2, nil, 0)
		pass(time.Minute)
		r.stop()
		r.want(t, 0, time.Minute, 2*time.Minute, 3*time.Minute)
		if !slices.Equal(r.published, []uint64{1, 2}) {
			t.Errorf("published %v: equal versions must be published once", r.published)
		}
		pass(time.Hour)
		r.want(t, 0, time.Minute, 2*time.Minute, 3*time.Minute)
	})
}

func TestRefreshChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refresh(t, RefreshOptions{Delay: time.Second})
		pass(10 * time.Second)
		for range 5 { // joined to one load
			r.Changed()
			pass(100 * time.Millisecond)
		}
		if !r.Stale() {
			t.Error("not stale after Changed")
		}
		pass(time.Minute)
		r.want(t, 0, 11400*time.Millisecond)
		if r.Stale() {
			t.Error("stale after the load")
		}
		r.next(1, nil, 10*time.Second)
		r.Changed()
		pass(5 * time.Second) // a load runs since 4 s
		r.Changed()           // it may have missed this
		pass(7 * time.Second)
		if !r.Stale() {
			t.Error("a load that began before the change counted")
		}
		pass(time.Minute)
		// The first load began a second after its change; the next later, for the first took long.
		first := 10*time.Second + 500*time.Millisecond + time.Minute + time.Second
		r.want(t, 0, 11400*time.Millisecond, first, first+15*time.Second)
		if r.Stale() {
			t.Error("stale at the end")
		}
		r.stop()
	})
}

// TestRefreshPace: where changes do not end, loads come all the same, but they take a fifth of
// the time at most.
func TestRefreshPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refresh(t, RefreshOptions{Delay: time.Second})
		pass(10 * time.Second)
		r.next(1, nil, 500*time.Millisecond)
		for range 410 {
			r.Changed()
			pass(100 * time.Millisecond)
		}
		r.want(t, 0, 30*time.Second, 50500*time.Millisecond)
		pass(time.Minute) // two seconds of it are quiet
		r.want(t, 0, 30*time.Second, 50500*time.Millisecond, 53*time.Second)
		r.stop()
	})
}

func TestRefreshFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refresh(t, RefreshOptions{Interval: time.Minute, Retry: 5 * time.Second})
		pass(time.Second)
		good := r.Snapshot()
		r.next(1, errors.New("no connection"), 0)
		pass(time.Minute)
		if r.Snapshot() != good || r.failed() != 1 {
			t.Errorf("%d failures, snapshot kept: %v", r.failed(), r.Snapshot() == good)
		}
		r.next(7, nil, 0)
		pass(5 * time.Second)
		r.want(t, 0, time.Minute, 65*time.Second)
		r.stop()
		if r.Snapshot().Version() != 7 || !slices.Equal(r.published, []uint64{1, 7}) {
			t.Errorf("published %v", r.published)
		}
	})
}

func TestRefreshTimeoutAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refresh(t, RefreshOptions{Timeout: time.Second, Retry: time.Minute})
		synctest.Wait()
		r.next(1, nil, time.Hour)
		r.Changed()
		pass(2 * time.Second) // 200 ms, then the timeout
		if r.failed() != 1 || !r.Stale() {
			t.Errorf("%d failures, stale %v", r.failed(), r.Stale())
		}
		r.Changed()
		pass(500 * time.Millisecond) // a load runs
		r.stop()
		if r.failed() != 1 {
			t.Error("stopping counted as a failure")
		}
	})
}

// TestRefreshDatabase: with a real database, DDL followed by Changed is published.
func TestRefreshDatabase(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	q := connect(t, c.Primary, db, pgtest.Superuser)
	published := make(chan *Snapshot, 10)
	r := NewRefresher(RefreshOptions{
		Delay: time.Millisecond,
		Load: func(ctx context.Context, previous *Snapshot) (*Snapshot, error) {
			return Load(ctx, q, LoadOptions{Previous: previous})
		},
		Publish: func(s *Snapshot) { published <- s },
		Failed:  func(err error) { t.Error(err) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	defer running.Wait()
	defer cancel()
	if s := <-published; s.Relation("", "arrived").Known {
		t.Error("known before it was made")
	}
	if err := c.Primary.Exec(t.Context(), db, "create table arrived (id int)"); err != nil {
		t.Fatal(err)
	}
	r.Changed()
	if s := <-published; !s.Relation("", "arrived").Replica || r.Snapshot() != s {
		t.Error("not known after it was made")
	}
}
