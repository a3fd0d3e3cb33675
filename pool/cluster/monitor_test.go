package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1), replica(1))
		if tp := w.Topology(); tp.Known || tp.Primary != nil {
			t.Errorf("before anybody was asked: %+v", tp)
		}
		synctest.Wait()
		tp := w.Topology()
		if !tp.Known || tp.Primary != w.servers[0] || len(tp.Replicas) != 2 {
			t.Fatalf("%+v", tp)
		}
		if tp.Role(w.servers[2]) != RoleReplica || tp.State(w.servers[0]).Version != 150000 {
			t.Errorf("%+v", tp.States)
		}
		if told := w.told(); !slices.Equal(told, []string{"server0 primary", "server1 replica", "server2 replica"}) {
			t.Errorf("changes told: %q", told)
		}
		w.fakes.set(1, Probe{}, errDown)
		time.Sleep(interval)
		synctest.Wait()
		if tp := w.Topology(); len(tp.Replicas) != 1 || tp.Role(w.servers[1]) != RoleReplica || !errors.Is(tp.States[1].Err, errDown) {
			t.Errorf("with one down: %+v", tp.States)
		}
		w.fakes.set(1, replica(1), nil)
		time.Sleep(interval)
		synctest.Wait()
		if len(w.Topology().Replicas) != 2 {
			t.Error("up again and not seen")
		}
		if told := w.told(); !slices.Equal(told, []string{"server1 replica down", "server1 replica"}) {
			t.Errorf("changes told: %q", told)
		}
	})
}

// With nothing to wait for, each server is asked once an interval.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		time.Sleep(100*interval + interval/2)
		if n := w.fakes.count(); n != 2*101 {
			t.Errorf("%d probes in 100 intervals, want 202", n)
		}
	})
}

// While there is no primary and somebody waits for one, the monitor neither spins
// nor sleeps: it looks every tenth of the interval, however many wait.
func TestPaceWithoutPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, replica(1), replica(1))
		synctest.Wait()
		const waiters = 20
		found := make(chan *Server, waiters)
		for range waiters {
			go func() {
				s, err := w.WaitPrimary(context.Background())
				if err != nil {
					t.Error(err)
				}
				found <- s
			}()
		}
		synctest.Wait()
		before := w.fakes.count()
		time.Sleep(10 * interval)
		looks := (w.fakes.count() - before) / 2
		if looks < 90 || looks > 110 {
			t.Errorf("%d looks in 10 intervals, want 100", looks)
		}
		w.fakes.set(1, primary(2), nil)
		promoted := time.Now()
		for range waiters {
			if s := <-found; s != w.servers[1] {
				t.Errorf("found %v", s)
			}
		}
		if took := time.Since(promoted); took > interval/10 {
			t.Errorf("a new primary was seen after %v", took)
		}
		synctest.Wait()
		before = w.fakes.count()
		time.Sleep(10 * interval)
		if looks := (w.fakes.count() - before) / 2; looks > 12 {
			t.Errorf("%d looks in 10 intervals with nobody waiting", looks)
		}
	})
}

// However often it is kicked, it keeps a distance between looks.
func TestKicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1))
		synctest.Wait()
		before := w.fakes.count()
		for range 1000 {
			w.Kick()
			time.Sleep(time.Millisecond)
		}
		if n := w.fakes.count() - before; n < 9 || n > 11 {
			t.Errorf("%d looks in a second of kicks, want 10", n)
		}
	})
}

func TestWaitPrimaryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		synctest.Wait()
		w.fakes.set(0, Probe{}, errDown)
		time.Sleep(interval)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		before := time.Now()
		_, err := w.WaitPrimary(ctx)
		if !errors.Is(err, ErrNoPrimary) || !strings.Contains(err.Error(), "server0: connection refused") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(before); took != 3*time.Second {
			t.Errorf("gave up after %v", took)
		}
	})
}

