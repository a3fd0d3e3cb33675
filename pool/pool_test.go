package pool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool/backend"
)

func settings(nameValues ...string) setting.Settings {
	m := map[string]string{}
	for i := 0; i < len(nameValues); i += 2 {
		m[nameValues[i]] = nameValues[i+1]
	}
	return setting.From(m)
}

// result is what became of an Acquire in a goroutine of its own.
type result struct {
	b   *backend.Backend
	err error
}

func acquire(p *Pool, want Want, ctx context.Context) <-chan result {
	done := make(chan result, 1)
	go func() {
		b, err := p.Acquire(want, patient{ctx})
		done <- result{b, err}
	}()
	return done
}

func TestReuse(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 3, Dial: f.connect})
	a := mustAcquire(t, p, Want{})
	b := mustAcquire(t, p, Want{})
	wantStats(t, p, 2, 0, 2, 0)
	p.Release(a)
	p.Release(b)
	if got := p.TryAcquire(Want{}); got != b {
		t.Error("the connection used last was not preferred")
	}
	p.Discard(b)
	wantStats(t, p, 1, 1, 0, 0)
	p.Close()
	wantStats(t, p, 0, 0, 0, 0)
	if _, err := p.Acquire(Want{}, always); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if p.TryAcquire(Want{}) != nil || f.open.Load() != 0 {
		t.Error("a closed pool has connections")
	}
}

// Waiters are served in the order they came, and nobody who comes later gets in front.
func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := New(Options{Size: 1, Dial: f.connect})
		b := mustAcquire(t, p, Want{})
		const n = 20
		order := make(chan int, n)
		for i := range n {
			go func() {
				b, err := p.Acquire(Want{}, always)
				if err != nil {
					t.Error(err)
					return
				}
				order <- i
				p.Release(b)
			}()
			synctest.Wait()
		}
		wantStats(t, p, 1, 0, 1, n)
		if p.TryAcquire(Want{}) != nil {
			t.Error("TryAcquire overtook the waiters")
		}
		p.Release(b)
		for i := range n {
			if got := <-order; got != i {
				t.Errorf("number %d was served in place %d", got, i)
			}
		}
		synctest.Wait()
		wantStats(t, p, 1, 1, 0, 0)
		p.Close()
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := New(Options{Size: 1, AcquireTimeout: 3 * time.Second, Dial: f.connect})
		b := mustAcquire(t, p, Want{})
		before := time.Now()
		if _, err := p.Acquire(Want{}, always); !errors.Is(err, ErrTimeout) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(before); took != 3*time.Second {
			t.Errorf("timed out after %v", took)
		}
		wantStats(t, p, 1, 0, 1, 0)
		p.Release(b)
		wantStats(t, p, 1, 1, 0, 0)
		p.Close()
	})
}

// Who gives up gives up his place, with the context's cause as the error, and those behind move up.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := New(Options{Size: 1, Dial: f.connect})
		b := mustAcquire(t, p, Want{})
		ctx, cancel := context.WithCancelCause(context.Background())
		first := acquire(p, Want{}, ctx)
		synctest.Wait()
		second := acquire(p, Want{}, context.Background())
		time.Sleep(time.Second)
		synctest.Wait()
		why := errors.New("gone")
		cancel(why)
		if r := <-first; !errors.Is(r.err, why) {
			t.Errorf("error %v, want %v", r.err, why)
		}
		p.Release(b)
		if r := <-second; r.b != b {
			t.Errorf("second got %v, %v", r.b, r.err)
		}
		p.Release(b)
		wantStats(t, p, 1, 1, 0, 0)
		p.Close()
	})
}

// A grant to somebody who gives up at the same moment goes to the next.
func TestGiveUpAtTheMomentOfAGrant(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 1, Dial: f.connect})
	for range 300 {
		b := mustAcquire(t, p, Want{})
		ctx, cancel := context.WithCancel(context.Background())
		first := acquire(p, Want{}, ctx)
		for p.Stats().Waiting == 0 {
			time.Sleep(10 * time.Microsecond)
		}
		go cancel()
		p.Release(b)
		if r := <-first; r.err == nil {
			p.Release(r.b)
		}
		p.Release(mustAcquire(t, p, Want{}))
		wantStats(t, p, 1, 1, 0, 0)
	}
	p.Close()
}

