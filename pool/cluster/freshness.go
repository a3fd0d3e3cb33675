package cluster

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
)

// Freshness: the tracker notes the time, then asks the primary how far its WAL
// was inserted; a replica that has replayed that far is fresh as of that time. A read
// that must see a commit may run on a replica that is fresh as of a moment after it: a
// later one, for of two that read the same nobody knows which came first.
//
// Only pg_current_wal_insert_lsn() covers every acknowledged commit: with
// synchronous_commit off a commit is answered before it is flushed. But what is
// inserted behind the last commit (by an open transaction, by a read that prunes a
// page) may stay unflushed for many seconds, out of the replicas' reach. So the flush
// location counts, too, a while later: no commit stays unflushed for longer than
// three times wal_writer_delay.
// https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-BACKUP
// https://www.postgresql.org/docs/current/wal-async-commit.html
//
// One goroutine samples the primary, when a read asks for a moment later than the
// last sample: all reads that came meanwhile share it. One for each server asks a
// replica how far it is, as long as a read asks for more than it is known to have. So
// a server that hangs holds up nothing but its own freshness.

// Moment is a point in monotonic time: ns since the process began, so that it fits an
// atomic word. It is the unit of required and known freshness.
type Moment int64

// Never is later than every Moment a server can be fresh as of.
const Never Moment = math.MaxInt64

var began = time.Now()

// CountFrom has Moments counted from another time than the process's beginning: a virtual
// clock may show an earlier one. It is for tests, before there is any Moment.
func CountFrom(t time.Time) { began = t }

// Now returns the present moment.
func Now() Moment { return Moment(time.Since(began)) }

// MomentOf converts a time of this process.
func MomentOf(t time.Time) Moment { return Moment(t.Sub(began)) }

// Sampler asks servers for their LSNs. It is used by several
// goroutines, but for one server and method by one at a time.
type Sampler interface {
	// Written returns how far the primary's log is, Replayed how far a standby is.
	Written(ctx context.Context, s *Server) (Written, error)
	Replayed(ctx context.Context, s *Server) (Replayed, error)
	// Forget has s asked over a new connection, if ever again.
	Forget(s *Server)
	Close()
}

// Written holds how far a log is inserted and flushed, and for how long a commit that
// was answered may stay unflushed.
type Written struct {
	Inserted, Flushed lsn.LSN
	Delay             time.Duration
}

// Replayed is a standby's replay LSN.
type Replayed struct {
	LSN     lsn.LSN
	Started string // of whom this is true; as State.Started
}

// freshness is as of when the server is fresh that answered at an address.
type freshness struct {
	asOf    Moment
	started string // that server's, as State.Started: another may answer the next time
}

// freshAs is as of when s is known to be fresh.
func (s *Server) freshAs() Moment {
	if f := s.fresh.Load(); f != nil {
		return f.asOf
	}
	return -1
}

// Fresh reports whether s is known to have replayed all that was committed up to asOf.
func (s *Server) Fresh(asOf Moment) bool { return s.freshAs() > asOf }

// FreshOn is Fresh of the server with that start time behind s's address; it is not known of
// any other. Empty is whoever answers.
func (s *Server) FreshOn(started string, asOf Moment) bool {
	f := s.fresh.Load()
	return f != nil && f.asOf > asOf && (started == "" || started == f.started)
}

// Staleness returns how long ago s is known to have been fresh.
func (s *Server) Staleness() time.Duration { return time.Duration(Now() - s.freshAs()) }

// need is what a read waits for: that a replica is fresh as of a moment, or one of them is.
type need struct {
	asOf    Moment
	on      *Server // nil is any
	started string  // as for FreshOn
}

func (c *Cluster) met(n *need) bool {
	if n.on != nil {
		return n.on.FreshOn(n.started, n.asOf)
	}
	return c.anyFresh(n.asOf)
}

// AwaitFresh waits until a replica is fresh as of a moment, at most d, and not at
// all if that is unlikely to be enough.
func (c *Cluster) AwaitFresh(ctx context.Context, asOf Moment, d time.Duration) bool {
	return c.await(ctx, d, need{asOf: asOf})
}

// AwaitFreshOn does what AwaitFresh does, for one replica; started is as for FreshOn.
func (c *Cluster) AwaitFreshOn(ctx context.Context, s *Server, started string, asOf Moment, d time.Duration) bool {
	if f := s.fresh.Load(); f != nil && started != "" && started != f.started {
		return false // no time is known to help
	}
	return c.await(ctx, d, need{asOf, s, started})
}

