package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool/backend"
)

func TestLimitIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		both := NewLimit(2, 0)
		p := New(Options{Size: 2, Limits: []*Limit{both, nil}, Dial: f.connect})
		q := New(Options{Size: 2, Limits: []*Limit{both}, Dial: f.connect})
		a, b := mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{})
		waiting := acquire(q, Want{}, context.Background())
		synctest.Wait()
		wantStats(t, q, 0, 0, 0, 1)
		p.Release(a) // nobody waits for it here
		r := <-waiting
		wantStats(t, p, 1, 0, 1, 0)
		q.Release(r.b)
		p.Release(b)
		wantStats(t, p, 1, 1, 0, 0)
		wantStats(t, q, 1, 1, 0, 0)
		if most := f.most.Load(); most != 2 {
			t.Errorf("%d connections at one time, limit 2", most)
		}
		p.Close()
		q.Close()
	})
}

// What another pool keeps idle is closed for one that waits.
func TestIdleOfOthersIsReclaimed(t *testing.T) {
	f := &fake{}
	both := NewLimit(3, 0)
	p := New(Options{Size: 3, Dialing: 1, Limits: []*Limit{both}, Dial: f.connect})
	q := New(Options{Size: 3, Dialing: 1, Limits: []*Limit{both}, Dial: f.connect})
	var bs []*backend.Backend
	for range 3 {
		bs = append(bs, mustAcquire(t, p, Want{}))
	}
	for _, b := range bs {
		p.Release(b)
	}
	var got []<-chan result
	for range 3 {
		got = append(got, acquire(q, Want{}, context.Background()))
	}
	for _, c := range got {
		bs = append(bs, (<-c).b)
	}
	wantStats(t, p, 0, 0, 0, 0)
	wantStats(t, q, 3, 0, 3, 0)
	for _, b := range bs[3:] {
		q.Release(b)
	}
	p.Close()
	q.Close()
}

// A limit full of a pool's own connections, none of which fits, must not block it.
func TestOwnIdleThatDoesNotFit(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 5, Limits: []*Limit{NewLimit(1, 0)}, Dial: f.connect})
	b := mustAcquire(t, p, Want{})
	b.NoteMayDefine(setting.Names{}.With([]string{"app.tenant"}))
	p.Release(b)
	c := mustAcquire(t, p, Want{})
	if c == b || f.most.Load() != 1 {
		t.Errorf("the same: %v; %d connections at one time", c == b, f.most.Load())
	}
	p.Release(c)
	p.Close()
}

// Opening what min_idle asks is no reason to take anything from others.
func TestMinIdleTakesNothing(t *testing.T) {
	f := &fake{}
	both := NewLimit(2, 0)
	p := New(Options{Size: 2, Limits: []*Limit{both}, Dial: f.connect})
	q := New(Options{Size: 2, MinIdle: 2, Limits: []*Limit{both}, Dial: f.connect})
	q.Discard(mustAcquire(t, q, Want{}))
	a, b := mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{})
	if err := q.Maintain(context.Background(), time.Now()); err != nil {
		t.Fatal(err)
	}
	p.Release(a)
	p.Release(b)
	wantStats(t, p, 2, 2, 0, 0)
	p.Close()
	q.Close()
}