// Whoever dials and fails gets the error; the place goes to the next in line.
func TestDialFailurePassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		f := &fake{dial: func(context.Context) error {
			time.Sleep(time.Second)
			if calls.Add(1) == 1 {
				return errRefused
			}
			return nil
		}}
		p := New(Options{Size: 1, Dial: f.connect})
		first := acquire(p, Want{}, context.Background())
		synctest.Wait()
		second := acquire(p, Want{}, context.Background())
		if r := <-first; !errors.Is(r.err, errRefused) {
			t.Errorf("first: %v", r.err)
		}
		r := <-second
		if r.err != nil {
			t.Fatalf("second: %v", r.err)
		}
		p.Release(r.b)
		wantStats(t, p, 1, 1, 0, 0)
		p.Close()
	})
}

// Who vanishes while his connection is dialled gives up the place as well.
func TestGiveUpWhileDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{dial: func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Hour):
				return nil
			}
		}}
		p := New(Options{Size: 1, Dial: f.connect})
		ctx, cancel := context.WithCancel(context.Background())
		first := acquire(p, Want{}, ctx)
		synctest.Wait()
		if st := p.Stats(); st.Dialing != 1 || st.Open != 1 {
			t.Errorf("%+v", st)
		}
		cancel()
		if r := <-first; !errors.Is(r.err, context.Canceled) {
			t.Errorf("error %v", r.err)
		}
		wantStats(t, p, 0, 0, 0, 0)
		p.Close()
	})
}

// No more logins at one time than allowed, however many want one.
func TestDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		f := &fake{}
		f.dial = func(context.Context) error {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return nil
		}
		p := New(Options{Size: 10, Dialing: 3, Dial: f.connect})
		var got []<-chan result
		for range 10 {
			got = append(got, acquire(p, Want{}, context.Background()))
			synctest.Wait()
		}
		for _, c := range got {
			p.Release((<-c).b)
		}
		if n := most.Load(); n != 3 {
			t.Errorf("%d logins at one time, want 3", n)
		}
		p.Close()
	})
}

// A connection that carries the settings is preferred; one on which a custom
// setting was defined is not given to a session that never used it.
func TestSettings(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 3, Dial: f.connect})
	tenant := settings("app.tenant", "7")
	zone := settings("timezone", "UTC")
	a, b, c := mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{})
	for b, s := range map[*backend.Backend]setting.Settings{a: tenant, b: zone} {
		if err := b.Adopt(context.Background(), s, s.Custom()); err != nil {
			t.Fatal(err)
		}
	}
	b.NoteDrawn(1)
	a.NoteDrawn(3)
	p.Release(a)
	p.Release(b)
	p.Release(c)
	for _, try := range []struct {
		name string
		want Want
		got  *backend.Backend
	}{
		{"equal settings", Want{Settings: zone}, b},
		{"equal custom settings", Want{Settings: tenant, Defined: tenant.Custom()}, a},
		{"none", Want{}, c},
		{"nobody else's draws", Want{Settings: zone, Draws: 2}, c},
		{"its own draws", Want{Draws: 1}, b},
		{"its own draws, which do not fit", Want{Draws: 3}, c},
	} {
		got := p.TryAcquire(try.want)
		if got != try.got {
			t.Errorf("%s: another connection", try.name)
		}
		p.Release(got)
	}
	p.Discard(mustAcquire(t, p, Want{}))
	p.Discard(mustAcquire(t, p, Want{Settings: zone}))
	if got := p.TryAcquire(Want{}); got != nil {
		t.Error("a connection with a setting defined was given to a session that never used it")
	}
	wantStats(t, p, 1, 1, 0, 0)
	p.Close()
}

