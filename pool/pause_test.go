package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A paused pool gives nothing out and opens nothing: what is idle is closed, what is in use when it is
// given back, and callers wait until it goes on, or as long as they may.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := New(Options{Size: 2, MinIdle: 1, AcquireTimeout: time.Minute, Dial: f.connect})
		inUse, idle := mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{})
		p.Release(idle)
		p.Pause(true)
		wantStats(t, p, 1, 0, 1, 0)
		if p.TryAcquire(Want{}) != nil {
			t.Error("a paused pool gave a connection out")
		}
		waiting := acquire(p, Want{}, context.Background())
		synctest.Wait()
		if err := p.Maintain(t.Context(), time.Now()); err != nil {
			t.Error(err)
		}
		wantStats(t, p, 1, 0, 1, 1)
		p.Release(inUse)
		synctest.Wait()
		wantStats(t, p, 0, 0, 0, 1)
		p.Pause(false)
		got := <-waiting
		if got.err != nil || got.b == inUse || got.b == idle {
			t.Errorf("after the pause: %v", got.err)
		}
		p.Release(got.b)
		wantStats(t, p, 1, 1, 0, 0)

		p.Pause(true)
		if got := <-acquire(p, Want{}, context.Background()); !errors.Is(got.err, ErrPaused) || !errors.Is(got.err, ErrTimeout) {
			t.Errorf("who waits for too long: %v", got.err)
		}
		waiting = acquire(p, Want{}, context.Background())
		synctest.Wait()
		p.Close()
		if got := <-waiting; !errors.Is(got.err, ErrClosed) {
			t.Errorf("closed while it is paused: %v", got.err)
		}
	})
}
