package pool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/pool/backend"
)

var errSlots = errors.New("sorry, too many clients already")

// server lets in so many, of whom others may have some.
type server struct {
	fake
	slots, others atomic.Int64
	logins        atomic.Int64
}

func newServer(slots int64) *server {
	s := &server{}
	s.slots.Store(slots)
	s.dial = func(ctx context.Context) error {
		time.Sleep(3 * time.Millisecond)
		s.logins.Add(1)
		if s.open.Load()+s.others.Load() >= s.slots.Load() {
			return errSlots
		}
		return ctx.Err()
	}
	return s
}

// pools are n of the server under one limit.
func (s *server) pools(n int, all *Limit, o Options) (ps []*Pool) {
	o.Limits, o.Dial = []*Limit{all}, s.connect
	o.Full = func(err error) *Limit {
		if errors.Is(err, errSlots) {
			return all
		}
		return nil
	}
	for range n {
		ps = append(ps, New(o))
	}
	return ps
}

// Pools that together want more than their server lets in share that: everybody has his
// turn, about equally soon, and the server is not pestered.
func TestServerLetsInFewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, all := newServer(5), NewLimit(0, 0)
		ps := s.pools(8, all, Options{Size: 20, AcquireTimeout: 30 * time.Second})
		var served [8]atomic.Int64
		var clients sync.WaitGroup
		until := time.Now().Add(20 * time.Second)
		for i := range 8 * 20 {
			clients.Go(func() {
				for time.Now().Before(until) {
					b, err := ps[i%8].Acquire(Want{}, always)
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(10 * time.Millisecond)
					served[i%8].Add(1)
					ps[i%8].Release(b)
				}
			})
		}
		clients.Wait()
		least, most := served[0].Load(), served[0].Load()
		for i := range served {
			least, most = min(least, served[i].Load()), max(most, served[i].Load())
		}
		if least < most/2 || least < 100 {
			t.Errorf("the pools were served between %d and %d times", least, most)
		}
		if n := all.Slots().Refused; n > 200 {
			t.Errorf("%d logins were refused in 20 s", n)
		}
		t.Logf("between %d and %d times, %d logins, %d refused", least, most, s.logins.Load(), all.Slots().Refused)
		closeAll(t, ps, all)
	})
}

func closeAll(t *testing.T, ps []*Pool, l *Limit) {
	t.Helper()
	for _, p := range ps {
		p.Close()
	}
	if l.n != 0 || l.dialing != 0 || l.privileged != 0 || l.claims != 0 {
		t.Errorf("the limit still counts %d, %d, %d, %d", l.n, l.dialing, l.privileged, l.claims)
	}
}

// While others have all slots one waits for as long as he may, is told why, and is served soon
// after there is a slot; so is the next, who finds more.
func TestOthersHaveTheSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, all := newServer(4), NewLimit(0, 0)
		s.others.Store(4)
		ps := s.pools(2, all, Options{Size: 4, AcquireTimeout: 10 * time.Second})
		_, err := ps[0].Acquire(Want{}, always)
		if !errors.Is(err, ErrTimeout) || !errors.Is(Refusal(err), errSlots) {
			t.Errorf("told %v", err)
		}
		if _, err := ps[0].Acquire(Want{Replaceable: true}, always); !errors.Is(err, errSlots) {
			t.Errorf("who could go elsewhere is told %v", err)
		}
		before := s.logins.Load()
		waiting := acquire(ps[0], Want{}, context.Background())
		time.Sleep(5 * time.Second)
		if n := s.logins.Load() - before; n < int64(5*time.Second/(maxPause*3/2)) || n > 20 {
			t.Errorf("%d logins were tried in 5 s", n)
		}
		s.others.Store(1)
		freed := time.Now()
		got := []result{<-waiting}
		for _, p := range []*Pool{ps[1], ps[0]} {
			got = append(got, <-acquire(p, Want{}, context.Background()))
		}
		if took := time.Since(freed); took > 2*maxPause {
			t.Errorf("three were served within %v", took)
		}
		for i, r := range got {
			if r.err != nil {
				t.Fatal(r.err)
			}
			ps[i%2].Release(r.b)
		}
		closeAll(t, ps, all)
	})
}

// One who gives up while the server is full is forgotten.
func TestGivesUpWhileFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, all := newServer(0), NewLimit(0, 0)
		ps := s.pools(1, all, Options{Size: 4})
		ctx, cancel := context.WithCancel(context.Background())
		waiting := acquire(ps[0], Want{}, ctx)
		time.Sleep(3 * time.Second)
		cancel()
		if r := <-waiting; !errors.Is(r.err, context.Canceled) {
			t.Errorf("told %v", r.err)
		}
		wantStats(t, ps[0], 0, 0, 0, 0)
		waiting = acquire(ps[0], Want{}, context.Background())
		time.Sleep(time.Second)
		ps[0].Close()
		if r := <-waiting; !errors.Is(r.err, ErrClosed) {
			t.Errorf("told %v", r.err)
		}
		closeAll(t, nil, all)
	})
}

