package catalog

import (
	"context"
	"sync"
	"time"
)

// RefreshOptions say how a Refresher works. Load, Publish and Failed are called
// from Run only, one at a time.
type RefreshOptions struct {
	// Interval is the time from the end of one load to the next; 0 loads only
	// at the start, after Changed and after a failure.
	Interval time.Duration
	// Delay is how long after the last Changed a load begins, so that a script of many statements
	// costs few loads, and a twentieth of how long after the first; 0 is 200 ms. It is up to
	// five times that for loads to take a fifth of the time.
	Delay time.Duration
	// Retry is how long after a failure a load begins again; 0 is 5 s, and never
	// more than Interval if that is set.
	Retry time.Duration
	// Timeout bounds one load; 0 is no bound.
	Timeout time.Duration
	// Load reads the catalog; previous is the last good snapshot, or nil.
	Load func(ctx context.Context, previous *Snapshot) (*Snapshot, error)
	// Publish is handed each snapshot whose Version differs from the last.
	Publish func(*Snapshot)
	// Failed is told that a load failed; the last good snapshot stays. It may be nil.
	Failed func(error)
}

// Refresher owns the reloading of one database's snapshot. Its methods may be
// called concurrently.
type Refresher struct {
	o       RefreshOptions
	changed chan struct{} // holds one wish at most
	hurry   chan struct{} // the same: not to wait for more changes

	mu      sync.Mutex // protects the fields below, and Interval
	changes uint64     // calls of Changed
	loaded  uint64     // changes that the last good load has seen
	last    *Snapshot  // of the last good load

	took time.Duration // the last load, to Run
}

// NewRefresher makes a Refresher that does nothing until Run.
func NewRefresher(o RefreshOptions) *Refresher {
	if o.Delay == 0 {
		o.Delay = 200 * time.Millisecond
	}
	if o.Retry == 0 {
		o.Retry = 5 * time.Second
	}
	if o.Interval > 0 {
		o.Retry = min(o.Retry, o.Interval)
	}
	return &Refresher{o: o, changed: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
}

// SetInterval has the catalog loaded at another interval, beginning with a load now.
func (r *Refresher) SetInterval(every time.Duration) {
	r.mu.Lock()
	r.o.Interval = every
	r.mu.Unlock()
	r.wake()
}

// Changed says that the catalog may differ: DDL was committed. It never waits.
func (r *Refresher) Changed() {
	r.mu.Lock()
	r.changes++
	r.mu.Unlock()
	r.wake()
}

func (r *Refresher) wake() {
	select {
	case r.changed <- struct{}{}:
	default: // a load is due already
	}
}

// Hurry says that somebody waits for what Changed told of: the load begins without Delay. It
// never waits.
func (r *Refresher) Hurry() {
	select {
	case r.hurry <- struct{}{}:
	default:
	}
}

// Stale reports whether Changed was called and no load that began later has succeeded.
func (r *Refresher) Stale() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loaded < r.changes
}

// Snapshot is the last good snapshot, or nil.
func (r *Refresher) Snapshot() *Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Run loads at once and then whenever it is time, until ctx is done. It returns
// when no load is running and nothing more will be published. Call it once.
//
//	load * --failed--> wait Retry    -> load
//	     * --loaded--> wait Interval -> load
//	waiting, Changed --> pause       -> load
func (r *Refresher) Run(ctx context.Context) {
	timer := time.NewTimer(0) // ended by the next wait
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(r.load(ctx))
		case <-r.changed:
			if !r.pause(ctx) {
				return
			}
			timer.Reset(r.load(ctx))
		}
	}
}

// pause lets further changes join the load to come: until none has come for a while, but not
// for ever. Meanwhile nothing is relied on that they may have changed.
func (r *Refresher) pause(ctx context.Context) bool {
	quiet := max(r.o.Delay, min(4*r.took, 5*r.o.Delay))
	timer, longest := time.NewTimer(quiet), time.NewTimer(20*r.o.Delay)
	defer timer.Stop()
	defer longest.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-longest.C:
			return true
		case <-r.hurry:
			return true
		case <-r.changed:
			timer.Reset(quiet)
		}
	}
}

// never is a time nobody waits for.
const never = 365 * 24 * time.Hour

// load makes one load and returns when the next is due.
func (r *Refresher) load(ctx context.Context) time.Duration {
	select {
	case <-r.changed: // this load sees it
	default:
	}
	r.mu.Lock()
	changes, last := r.changes, r.last
	r.mu.Unlock()
	began := time.Now()
	s, err := r.attempt(ctx, last)
	r.took = time.Since(began)
	if ctx.Err() != nil {
		return never // asked to stop: that is no failure
	}
	if err != nil {
		if r.o.Failed != nil {
			r.o.Failed(err)
		}
		return r.o.Retry
	}
	r.mu.Lock()
	r.last, r.loaded = s, changes
	interval := r.o.Interval
	r.mu.Unlock()
	if last == nil || last.Version() != s.Version() {
		r.o.Publish(s)
	}
	if interval <= 0 {
		return never
	}
	return interval
}

func (r *Refresher) attempt(ctx context.Context, last *Snapshot) (*Snapshot, error) {
	if r.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.o.Timeout)
		defer cancel()
	}
	return r.o.Load(ctx, last)
}
