// Package pool shares the connections of one server, user and database among sessions:
// a Pool bounds how many there are, serves those who wait in the order they came, and
// gives a connection to the next session only if it is at rest (Release). A Limit bounds
// the connections of several pools together. The caller opens connections (Options.Dial)
// and has each Pool maintained now and then (Maintain).
package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool/backend"
)

// ErrTimeout is that no connection became free within the acquire timeout.
var ErrTimeout = errors.New("no server connection became free in time")

// ErrPaused is ErrTimeout of a pool that was paused when the time was over (Pause).
var ErrPaused = fmt.Errorf("%w: the pool is paused", ErrTimeout)

// ErrGone is that the server went away while the connection was waited for.
var ErrGone = errors.New("the server went away")

// ErrClosed is that the pool was closed.
var ErrClosed = errors.New("pool is closed")

// Options are what a Pool is made with.
type Options struct {
	Size           int           // connections at most
	MinIdle        int           // kept open once the pool was used
	Warm           bool          // and before
	AcquireTimeout time.Duration // 0 is no bound
	IdleTimeout    time.Duration // 0 is never
	MaxLifetime    time.Duration // of which up to a tenth is left out by chance; 0 is never
	// Dialing bounds logins at one time, so that a start under load does not
	// storm the server; 0 is 4.
	Dialing int
	// Limits are further bounds this pool shares with others; nil ones are no bound.
	Limits []*Limit
	// Full tells which of the limits is full by what a login was refused with; nil is none.
	// Then the caller waits for a place of that. It may be nil itself: no error says so.
	Full func(error) *Limit
	// Privileged has the pool take what limits reserve, and its callers go before those of
	// other pools.
	Privileged bool
	// Dial makes a connection. It must honour ctx.
	Dial func(ctx context.Context) (*backend.Backend, error)
	// Refused is called, not under a lock, with a connection that was released and is
	// closed because it is not at rest, and why: some caller is in error. It may be nil.
	Refused func(b *backend.Backend, why error)
	// Verify is asked, not under a lock, of every connection that is released at rest; one
	// it returns an error for is refused. It may be nil.
	Verify func(b *backend.Backend) error
}

// Want is what a session needs of a connection.
type Want struct {
	Settings setting.Settings // best carried already
	Draws    uint64           // the session, if it draws from sequences or asks what they gave; 0: it does not
	Defined  setting.Names    // custom settings it may find defined
	// Dial makes a connection that only this session can use; nil: any of the pool's will
	// do. It must honour its context.
	Dial func(context.Context) (*backend.Backend, error)
	// Replaceable says that a connection to another server would do: the server's refusal
	// for want of slots is returned if the pools have none open there to wait for.
	Replaceable bool
}

// merit is how good a connection that fits is, up to perfect. What only one connection can tell, of the session's own
// draws from sequences or of others', matters more than the statements its settings take.
func (w *Want) merit(b *backend.Backend) (m int) {
	switch drawn := b.Drawn(); {
	case w.Draws == 0, drawn == w.Draws:
		m = 4
	case drawn == 0:
		m = 2
	}
	if b.Settings() == w.Settings {
		m++
	}
	return m
}

const perfect = 5

// Pool shares the connections of one server, user and database. Safe for concurrent use.
type Pool struct {
	o Options // Size, MinIdle and the times are protected by mu; the rest never changes

	mu      sync.Mutex // protects the fields below; no I/O under it
	idle    []*backend.Backend
	open    int // idle, in use, being dialled and being closed
	dialing int
	retired bool  // an idle connection is being closed to make room
	waiters queue // first come first served
	closed  error // why nothing is given out any more: ErrClosed or ErrGone; nil before
	paused  bool  // nothing is given out for now
	// generation counts the calls of Expire: connections of an earlier one are closed
	// when given back.
	generation uint64

	waiterPool sync.Pool      // of *waiter
	background sync.WaitGroup // of inBackground; added to under mu while not closed

	acquired, dialled, dialFailed, recycled, refused, timeouts atomic.Uint64
	waited                                                     atomic.Int64 // ns
}