// What must be connected is, pools making way.
func TestClaim(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, all := newServer(2), NewLimit(0, 0)
				ps := s.pools(1, all, Options{Size: 2})
				a, b := mustAcquire(t, ps[0], Want{}), mustAcquire(t, ps[0], Want{})
				if !busy {
					ps[0].Release(a)
				}
				var own *backend.Backend
				claimed := make(chan error, 1)
				go func() {
					claimed <- all.Claim(context.Background(), func() (err error) {
						own, err = s.connect(context.Background())
						return err
					}, func(err error) bool { return errors.Is(err, errSlots) })
				}()
				time.Sleep(time.Second)
				if busy {
					ps[0].Release(a)
				}
				if err := <-claimed; err != nil {
					t.Fatal(err)
				}
				ps[0].Release(b)
				if n := all.Slots().Open; n != 2 {
					t.Errorf("%d connections count", n)
				}
				own.Close()
				all.Give()
				closeAll(t, ps, all)
			})
		})
	}
}

// A claim beyond the bound takes the place of an idle connection, or of the next given back.
func TestClaimBeyondTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, all := newServer(100), NewLimit(2, 0)
		ps := s.pools(1, all, Options{Size: 5})
		a, b := mustAcquire(t, ps[0], Want{}), mustAcquire(t, ps[0], Want{})
		ps[0].Release(a)
		claim := func() {
			if err := all.Claim(context.Background(), func() error { return nil }, func(error) bool { return false }); err != nil {
				t.Error(err)
			}
		}
		claim()
		wantStats(t, ps[0], 1, 0, 1, 0)
		claim()
		ps[0].Release(b)
		synctest.Wait()
		wantStats(t, ps[0], 0, 0, 0, 0)
		waiting := acquire(ps[0], Want{}, context.Background())
		time.Sleep(time.Second)
		wantStats(t, ps[0], 0, 0, 0, 1)
		all.Give()
		ps[0].Release((<-waiting).b)
		all.Give()
		closeAll(t, ps, all)
	})
}

// Of what is reserved others take nothing, and privileged pools go first.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, all := newServer(100), NewLimit(4, 1)
		others := s.pools(1, all, Options{Size: 10})
		admins := s.pools(1, all, Options{Size: 10, Privileged: true})
		var held []*backend.Backend
		for range 3 {
			held = append(held, mustAcquire(t, others[0], Want{}))
		}
		waiting := acquire(others[0], Want{}, context.Background())
		time.Sleep(time.Second)
		wantStats(t, others[0], 3, 0, 3, 1)
		first := mustAcquire(t, admins[0], Want{}) // at once
		second := acquire(admins[0], Want{}, context.Background())
		time.Sleep(time.Second)
		wantStats(t, admins[0], 1, 0, 1, 1)
		others[0].Release(held[0])
		r := <-second // though another one came before
		wantStats(t, others[0], 2, 0, 2, 1)
		admins[0].Release(r.b)
		admins[0].Discard(first)
		r = <-waiting
		for _, b := range append(held[1:], r.b) {
			others[0].Release(b)
		}
		closeAll(t, append(others, admins...), all)
	})
}

// Connections that were made together do not end together, and none outlives its time.
func TestLifetimesDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(100)
		p := New(Options{Size: 50, MaxLifetime: time.Hour, Dial: s.connect})
		var bs []*backend.Backend
		for range 50 {
			bs = append(bs, mustAcquire(t, p, Want{}))
		}
		for _, b := range bs {
			p.Release(b)
		}
		left := func(after time.Duration) int {
			_ = p.Maintain(context.Background(), time.Now().Add(after))
			return p.Stats().Open
		}
		if n := left(53 * time.Minute); n != 50 {
			t.Errorf("%d are left after 53 m", n)
		}
		if n := left(57 * time.Minute); n < 5 || n > 45 {
			t.Errorf("%d are left after 57 m", n)
		}
		if n := left(time.Hour + time.Second); n != 0 {
			t.Errorf("%d are left after an hour", n)
		}
		p.Close()
	})
}

// A warm pool is filled before anybody asks.
func TestWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, warm := range []bool{true, false} {
			s, want := newServer(100), 0
			p := New(Options{Size: 5, MinIdle: 2, Warm: warm, Dial: s.connect})
			if warm {
				want = 2
			}
			_ = p.Maintain(context.Background(), time.Now())
			wantStats(t, p, want, want, 0, 0)
			p.Close()
		}
	})
}
