package cluster

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNobodyWasAsked(t *testing.T) {
	if tp := New(Options{Name: "c", Servers: servers(1, 1)}).Topology(); tp.Known || tp.Primary != nil {
		t.Errorf("before anybody was asked: %+v", tp)
	}
}

func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1), replica(1))
		synctest.Wait()
		tp := w.Topology()
		if !tp.Known || tp.Primary != w.servers[0] || len(tp.Replicas) != 2 {
			t.Fatalf("%+v", tp)
		}
		if tp.Role(w.servers[2]) != RoleReplica || tp.State(w.servers[0]).Version != 150000 {
			t.Errorf("%+v", tp.States)
		}
		if told := w.told(); !slices.Equal(told, []string{"server0 primary serving", "server1 replica serving", "server2 replica serving"}) {
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
		if told := w.told(); !slices.Equal(told, []string{"server1 replica down", "server1 replica serving"}) {
			t.Errorf("changes told: %q", told)
		}
	})
}

// A server of a release that this is not made for is not used, and the reason told.
func TestUnsupportedVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, beta := primary(1), replica(1)
		old.Version, beta.Version = 140009, 190000
		w := watch(t, old, replica(1), beta)
		synctest.Wait()
		tp := w.Topology()
		if tp.Primary != nil || len(tp.Replicas) != 1 || tp.Replicas[0] != w.servers[1] {
			t.Fatalf("%+v", tp)
		}
		if why := tp.reasons(); !strings.Contains(why, "server0: it runs PostgreSQL 14; supported are 15 to 18") || !strings.Contains(why, "server2: it runs PostgreSQL 19") {
			t.Errorf("the reason: %s", why)
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
// nor sleeps: it probes often, however many wait.
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
		probes := (w.fakes.count() - before) / 2
		if want := int(10 * interval / w.fastInterval()); probes < want*9/10 || probes > want*11/10 {
			t.Errorf("%d probes in 10 intervals, want %d", probes, want)
		}
		w.fakes.set(1, primary(2), nil)
		promoted := time.Now()
		for range waiters {
			if s := <-found; s != w.servers[1] {
				t.Errorf("found %v", s)
			}
		}
		if took := time.Since(promoted); took > w.fastInterval() {
			t.Errorf("a new primary was seen after %v", took)
		}
		synctest.Wait()
		before = w.fakes.count()
		time.Sleep(10 * interval)
		if probes := (w.fakes.count() - before) / 2; probes > 12 {
			t.Errorf("%d probes in 10 intervals with nobody waiting", probes)
		}
	})
}

// However often it is signalled, it keeps a distance between probes.
func TestKicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1))
		synctest.Wait()
		before := w.fakes.count()
		for range 1000 {
			w.ProbeNow()
			time.Sleep(time.Millisecond)
		}
		if n := w.fakes.count() - before; n < 18 || n > 22 {
			t.Errorf("%d probes in a second of signals, want 20", n)
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
		if !errors.Is(err, ErrNoPrimary) || !strings.Contains(err.Error(), "server0: dial: connection refused") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(before); took != 3*time.Second {
			t.Errorf("gave up after %v", took)
		}
	})
}

// A server reported unreachable serves nothing until a probe finds it, which comes soon.
func TestSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		time.Sleep(interval / 2)
		since := w.Topology().States[1].Since
		w.fakes.set(1, Probe{}, errDown)
		w.ReportUnreachable(w.servers[1], errDown)
		if len(w.Topology().Replicas) != 0 || !errors.Is(w.Topology().States[1].Err, errDown) {
			t.Error("it still serves")
		}
		w.ReportUnreachable(w.servers[1], io.EOF) // tells nothing new
		if got := w.Topology().States[1]; !errors.Is(got.Err, errDown) || !got.Since.After(since) {
			t.Errorf("%+v", got)
		}
		w.fakes.set(1, replica(1), nil)
		time.Sleep(2 * w.fastInterval())
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
		w.fakes.set(1, replica(2), nil)
		time.Sleep(2 * interval)
		synctest.Wait()
		if tp := w.Topology(); tp.Primary != w.servers[2] || !slices.Equal(tp.Replicas, []*Server{w.servers[0], w.servers[1]}) {
			t.Errorf("%+v", tp)
		}
	})
}

// A server that goes and comes at every probe is told of each time, and never
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

// A server that hangs is slow, then down when the probe's time is up. Nothing that
// is known of the others waits for it.
func TestHangingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1), replica(1))
		synctest.Wait()
		w.fakes.hang(1)
		time.Sleep(interval + slow + time.Millisecond)
		synctest.Wait()
		if tp := w.Topology(); tp.States[1].Status != StatusSlow || !slices.Equal(tp.Replicas, w.servers[2:]) {
			t.Errorf("it is not slow: %+v", tp.States)
		}
		w.fakes.set(0, Probe{}, errDown)
		w.fakes.set(2, primary(2), nil)
		time.Sleep(2 * interval)
		synctest.Wait()
		if tp := w.Topology(); tp.Primary != w.servers[2] {
			t.Errorf("what became of the others is not known: %+v", tp.States)
		}
		time.Sleep(timeout)
		synctest.Wait()
		if tp := w.Topology(); tp.States[1].Status != StatusDown || !errors.Is(tp.States[1].Err, context.DeadlineExceeded) {
			t.Errorf("it is not down: %+v", tp.States)
		}
		w.fakes.thaw(1)
		time.Sleep(timeout + interval)
		synctest.Wait()
		if tp := w.Topology(); tp.States[1].Status != StatusDiverged || tp.States[1].Server.returned.Load() == 0 {
			t.Errorf("it is not back: %+v", tp.States)
		}
	})
}