// New makes a Pool; it opens nothing until it is asked.
func New(o Options) *Pool {
	if o.Dialing <= 0 {
		o.Dialing = 4
	}
	p := &Pool{o: o, waiterPool: sync.Pool{New: newWaiter}}
	p.o.Limits = slices.DeleteFunc(slices.Clone(o.Limits), func(l *Limit) bool { return l == nil })
	slices.SortFunc(p.o.Limits, func(a, b *Limit) int { return cmp.Compare(a.order, b.order) })
	for _, l := range p.o.Limits {
		l.join(p)
	}
	return p
}

// TryAcquire takes an idle connection if there is one that fits and nobody waits.
// It does no I/O and allocates nothing. The caller must Release or Discard it.
func (p *Pool) TryAcquire(want Want) *backend.Backend {
	p.mu.Lock()
	if p.waiters.n > 0 {
		p.mu.Unlock()
		return nil
	}
	b := p.takeLocked(want)
	p.mu.Unlock()
	if b != nil {
		p.acquired.Add(1)
	}
	return b
}

// takeLocked takes out the idle connection that is best for the session, of equally good ones the one used last; nil if
// there is none on which it finds no custom setting defined that it cannot know.
func (p *Pool) takeLocked(want Want) *backend.Backend {
	if want.Dial != nil {
		return nil
	}
	pick, most := -1, -1
	for i := len(p.idle) - 1; i >= 0 && most < perfect; i-- {
		b := p.idle[i]
		if !b.MayDefine().Within(want.Defined) {
			continue
		}
		if merit := want.merit(b); merit > most {
			pick, most = i, merit
		}
	}
	if pick < 0 {
		return nil
	}
	b := p.idle[pick]
	last := len(p.idle) - 1
	copy(p.idle[pick:], p.idle[pick+1:])
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return b
}

// SlowPath is what an Acquire asks its caller for once it takes longer than fastWait:
// the context of the rest of the wait. So a caller sets up only then what it takes to
// watch whether anybody still wants the connection.
type SlowPath interface {
	// SlowContext is called at most once per Acquire, by the goroutine that called that.
	SlowContext() context.Context
}

// fastWait is how long a wait may last before SlowPath is asked.
const fastWait = 250 * time.Millisecond

// Acquire takes a connection: an idle one, a new one, or the next that is given
// back, in the order callers came. Errors: ErrTimeout (ErrPaused), ErrClosed, ErrGone, those of the
// context, or those of dialling. The caller must Release or Discard what it gets.
func (p *Pool) Acquire(want Want, caller SlowPath) (*backend.Backend, error) {
	started := time.Now()
	defer func() { p.waited.Add(int64(time.Since(started))) }()
	p.mu.Lock()
	if err := p.closed; err != nil {
		p.mu.Unlock()
		return nil, err
	}
	if p.waiters.n == 0 {
		if b := p.takeLocked(want); b != nil {
			p.mu.Unlock()
			p.acquired.Add(1)
			return b, nil
		}
	}
	w := p.waiterPool.Get().(*waiter)
	defer func() {
		w.want, w.slow, w.refused = Want{}, nil, nil // Dial may hold on to a session
		p.waiterPool.Put(w)
	}()
	w.want, w.since, w.timeout, w.granted = want, started, p.o.AcquireTimeout, false
	p.waiters.push(w)
	retired := p.serveLocked()
	p.mu.Unlock()
	p.finish(retired)
	for {
		b, err := p.await(w, caller)
		if err != errFull { //nolint:errorlint // it is never wrapped
			return b, err
		}
		p.mu.Lock()
		w.granted = false
		p.waiters.pushFront(w)
		retired := p.serveLocked()
		p.mu.Unlock()
		p.finish(retired)
	}
}

// errFull is that the server had no slot for a login, so that it is waited for.
var errFull = errors.New("the server is full")

// await waits for w's grant. When it returns the waiter is in no list and its channel is empty.
func (p *Pool) await(w *waiter, caller SlowPath) (*backend.Backend, error) {
	defer w.timer.Stop()
	if w.slow == nil {
		w.timer.Reset(fastWait)
		select {
		case g := <-w.grant:
			if g.b != nil { // the usual case, which allocates nothing
				p.acquired.Add(1)
				return g.b, nil
			}
			return p.use(g, w, caller)
		case <-w.timer.C:
		}
	}
	ctx := w.slowContext(caller)
	var expired <-chan time.Time
	if w.timeout > 0 {
		w.timer.Reset(max(w.timeout-time.Since(w.since), 0))
		expired = w.timer.C
	}
	var err error
	select {
	case g := <-w.grant:
		return p.use(g, w, caller)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-expired:
		err = w.expired()
		p.timeouts.Add(1)
	}
	p.mu.Lock()
	if p.paused && errors.Is(err, ErrTimeout) {
		err = ErrPaused
	}
	granted := w.granted
	if !granted {
		p.waiters.remove(w)
	}
	retired := p.serveLocked() // the next in line may want what this one did not
	p.mu.Unlock()
	p.finish(retired)
	if granted {
		p.passOn(<-w.grant) // it was granted at the same moment
	}
	return nil, err
}