// A pool full of idle connections that do not fit replaces one, and never has one too many.
func TestReplaceWhatDoesNotFit(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 2, Dial: f.connect})
	a, b := mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{})
	defined := setting.Names{}.With([]string{"app.tenant"})
	a.NoteMayDefine(defined)
	b.NoteMayDefine(defined)
	p.Release(a)
	p.Release(b)
	c := mustAcquire(t, p, Want{})
	if c == a || c == b || p.Stats().Recycled != 1 {
		t.Errorf("recycled %d", p.Stats().Recycled)
	}
	if most := f.most.Load(); most != 2 {
		t.Errorf("the server had %d connections at one time", most)
	}
	p.Release(c)
	p.Close()
}

// Who cannot use what is idle must not keep it from those behind when he leaves.
func TestFrontLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{dial: func(ctx context.Context) error {
			if ctx.Value(slow{}) == nil {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		p := New(Options{Size: 4, Dialing: 1, Dial: f.connect})
		defined := setting.Names{}.With([]string{"app.tenant"})
		a := mustAcquire(t, p, Want{})
		a.NoteMayDefine(defined)
		stuck, unstick := context.WithCancel(context.WithValue(context.Background(), slow{}, true))
		dialling := acquire(p, Want{}, stuck)
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		front := acquire(p, Want{}, ctx) // must dial, and may not yet
		synctest.Wait()
		behind := acquire(p, Want{Defined: defined}, context.Background())
		time.Sleep(time.Second)
		p.Release(a)
		cancel()
		<-front
		synctest.Wait()
		select {
		case r := <-behind:
			p.Release(r.b)
		default:
			t.Error("an idle connection fits who waits, and he does not get it")
		}
		unstick()
		<-dialling
		p.Close()
		synctest.Wait()
	})
}

// slow marks the context of a dial that takes for ever.
type slow struct{}

// TestAskingIsNoUse: a connection that is asked now and then is idle all the same: it is
// closed in time, and not handed out before those that sessions used last.
func TestAskingIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := New(Options{Size: 2, IdleTimeout: time.Minute, Dial: f.connect})
		old, last := mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{})
		p.Release(old)
		time.Sleep(30 * time.Second)
		p.Release(last)
		for range 3 {
			time.Sleep(5 * time.Second)
			b := p.TakeIdle(time.Now())
			if b != old && b != last {
				t.Fatal("none was idle")
			}
			p.Release(b)
		}
		if b := p.TryAcquire(Want{}); b != last {
			t.Error("the one used last is not handed out first")
		}
		time.Sleep(16 * time.Second)
		if err := p.Maintain(t.Context(), time.Now()); err != nil {
			t.Error(err)
		}
		wantStats(t, p, 1, 0, 1, 0)
		p.Release(last)
		p.Close()
	})
}

func TestMaintain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := New(Options{Size: 5, MinIdle: 2, IdleTimeout: time.Minute, MaxLifetime: time.Hour, Dial: f.connect})
		maintain := func() {
			if err := p.Maintain(context.Background(), time.Now()); err != nil {
				t.Error(err)
			}
		}
		maintain()
		wantStats(t, p, 0, 0, 0, 0) // nothing before it is used
		var bs []*backend.Backend
		for range 4 {
			bs = append(bs, mustAcquire(t, p, Want{}))
		}
		for _, b := range bs {
			p.Release(b)
		}
		time.Sleep(59 * time.Second)
		maintain()
		wantStats(t, p, 4, 4, 0, 0)
		time.Sleep(2 * time.Second)
		maintain()
		wantStats(t, p, 2, 2, 0, 0) // min_idle stay
		time.Sleep(time.Hour)
		maintain()
		wantStats(t, p, 2, 2, 0, 0) // but not for ever the same
		if n := f.dialled.Load(); n != 6 {
			t.Errorf("%d connections were made, want 4 and 2 new ones", n)
		}
		old := mustAcquire(t, p, Want{})
		time.Sleep(2 * time.Hour)
		p.Release(old)
		b := mustAcquire(t, p, Want{})
		if b == old {
			t.Error("a connection past its lifetime was handed out")
		}
		p.Release(b)
		f.gone.Store(true)
		p.Expire()
		if err := p.Maintain(context.Background(), time.Now()); !errors.Is(err, errRefused) {
			t.Errorf("min_idle with the server gone: %v", err)
		}
		p.Close()
		if f.open.Load() != 0 {
			t.Errorf("%d connections are left open", f.open.Load())
		}
	})
}