// A suspected server serves nothing until a look clears it, which comes soon.
func TestSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		time.Sleep(interval / 2)
		since := w.Topology().States[1].Since
		w.fakes.set(1, Probe{}, errDown)
		w.Suspect(w.servers[1], errDown)
		if len(w.Topology().Replicas) != 0 || !errors.Is(w.Topology().States[1].Err, errDown) {
			t.Error("it still serves")
		}
		w.Suspect(w.servers[1], errors.New("again")) // tells nothing new
		if got := w.Topology().States[1]; !errors.Is(got.Err, errDown) || !got.Since.After(since) {
			t.Errorf("%+v", got)
		}
		w.fakes.set(1, replica(1), nil)
		time.Sleep(interval/10 + time.Millisecond)
		synctest.Wait()
		if len(w.Topology().Replicas) != 1 {
			t.Error("it is not cleared")
		}
	})
}

// A failover: the old primary goes, a replica is promoted, the old one comes back
// as it was, then as a replica.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1), replica(1))
		synctest.Wait()
		w.fakes.set(0, Probe{}, errDown)
		time.Sleep(interval)
		synctest.Wait()
		if w.Topology().Primary != nil {
			t.Fatal("the old primary is still one")
		}
		w.fakes.set(2, primary(2), nil)
		time.Sleep(interval)
		synctest.Wait()
		if w.Topology().Primary != w.servers[2] {
			t.Fatal("the new primary is not seen")
		}
		w.fakes.set(0, primary(1), nil) // it does not know yet
		time.Sleep(2 * interval)
		synctest.Wait()
		if tp := w.Topology(); tp.Primary != w.servers[2] || slices.Contains(tp.Replicas, w.servers[0]) {
			t.Error("the old primary is used")
		}
		w.fakes.set(0, replica(2), nil)
		time.Sleep(2 * interval)
		synctest.Wait()
		if tp := w.Topology(); tp.Primary != w.servers[2] || !slices.Equal(tp.Replicas, []*Server{w.servers[0], w.servers[1]}) {
			t.Errorf("%+v", tp)
		}
	})
}

// A server that goes and comes at every look is told of each time, and never
// leaves the others in doubt.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		synctest.Wait()
		w.told()
		for i := range 20 {
			if i%2 == 0 {
				w.fakes.set(1, Probe{}, errDown)
			} else {
				w.fakes.set(1, replica(1), nil)
			}
			time.Sleep(interval)
			synctest.Wait()
			if tp := w.Topology(); tp.Primary != w.servers[0] || len(tp.Replicas) != i%2 {
				t.Fatalf("step %d: %+v", i, tp)
			}
		}
		if n := len(w.told()); n != 20 {
			t.Errorf("%d changes told, want 20", n)
		}
	})
}

// A server that hangs is down when the look's time is up, and the others are
// looked at all the same.
func TestHangingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		w.fakes.hang(1)
		time.Sleep(timeout + interval/10)
		synctest.Wait()
		if tp := w.Topology(); tp.Primary != w.servers[0] || len(tp.Replicas) != 0 || !errors.Is(tp.States[1].Err, context.DeadlineExceeded) {
			t.Errorf("%+v", tp.States)
		}
	})
}

// As long as there is nobody to log in as, nothing is known, and nothing is told.
func TestNoLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		w.fakes.set(0, Probe{}, ErrNoLogin)
		w.fakes.set(1, Probe{}, ErrNoLogin)
		time.Sleep(interval)
		synctest.Wait()
		if tp := w.Topology(); tp.Known || tp.Primary != nil {
			t.Errorf("%+v", tp)
		}
		w.fakes.set(0, primary(1), nil)
		w.fakes.set(1, replica(1), nil)
		if s, err := w.WaitPrimary(t.Context()); err != nil || s != w.servers[0] || !w.Topology().Known {
			t.Errorf("%v, %v", s, err)
		}
	})
}