// passOn gives up a grant that came too late.
func (p *Pool) passOn(g grant) {
	switch {
	case g.b != nil:
		p.Release(g.b)
	case g.err == nil:
		p.undial(nil)
	}
}

// use turns a grant into a connection. errFull is that w has to wait again.
func (p *Pool) use(g grant, w *waiter, caller SlowPath) (*backend.Backend, error) {
	if g.err != nil {
		return nil, g.err
	}
	if g.b == nil {
		b, err := p.dial(w.slowContext(caller), w.want)
		if err != nil {
			return nil, p.failed(err, w)
		}
		g.b = b
	}
	p.acquired.Add(1)
	return g.b, nil
}

// failed is what becomes of a caller whose login failed.
func (p *Pool) failed(err error, w *waiter) error {
	l := p.o.fullBy(err)
	switch {
	case l == nil || w.want.Replaceable && l.Slots().Open == 0:
		return err
	case w.slow.Err() != nil:
		return context.Cause(w.slow)
	}
	w.refused = err
	return errFull
}

// dial makes the connection for a place counted in open and dialing.
func (p *Pool) dial(ctx context.Context, want Want) (*backend.Backend, error) {
	p.mu.Lock()
	generation := p.generation
	p.mu.Unlock()
	dial := p.o.Dial
	if want.Dial != nil {
		dial = want.Dial
	}
	b, err := dial(ctx)
	if err != nil {
		p.dialFailed.Add(1)
		p.undial(p.o.fullBy(err))
		return nil, err
	}
	p.dialled.Add(1)
	p.mu.Lock()
	p.dialing--
	b.Pooled().Generation = generation
	b.Pooled().Jitter = rand.Float64()
	retired := p.serveLocked()
	p.mu.Unlock()
	p.limitsOpened()
	p.finish(retired)
	return b, nil
}

// fullBy is the limit that a failed login shows to be full, or nil.
func (o *Options) fullBy(err error) *Limit {
	if o.Full == nil {
		return nil
	}
	return o.Full(err)
}

// undial gives up a place to dial, because of a limit that is full, or nil.
func (p *Pool) undial(because *Limit) {
	p.mu.Lock()
	p.open--
	p.dialing--
	p.mu.Unlock()
	p.limitsFailed(because)
	p.serve()
}

// serve grants what can be granted. Not under p.mu.
func (p *Pool) serve() {
	p.mu.Lock()
	retired := p.serveLocked()
	p.mu.Unlock()
	p.finish(retired)
}

// finish does what serveLocked left to be done without the lock.
func (p *Pool) finish(retired *backend.Backend) {
	if retired != nil {
		p.leave(retired)
		p.mu.Lock()
		p.open--
		p.retired = false
		p.mu.Unlock()
		p.limitsGive()
		p.serve()
	}
	p.reclaim()
}

// serveLocked grants what can be granted to the waiters in front. It may return an
// idle connection it took out because it does not fit who waits; finish closes it
// and serves again.
func (p *Pool) serveLocked() (retired *backend.Backend) {
	if p.paused && p.closed == nil {
		return nil
	}
	for p.waiters.n > 0 {
		w := p.waiters.front
		var g grant
		switch {
		case p.closed != nil:
			g.err = p.closed
		default:
			if g.b = p.takeLocked(w.want); g.b != nil {
				break
			}
			if p.dialing >= p.o.Dialing {
				return nil
			}
			if p.open >= p.o.Size || !p.limitsTake(w.since) {
				return p.retireLocked()
			}
			p.open++
			p.dialing++
		}
		p.waiters.remove(w)
		w.granted = true
		w.grant <- g
	}
	return retired
}

