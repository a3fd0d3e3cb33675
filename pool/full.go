package pool

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/pgweir/pgweir/pool/backend"
)

// A server that refuses a login for want of slots lets in no more than are open then: its
// pools share these. Whether there is room again is tried now and then, by one login at a
// time, as long as somebody waits; as soon as one of theirs is closed, too.

const (
	firstPause = 20 * time.Millisecond // before the next login is tried
	maxPause   = time.Second
	// forgetFull is how long after the last refusal it is believed that a server is full.
	forgetFull = time.Minute
	// leaveWait is how long a server may take to end a connection that makes way for another
	// one. Until then it has its slot.
	leaveWait = 250 * time.Millisecond
)

// full is what is known of a server, or of a role or database on it, that has no slots.
type full struct {
	pause time.Duration // the last; 0 is that it is not known to be full
	held  int           // the connections it let us have
	last  time.Time     // when it refused one
	again time.Time     // when another one may be tried
	timer *time.Timer   // serves those who wait then
}

// bound is how many connections are known to be possible.
func (f *full) bound() int {
	if f.pause == 0 {
		return math.MaxInt
	}
	return f.held
}

// mayProbeLocked reports whether p may try a login though the server was full a while ago.
func (l *Limit) mayProbeLocked(p *Pool) bool {
	if l.full.pause == 0 || l.max > 0 && l.n >= l.max {
		return false
	}
	now := time.Now()
	if now.Sub(l.full.last) > forgetFull {
		l.full.pause = 0
		return l.n < l.boundLocked(p.o.Privileged)
	}
	return l.dialing == 0 && !now.Before(l.full.again)
}

// limitsOpened says that a login has succeeded: where that is one more than was thought
// possible, another one may follow at once.
func (p *Pool) limitsOpened() {
	for _, l := range p.o.Limits {
		l.mu.Lock()
		l.dialing--
		var starved []*Pool
		if f, now := &l.full, time.Now(); f.pause > 0 {
			if held := l.n - l.dialing; held > f.held {
				f.held, f.pause, f.again = held, firstPause, now
			}
			if !now.Before(f.again) {
				starved = l.starvedLocked()
			}
		}
		l.pressLocked()
		l.mu.Unlock()
		serveAll(starved)
	}
}

// limitsFailed says that a login has failed, because of a limit that the server said is
// full, or nil.
func (p *Pool) limitsFailed(because *Limit) {
	for _, l := range p.o.Limits {
		l.mu.Lock()
		if l == because {
			l.refuseLocked(l.n - l.dialing)
		}
		l.dialing--
		l.mu.Unlock()
	}
	p.limitsGive()
}

// refuseLocked notes that the server refused a login while it held that many of ours.
func (l *Limit) refuseLocked(held int) {
	l.refused.Add(1)
	f := &l.full
	f.pause = min(max(2*f.pause, firstPause), maxPause)
	// Others who were refused at the same moment must not come again at the same moment.
	wait := f.pause/2 + rand.N(f.pause)
	f.held, f.last = held, time.Now()
	f.again = f.last.Add(wait)
	if f.timer == nil {
		f.timer = time.AfterFunc(wait, l.serveStarved)
	} else {
		f.timer.Reset(wait)
	}
	l.pressLocked()
}

// serveStarved has those who wait try again.
func (l *Limit) serveStarved() {
	l.mu.Lock()
	starved := l.starvedLocked()
	l.mu.Unlock()
	serveAll(starved)
}

// Claim makes a connection that must be there, whatever the bound: as long as the server
// refuses it for want of slots, which isFull tells by the error, pools close connections for
// it and it is tried again, until ctx ends. Unless there is an error it counts until Give.
// Beyond a bound of ours it takes the place of an idle connection, or of the next given back.
func (l *Limit) Claim(ctx context.Context, dial func() error, isFull func(error) bool) error {
	if l.count(1, 0); l.isOver(true) {
		l.reclaimFor(nil)
	}
	err := dial()
	for pause := firstPause; err != nil && isFull(err) && ctx.Err() == nil; pause = min(2*pause, maxPause) {
		l.refused.Add(1)
		l.count(0, 1)
		l.reclaimFor(nil)
		select {
		case <-time.After(pause/2 + rand.N(pause)):
			again := dial()
			if again == nil || ctx.Err() == nil {
				err = again
			}
		case <-ctx.Done():
		}
		l.count(0, -1)
	}
	if err != nil {
		l.Give()
	}
	return err
}

func (l *Limit) isOver(privileged bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overLocked(privileged)
}

// Give says that a connection made by Claim is closed.
func (l *Limit) Give() {
	l.count(-1, 0)
	l.serveStarved()
}

func (l *Limit) count(places, claims int) {
	l.mu.Lock()
	l.n += places
	l.claims += claims
	l.pressLocked()
	l.mu.Unlock()
}

// Used reports whether some pool that is not closed is bounded.
func (l *Limit) Used() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.members) > 0
}

// Slots is the state of a Limit at one moment.
type Slots struct {
	Open    int    // connections
	Bound   int    // connections that there may be, as far as is known; 0 is no bound
	Refused uint64 // logins refused for want of slots since the start
}

// Slots returns the limit's state.
func (l *Limit) Slots() Slots {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Slots{Open: l.n, Refused: l.refused.Load()}
	if bound := l.boundLocked(true); bound < math.MaxInt {
		s.Bound = bound
	}
	return s
}

// timeout is the error of who waited for too long, with why no connection could be made.
type timeout struct{ refused error }

func (e *timeout) Error() string {
	return fmt.Sprintf("%v: the last login was refused: %v", ErrTimeout, e.refused)
}

// Is makes it ErrTimeout. What the server said is not its own error, but the cause of it.
func (e *timeout) Is(target error) bool { return target == ErrTimeout }

// Refusal is what the server said when it had no slot for a caller whose time has run out
// since (ErrTimeout); nil if it did not say so.
func Refusal(err error) error {
	if t, ok := err.(*timeout); ok {
		return t.refused
	}
	return nil
}

// leave closes a connection that makes way for another one, waiting for its slot to be free
// where slots are what there is too few of.
func (p *Pool) leave(b *backend.Backend) {
	for _, l := range p.o.Limits {
		if l.isFull() {
			backend.Leave(b, leaveWait)
			break
		}
	}
	b.Close()
}

// isFull reports whether the server has refused logins, which pools or claims wait to repeat.
func (l *Limit) isFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full.pause > 0 || l.claims > 0
}