func (c *Cluster) await(ctx context.Context, d time.Duration, n need) bool {
	if c.met(&n) {
		return true
	}
	c.Want(n.asOf)
	if d <= 0 || n.asOf == Never || !c.likely(&n, d) {
		return false
	}
	w := c.tracker.enter(n, d)
	defer c.tracker.leave(w)
	for {
		if c.met(&n) {
			return true
		}
		select {
		case <-w.ready:
		case <-w.timer.C:
			return c.met(&n)
		case <-ctx.Done():
			return false
		}
	}
}

// likely reports whether what is needed may be so in time, going by what it took lately.
func (c *Cluster) likely(n *need, d time.Duration) bool {
	by, topo := Now()+Moment(d), c.topo.Load()
	in := func(s *Server) bool { return topo.Provable(s) && n.asOf+Moment(s.lag.Load()) <= by }
	if n.on != nil {
		return in(n.on)
	}
	return slices.ContainsFunc(topo.Replicas, in)
}

// waiter is who waits for a need. It is woken when that is met: under constant writes every
// read waits, and most of what is learned meanwhile is of no use to it.
type waiter struct {
	need
	ready chan struct{} // of capacity 1
	timer *time.Timer
}

// enter makes n a waiter's, for d.
func (t *tracker) enter(n need, d time.Duration) (w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last := len(t.spare) - 1; last >= 0 {
		w, t.spare = t.spare[last], t.spare[:last]
		w.timer.Reset(d)
	} else {
		w = &waiter{ready: make(chan struct{}, 1), timer: time.NewTimer(d)}
	}
	w.need = n
	t.waiters = append(t.waiters, w)
	return w
}

// maxSpare is how many waiters are kept for those who come.
const maxSpare = 256

// leave is that w is of no use any more.
func (t *tracker) leave(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiters, w); i >= 0 {
		t.waiters = slices.Delete(t.waiters, i, i+1)
	}
	w.timer.Stop()
	select {
	case <-w.ready:
	default:
	}
	if w.need = (need{}); len(t.spare) < maxSpare {
		t.spare = append(t.spare, w)
	}
}

// fresherLocked wakes those whose need is met.
func (c *Cluster) fresherLocked() {
	for _, w := range c.tracker.waiters {
		if c.met(&w.need) {
			signal(w.ready)
		}
	}
}

// Want asks for samples until replicas are fresh as of a moment.
func (c *Cluster) Want(asOf Moment) {
	t := c.tracker
	if asOf == Never {
		return
	}
	for have := t.demand.Load(); have < int64(asOf); have = t.demand.Load() {
		if t.demand.CompareAndSwap(have, int64(asOf)) {
			break
		}
	}
	if t.sampled.Load() <= int64(asOf) {
		signal(t.sampleNow)
		return
	}
	c.locateAll()
}

// locateAll has all replicas asked how far they have replayed.
func (c *Cluster) locateAll() {
	states := c.topo.Load().States
	for i := range states {
		if states[i].Role == RoleReplica {
			signal(states[i].Server.locateNow)
		}
	}
}

func (c *Cluster) anyFresh(asOf Moment) bool {
	for _, s := range c.topo.Load().Replicas {
		if s.Fresh(asOf) {
			return true
		}
	}
	return false
}

// Covering returns the moment as of which a replica must be fresh to have replayed up
// to at. If the primary's log was not known to reach that far, it is asked anew and
// waited for at most d; Never says that it does not.
func (c *Cluster) Covering(ctx context.Context, at lsn.LSN, d time.Duration) Moment {
	t := c.tracker
	find := func() Moment {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, s := range t.samples {
			if s.lsn >= at {
				return s.first - 1
			}
		}
		return Never
	}
	if asOf := find(); asOf != Never {
		return asOf
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if _, err := c.Sampled(ctx, Now()); err != nil {
		return Never
	}
	return find()
}

// Sampled returns an LSN up to which everything lies that was committed up to asOf.
// It waits for a primary to ask; the error is ctx's.
func (c *Cluster) Sampled(ctx context.Context, asOf Moment) (lsn.LSN, error) {
	t := c.tracker
	for {
		t.mu.Lock()
		if n := len(t.samples); n > 0 && t.samples[n-1].at > asOf {
			defer t.mu.Unlock()
			return t.samples[n-1].lsn, nil
		}
		if t.next == nil {
			t.next = make(chan struct{})
		}
		next := t.next
		t.mu.Unlock()
		c.Want(asOf)
		select {
		case <-next:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