// retireLocked takes out the idle connection unused for longest, none of which
// fits who waits; nil if there is none or one is being closed already.
func (p *Pool) retireLocked() *backend.Backend {
	if len(p.idle) == 0 || p.retired {
		return nil
	}
	p.retired = true
	p.recycled.Add(1)
	return p.dropIdleLocked(0)
}

// dropIdleLocked takes idle connection i out for good; it counts until it is closed.
func (p *Pool) dropIdleLocked(i int) *backend.Backend {
	b := p.idle[i]
	p.idle = slices.Delete(p.idle, i, i+1)
	return b
}

// Release gives a connection back for anyone, if it is at rest (backend.AtRest). Else it
// is closed, and unless the server has ended it, counted and reported to Options.Refused.
func (p *Pool) Release(b *backend.Backend) {
	if !p.admits(b) {
		return
	}
	if !b.Canceled() {
		p.release(b)
		return
	}
	// A cancel request may still hit it: not before that is dealt with.
	p.inBackground(b, func() { p.releaseCanceled(b) })
}

// inBackground does what becomes of a connection that was given back, which Close waits for. A
// closed pool closes it instead.
func (p *Pool) inBackground(b *backend.Backend, do func()) {
	p.mu.Lock()
	closed := p.closed != nil
	if !closed {
		p.background.Add(1)
	}
	p.mu.Unlock()
	if closed {
		p.Discard(b)
		return
	}
	go func() {
		defer p.background.Done()
		do()
	}()
}

// admits reports whether a connection may change hands: only if it is at rest. One that
// is not is closed.
func (p *Pool) admits(b *backend.Backend) bool {
	why := b.AtRest()
	if why == nil && p.o.Verify != nil && !b.Canceled() {
		why = p.o.Verify(b)
	}
	if why == nil {
		return true
	}
	if !errors.Is(why, backend.ErrEnded) {
		p.refused.Add(1)
		if p.o.Refused != nil {
			p.o.Refused(b, why)
		}
	}
	p.Discard(b)
	return false
}

func (p *Pool) releaseCanceled(b *backend.Backend) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.CancelDone(ctx); err != nil {
		p.Discard(b)
		return
	}
	if p.admits(b) {
		p.release(b)
	}
}

func (p *Pool) release(b *backend.Backend) {
	now, notes := time.Now(), b.Pooled()
	if !notes.Aside {
		notes.Released = now
	}
	notes.Aside = false
	p.mu.Lock()
	switch {
	case p.closed != nil || p.open > p.o.Size || notes.Generation != p.generation || p.oldLocked(b, now):
		p.mu.Unlock()
		p.Discard(b)
		return
	case p.yieldsLocked():
		p.mu.Unlock()
		p.inBackground(b, func() { // who gave it back need not wait
			p.leave(b)
			p.Discard(b)
		})
		return
	}
	p.idle = slices.Insert(p.idle, p.placeLocked(notes.Released), b)
	if p.waiters.n == 0 {
		p.mu.Unlock()
		return
	}
	retired := p.serveLocked()
	p.mu.Unlock()
	p.finish(retired)
}

// Discard closes a connection that was acquired.
func (p *Pool) Discard(b *backend.Backend) {
	b.Close()
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
	p.limitsGive()
	p.serve()
}

// placeLocked is where among the idle ones a connection used at a time stands: those used
// last are last.
func (p *Pool) placeLocked(used time.Time) int {
	at := len(p.idle)
	for at > 0 && p.idle[at-1].Pooled().Released.After(used) {
		at--
	}
	return at
}

// Stats is a Pool's state at one moment, and its counts since the start.
type Stats struct {
	Size, Open, Idle, Used, Waiting, Dialing              int
	Acquired, Dialled, DialFailed, Recycled, TimeoutsSeen uint64
	Refused                                               uint64 // released and closed, not being at rest
	Waited                                                time.Duration
}

// Stats returns the pool's state and counts.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Size: p.o.Size, Open: p.open, Idle: len(p.idle), Used: p.open - len(p.idle) - p.dialing,
		Waiting: p.waiters.n, Dialing: p.dialing,
		Acquired: p.acquired.Load(), Dialled: p.dialled.Load(), DialFailed: p.dialFailed.Load(),
		Recycled: p.recycled.Load(), Refused: p.refused.Load(), TimeoutsSeen: p.timeouts.Load(), Waited: time.Duration(p.waited.Load()),
	}
}
