package pool

import (
	"errors"
	"runtime"
	"testing"
)

// When its server is gone, a pool tells those who wait, closes what is idle, and what
// is in use when it is given back; afterwards it works as before.
func TestEvict(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 2, Dial: f.connect})
	defer p.Close()
	used, idle := mustAcquire(t, p, Want{}), mustAcquire(t, p, Want{})
	told := make(chan error, 3)
	for range cap(told) {
		go func() {
			_, err := p.Acquire(Want{}, always)
			told <- err
		}()
	}
	for p.Stats().Waiting < cap(told) {
		runtime.Gosched()
	}
	p.Evict()
	for range cap(told) {
		if err := <-told; !errors.Is(err, ErrGone) {
			t.Errorf("one who waited is told %v", err)
		}
	}
	p.Release(idle)
	wantStats(t, p, 1, 0, 1, 0)
	p.Release(used)
	wantStats(t, p, 0, 0, 0, 0)
	b := mustAcquire(t, p, Want{})
	p.Release(b)
	wantStats(t, p, 1, 1, 0, 0)
	p.Evict()
	wantStats(t, p, 0, 0, 0, 0)
}

// A pool that is retired tells everybody that its server is gone, and what is in use is
// closed when it is given back.
func TestRetire(t *testing.T) {
	f := &fake{}
	p := New(Options{Size: 1, Dial: f.connect})
	used := mustAcquire(t, p, Want{})
	told := make(chan error, 1)
	go func() {
		_, err := p.Acquire(Want{}, always)
		told <- err
	}()
	for p.Stats().Waiting < 1 {
		runtime.Gosched()
	}
	p.Retire()
	if err := <-told; !errors.Is(err, ErrGone) {
		t.Errorf("one who waited is told %v", err)
	}
	if _, err := p.Acquire(Want{}, always); !errors.Is(err, ErrGone) {
		t.Errorf("one who came later is told %v", err)
	}
	p.Release(used)
	wantStats(t, p, 0, 0, 0, 0)
}