// A pool whose own callers never leave it a free connection still lets another have its turn.
func TestBusyPoolStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		both := NewLimit(2, 0)
		p := New(Options{Size: 2, Limits: []*Limit{both}, Dial: f.connect})
		q := New(Options{Size: 2, Limits: []*Limit{both}, AcquireTimeout: 10 * time.Second, Dial: f.connect})
		stop := make(chan struct{})
		var busy sync.WaitGroup
		for range 8 {
			busy.Go(func() {
				for {
					b, err := p.Acquire(Want{}, always)
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(10 * time.Millisecond)
					p.Release(b)
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for range 5 {
			before := time.Now()
			b, err := q.Acquire(Want{}, always)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(before); took > 2*handOver {
				t.Errorf("waited %v", took)
			}
			q.Discard(b)
		}
		close(stop)
		busy.Wait()
		p.Close()
		q.Close()
	})
}

// storm is a random use of several pools by many goroutines.
type storm struct {
	pools    []*Pool
	users    sync.Map // *backend.Backend → goroutine that has it
	acquired atomic.Int64
}

func (s *storm) work(t *testing.T, me int, rnd *rand.Rand, until time.Time) {
	names := []setting.Names{{}, setting.Names{}.With([]string{"app.a"}), setting.Names{}.With([]string{"app.a", "app.b"})}
	for time.Now().Before(until) {
		p := s.pools[rnd.IntN(len(s.pools))]
		want := Want{Defined: names[rnd.IntN(len(names))]}
		ctx, cancel := context.WithCancel(context.Background())
		if rnd.IntN(4) == 0 {
			time.AfterFunc(time.Duration(rnd.IntN(2000))*time.Microsecond, cancel)
		}
		b, err := p.Acquire(want, patient{ctx})
		if err != nil {
			cancel()
			if !errors.Is(err, context.Canceled) && !errors.Is(err, errRefused) {
				t.Errorf("acquire: %v", err)
			}
			continue
		}
		s.acquired.Add(1)
		if other, taken := s.users.LoadOrStore(b, me); taken {
			t.Errorf("%d got the connection %v has", me, other)
		}
		if !b.MayDefine().Within(want.Defined) {
			t.Error("got a connection where more is defined than the session may find")
		}
		b.NoteMayDefine(want.Defined)
		if n := rnd.IntN(20); n > 10 {
			time.Sleep(time.Duration(n) * 20 * time.Microsecond)
		}
		s.users.Delete(b)
		switch rnd.IntN(30) {
		case 0:
			p.Discard(b)
		case 1:
			p.Release(b)
			p.Expire()
		case 2:
			p.Release(b)
			_ = p.Maintain(ctx, time.Now().Add(time.Duration(rnd.IntN(100))*time.Second))
		default:
			p.Release(b)
		}
		cancel()
	}
}

// Many goroutines use three pools under two limits, giving up, discarding,
// expiring as it comes, while the server now and then lets in fewer. No bound is ever exceeded, no connection has two users,
// nobody times out, and in the end nothing is left.
func TestStorm(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	wide, narrow := NewLimit(7, 0), NewLimit(3, 0)
	s := &storm{}
	var each []*fake
	inWide, inNarrow := &fake{}, &fake{}
	for i, limits := range [][]*Limit{{wide}, {wide, narrow}, {narrow, wide}} {
		own := &fake{counts: []*fake{inWide, inNarrow}[:len(limits)]}
		each = append(each, own)
		rnd := rand.New(rand.NewPCG(seed, uint64(1000+i)))
		var mu sync.Mutex
		own.dial = func(ctx context.Context) error {
			mu.Lock()
			n := rnd.IntN(20)
			mu.Unlock()
			switch {
			case n == 0:
				return errRefused
			case inWide.open.Load() >= 6: // others have slots, too
				return errSlots
			}
			select {
			case <-time.After(time.Duration(n) * 20 * time.Microsecond):
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		s.pools = append(s.pools, New(Options{
			Size: 4, MinIdle: i, Dialing: 2, IdleTimeout: 50 * time.Second, AcquireTimeout: 20 * time.Second,
			Limits: limits, Dial: own.connect,
			Full: func(err error) *Limit {
				if errors.Is(err, errSlots) {
					return wide
				}
				return nil
			},
		}))
	}
	until := time.Now().Add(2 * time.Second)
	var workers sync.WaitGroup
	for i := range 24 {
		workers.Go(func() { s.work(t, i, rand.New(rand.NewPCG(seed, uint64(i))), until) })
	}
	workers.Wait()
	for i, p := range s.pools {
		// What makes way for another pool's caller is closed behind who gave it back.
		for late := time.Now().Add(5 * time.Second); p.Stats().Used != 0 && time.Now().Before(late); {
			time.Sleep(time.Millisecond)
		}
		if st := p.Stats(); st.Used != 0 || st.Waiting != 0 || st.Dialing != 0 || st.TimeoutsSeen != 0 {
			t.Errorf("pool %d: %+v", i, st)
		}
		if n := each[i].most.Load(); n > 4 {
			t.Errorf("pool %d had %d connections, size 4", i, n)
		}
		p.Close()
		if n := each[i].open.Load(); n != 0 {
			t.Errorf("pool %d: %d connections are left", i, n)
		}
	}
	if w, n := inWide.most.Load(), inNarrow.most.Load(); w > 7 || n > 3 {
		t.Errorf("%d and %d connections at one time, limits 7 and 3", w, n)
	}
	if wide.n != 0 || narrow.n != 0 || len(wide.members)+len(narrow.members) != 0 {
		t.Errorf("limits still count %d and %d, %d and %d members", wide.n, narrow.n, len(wide.members), len(narrow.members))
	}
	if s.acquired.Load() < 1000 {
		t.Errorf("only %d connections were acquired", s.acquired.Load())
	}
}
