package pool

import (
	"context"
	"fmt"
	"time"

	"github.com/pgweir/pgweir/pool/backend"
)

// Resize has the pool follow those of o that may change while it is used: its size, MinIdle, Warm
// and the times. What is idle beyond the size is closed now, what is in use when it is given
// back; who waits keeps to the time that was in force when he began to.
func (p *Pool) Resize(o Options) {
	p.mu.Lock()
	p.o.Size, p.o.MinIdle, p.o.Warm = o.Size, o.MinIdle, o.Warm
	p.o.AcquireTimeout, p.o.IdleTimeout, p.o.MaxLifetime = o.AcquireTimeout, o.IdleTimeout, o.MaxLifetime
	surplus := p.open - p.o.Size
	closing := p.takeIdleLocked(func(*backend.Backend) bool { surplus--; return surplus >= 0 })
	p.mu.Unlock()
	p.discardAll(closing)
	p.serve()
}

// Expire closes all idle connections now and those in use when they are given back.
func (p *Pool) Expire() {
	p.mu.Lock()
	p.generation++
	idle := p.takeIdleLocked(func(*backend.Backend) bool { return true })
	p.mu.Unlock()
	p.discardAll(idle)
}

// Pause does what Expire does, and has nothing given out until it is called without on: callers wait,
// each for as long as AcquireTimeout says.
func (p *Pool) Pause(on bool) {
	p.mu.Lock()
	p.paused = on
	p.mu.Unlock()
	if on {
		p.Expire()
		return
	}
	p.serve()
}

// Evict does what Expire does, for a server that is gone: those who wait for a connection to it
// are told so with ErrGone.
func (p *Pool) Evict() {
	p.mu.Lock()
	for p.waiters.n > 0 {
		w := p.waiters.front
		p.waiters.remove(w)
		w.granted = true
		w.grant <- grant{err: ErrGone}
	}
	p.mu.Unlock()
	p.Expire()
}

// Close refuses further use with ErrClosed and closes what is idle; what is in use is
// closed when given back. It waits for connections whose cancel requests are being dealt with.
func (p *Pool) Close() { p.end(ErrClosed) }

// Retire does what Close does, for a server that is not to be used any more, with ErrGone.
func (p *Pool) Retire() { p.end(ErrGone) }

func (p *Pool) end(why error) {
	p.mu.Lock()
	p.closed = why
	idle := p.takeIdleLocked(func(*backend.Backend) bool { return true })
	p.serveLocked()
	p.mu.Unlock()
	for _, l := range p.o.Limits {
		l.leave(p)
	}
	p.discardAll(idle)
	p.background.Wait()
}

func (p *Pool) discardAll(bs []*backend.Backend) {
	for _, b := range bs {
		p.Discard(b)
	}
}

// EachIdle calls each with the connections that are idle, of which it may look at what never changes.
// It must be quick: it is called under the pool's lock.
func (p *Pool) EachIdle(each func(*backend.Backend)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.idle {
		each(b)
	}
}

func (p *Pool) takeIdleLocked(which func(*backend.Backend) bool) (taken []*backend.Backend) {
	for i := 0; i < len(p.idle); {
		if which(p.idle[i]) {
			taken = append(taken, p.dropIdleLocked(i))
		} else {
			i++
		}
	}
	return taken
}

// TakeIdle takes the idle connection that was verified longest ago, if that is before a time
// and nobody waits; nil if there is none. Giving it back is not counted as a use of it. The
// caller must Release or Discard it.
func (p *Pool) TakeIdle(before time.Time) *backend.Backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	pick := -1
	for i, b := range p.idle {
		if at := b.Verified(); at.Before(before) {
			pick, before = i, at
		}
	}
	if pick < 0 || p.waiters.n > 0 {
		return nil
	}
	b := p.dropIdleLocked(pick)
	b.Pooled().Aside = true
	return b
}

// Maintain closes idle connections that are past their time at now, or dead, and opens
// what MinIdle asks for.
func (p *Pool) Maintain(ctx context.Context, now time.Time) error {
	p.mu.Lock()
	surplus := len(p.idle) - p.o.MinIdle
	old := p.takeIdleLocked(func(b *backend.Backend) bool {
		if p.oldLocked(b, now) || !b.Alive() {
			return true
		}
		if surplus > 0 && p.o.IdleTimeout > 0 && now.Sub(b.Pooled().Released) > p.o.IdleTimeout {
			surplus--
			return true
		}
		return false
	})
	p.mu.Unlock()
	p.discardAll(old)
	for missing := p.missing(); missing > 0; missing-- {
		if err := p.addIdle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// missing returns how many idle connections a pool ought to open: none before it was used, unless it is warm.
func (p *Pool) missing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil || p.paused || !p.o.Warm && p.dialled.Load() == 0 {
		return 0
	}
	return min(p.o.MinIdle-len(p.idle), p.o.Size-p.open)
}

// addIdle dials one connection into the idle ones, if there is room.
func (p *Pool) addIdle(ctx context.Context) error {
	p.mu.Lock()
	if p.closed != nil || p.paused || p.open >= p.o.Size || p.dialing >= p.o.Dialing || !p.limitsTake(time.Time{}) {
		p.mu.Unlock()
		return nil
	}
	p.open++
	p.dialing++
	p.mu.Unlock()
	b, err := p.dial(ctx, Want{})
	if err != nil && p.o.fullBy(err) != nil {
		return nil // those who wait for one come first
	}
	if err != nil {
		return fmt.Errorf("min_idle: %w", err)
	}
	p.release(b)
	return nil
}

// lifetimeJitter is the part of MaxLifetime by which lifetimes differ, so that connections
// that were made together do not all end together.
const lifetimeJitter = 0.1

// oldLocked reports whether a connection is to be replaced by a new one.
func (p *Pool) oldLocked(b *backend.Backend, now time.Time) bool {
	if p.o.MaxLifetime <= 0 {
		return false
	}
	lifetime := p.o.MaxLifetime - time.Duration(b.Pooled().Jitter*lifetimeJitter*float64(p.o.MaxLifetime))
	return now.Sub(b.Origin().Created) > lifetime
}