// A probe whose failure is inconclusive takes nothing away from a server that
// answers clients meanwhile; a connection refused does.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		synctest.Wait()
		w.fakes.hang(1)
		clients := time.NewTicker(slow / 3)
		defer clients.Stop()
		for range 60 {
			<-clients.C
			w.servers[1].Answered()
		}
		if told := w.told(); len(told) != 2 || len(w.Topology().Replicas) != 1 {
			t.Errorf("told %q, replicas %v", told, w.Topology().Replicas)
		}
		w.fakes.thaw(1)
		w.fakes.set(1, Probe{}, errDown)
		for range 60 {
			<-clients.C
			w.servers[1].Answered()
		}
		if len(w.Topology().Replicas) != 0 {
			t.Error("it refuses connections and is used")
		}
	})
}

// An inconclusive report brings a probe, by a new login, and nothing else.
func TestInconclusiveReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1))
		time.Sleep(interval / 2)
		w.fakes.forget()
		w.ReportUnreachable(w.servers[0], context.DeadlineExceeded)
		if w.Topology().Primary == nil {
			t.Error("it is condemned")
		}
		time.Sleep(2 * w.fastInterval())
		synctest.Wait()
		if w.fakes.count() != 1 || w.fakes.anew != 1 {
			t.Errorf("%d probes, %d by a new login", w.fakes.probes, w.fakes.anew)
		}
	})
}

// Recheck tells what a probe says that begins after it, not what was known.
func TestRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		time.Sleep(interval / 2)
		w.fakes.set(0, Probe{}, errDown)
		if st := w.Recheck(t.Context(), w.servers[0]); st.Status != StatusDown {
			t.Errorf("%+v", st)
		}
		w.fakes.set(0, primary(1), nil)
		if st := w.Recheck(t.Context(), w.servers[0]); st.Status != StatusServing {
			t.Errorf("%+v", st)
		}
		w.fakes.hang(0)
		ctx, cancel := context.WithTimeout(t.Context(), slow/2)
		defer cancel()
		if st := w.Recheck(ctx, w.servers[0]); st.Status != StatusServing {
			t.Errorf("nothing new is known: %+v", st)
		}
	})
}

// A foreign server is told of once and never used, not even when it is all there is.
func TestForeign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1), Probe{Timeline: 7, SystemID: "other", Version: 150000})
		time.Sleep(5 * interval)
		synctest.Wait()
		if told := w.told(); !slices.Equal(told, []string{"server0 primary serving", "server1 replica serving", "server2 primary foreign"}) {
			t.Errorf("told %q", told)
		}
		w.fakes.set(0, Probe{}, errDown)
		w.fakes.set(1, Probe{}, errDown)
		time.Sleep(5 * interval)
		synctest.Wait()
		if tp := w.Topology(); tp.Primary != nil || len(tp.Replicas) != 0 || tp.States[2].Status != StatusForeign {
			t.Errorf("%+v", tp)
		}
	})
}

// A server that does not answer at the start holds up the others for a moment only.
func TestStartWithHangingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		w.fakes.hang(1)
		began := time.Now()
		s, err := w.WaitPrimary(t.Context())
		if took := time.Since(began); err != nil || s != w.servers[0] || took > slow+2*w.fastInterval() {
			t.Errorf("%v, %v after %v", s, err, took)
		}
	})
}

// A server that was restarted, or is another one behind the same name, is not
// fresh until it is known to be.
func TestAnotherLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		synctest.Wait()
		w.servers[1].fresh.Store(&freshness{asOf: 5})
		p := replica(1)
		p.Started = "later"
		w.fakes.set(1, p, nil)
		time.Sleep(interval)
		synctest.Wait()
		if w.servers[1].Fresh(0) {
			t.Error("it is still held to be fresh")
		}
	})
}

// The lag of a replica is what the primary's log has and it has not replayed.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		head, behind := primary(1), replica(1)
		head.LSN, behind.LSN = 1000, 400
		w := watch(t, head, behind, replica(1))
		w.fakes.set(2, Probe{}, errDown)
		synctest.Wait()
		if lag, ok := w.Topology().Lag(w.servers[1]); lag != 600 || !ok {
			t.Errorf("%d, %v", lag, ok)
		}
		for _, i := range []int{0, 2} {
			if lag, ok := w.Topology().Lag(w.servers[i]); ok {
				t.Errorf("server %d: %d", i, lag)
			}
		}
	})
}

// As long as there is nobody to log in as, nothing is known, and nothing is told.
func TestNoLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Probe{}, Probe{})
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