// Expire closes what is idle now, and what is in use or being made when it comes back.
func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{dial: func(context.Context) error { time.Sleep(time.Second); return nil }}
		p := New(Options{Size: 3, Dial: f.connect})
		idle, used := mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{})
		p.Release(idle)
		p.Release(mustAcquire(t, p, Want{}))
		p.Discard(p.TryAcquire(Want{}))
		making := acquire(p, Want{}, context.Background())
		synctest.Wait()
		p.Expire()
		made := (<-making).b
		p.Release(used)
		p.Release(made)
		wantStats(t, p, 0, 0, 0, 0)
		p.Release(mustAcquire(t, p, Want{}))
		wantStats(t, p, 1, 1, 0, 0)
		p.Close()
	})
}

func TestCloseEndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := New(Options{Size: 1, Dial: f.connect})
		b := mustAcquire(t, p, Want{})
		waiting := acquire(p, Want{}, context.Background())
		synctest.Wait()
		p.Close()
		if r := <-waiting; !errors.Is(r.err, ErrClosed) {
			t.Errorf("error %v", r.err)
		}
		p.Release(b)
		if f.open.Load() != 0 {
			t.Error("a connection given back to a closed pool stays open")
		}
	})
}

// A connection with a cancel request of unknown fate is never handed out again.
func TestCanceled(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 1, Dial: f.connect})
	b := mustAcquire(t, p, Want{})
	send := b.BeginCancel()
	p.Release(b)
	waiting := acquire(p, Want{}, context.Background())
	select {
	case <-waiting:
		t.Fatal("handed out with a cancel request on its way")
	case <-time.After(100 * time.Millisecond):
	}
	if err := send(context.Background()); err == nil {
		t.Fatal("a fake cannot be sent a cancel request")
	}
	r := <-waiting
	if r.err != nil || r.b == b {
		t.Errorf("got %v, %v; want a new connection", r.b == b, r.err)
	}
	p.Release(r.b)
	p.Close()
}

func BenchmarkTryAcquire(b *testing.B) {
	f := &fake{}
	p := New(Options{Size: 20, Dial: f.connect})
	var all []*backend.Backend
	for range 20 {
		c, err := p.Acquire(Want{}, always)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range all {
		p.Release(c)
	}
	for _, parallel := range []bool{false, true} {
		b.Run(fmt.Sprintf("parallel=%v", parallel), func(b *testing.B) {
			b.ReportAllocs()
			if !parallel {
				for b.Loop() {
					p.Release(p.TryAcquire(Want{}))
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if c := p.TryAcquire(Want{}); c != nil {
						p.Release(c)
					}
				}
			})
		})
	}
	p.Close()
}

// TestOwnConnections: who can use only a connection of its own gets a new one, within the
// bounds of all.
func TestOwnConnections(t *testing.T) {
	f, own := &fake{}, &fake{}
	p := New(Options{Size: 2, Dial: f.connect})
	p.Release(mustAcquire(t, p, Want{}))
	if p.TryAcquire(Want{Dial: own.connect}) != nil {
		t.Error("a connection of the pool's was given to who cannot use it")
	}
	a := mustAcquire(t, p, Want{Dial: own.connect})
	wantStats(t, p, 2, 1, 1, 0)
	b := mustAcquire(t, p, Want{Dial: own.connect})
	if wantStats(t, p, 2, 0, 2, 0); own.dialled.Load() != 2 || f.open.Load() != 0 {
		t.Errorf("%d dialled of its own, %d others open", own.dialled.Load(), f.open.Load())
	}
	own.gone.Store(true)
	p.Discard(a)
	if _, err := p.Acquire(Want{Dial: own.connect}, always); !errors.Is(err, errRefused) {
		t.Errorf("refused: %v", err)
	}
	p.Discard(b)
	wantStats(t, p, 0, 0, 0, 0)
	p.Close()
}
