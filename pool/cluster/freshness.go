package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Freshness: the tracker notes the time, then asks the primary how far its WAL
// was inserted; a replica that has replayed that far is fresh as of that time. A read
// that must see a commit may run on a replica that is fresh as of a moment after it.
//
// Only pg_current_wal_insert_lsn() covers every acknowledged commit: with
// synchronous_commit off a commit is answered before it is flushed.
// https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-BACKUP

// Moment is a point in time as the proxy's own monotonic clock tells it: ns since
// the process began, so that it fits an atomic word.
type Moment int64

var began = time.Now()

// Now is the present moment.
func Now() Moment { return Moment(time.Since(began)) }

// LSN is a place in the write-ahead log.
type LSN uint64

// Sampler asks servers for their place in the log. It is used by one goroutine.
type Sampler interface {
	// Inserted is the primary's insert location, Replayed a standby's replay location.
	Inserted(ctx context.Context, s *Server) (LSN, error)
	Replayed(ctx context.Context, s *Server) (LSN, error)
	Close()
}

const (
	sampleGap  = 2 * time.Millisecond  // between samples while somebody waits
	sampleMost = 50 * time.Millisecond // and while waiting does not help
	sampleIdle = time.Second
	maxSamples = 256
)

// tracker knows as of when each replica is fresh.
type tracker struct {
	demand atomic.Int64  // the latest Moment a read asked for
	kick   chan struct{} // of capacity 1

	mu      sync.Mutex    // protects changed
	changed chan struct{} // closed at the next sample

	// Of the goroutine that runs it.
	samples []sample // oldest first
	primary *Server
	line    uint32
}

type sample struct {
	at  Moment
	lsn LSN
}

func newTracker() *tracker {
	return &tracker{kick: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Fresh reports whether s is known to have replayed all that was committed before asOf.
func (s *Server) Fresh(asOf Moment) bool { return Moment(s.fresh.Load()) >= asOf }

// Staleness is how long ago s is known to have been fresh.
func (s *Server) Staleness() time.Duration { return time.Duration(Now() - Moment(s.fresh.Load())) }

// AwaitFresh waits until a replica is fresh as of a moment, at most d, and not at
// all if none has been fresh for so long that waiting is unlikely to help.
func (c *Cluster) AwaitFresh(ctx context.Context, asOf Moment, d time.Duration) bool {
	t := c.tracker
	c.Want(asOf)
	if !c.mayBecomeFresh(d) {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		if c.anyFresh(asOf) {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return c.anyFresh(asOf)
		case <-ctx.Done():
			return false
		}
	}
}

// Want asks for samples until replicas are fresh as of a moment.
func (c *Cluster) Want(asOf Moment) {
	t := c.tracker
	for {
		have := t.demand.Load()
		if have >= int64(asOf) {
			break
		}
		if t.demand.CompareAndSwap(have, int64(asOf)) {
			break
		}
	}
	select {
	case t.kick <- struct{}{}:
	default:
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

func (c *Cluster) mayBecomeFresh(d time.Duration) bool {
	for _, s := range c.topo.Load().Replicas {
		if s.Staleness() < sampleIdle+20*d {
			return true
		}
	}
	return false
}

// Track keeps the replicas' freshness until ctx ends.
func (c *Cluster) Track(ctx context.Context) {
	if c.o.Sampler == nil {
		return
	}
	defer c.o.Sampler.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	gap := sampleGap
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.tracker.kick:
		}
		c.sample(ctx)
		wanted := Moment(c.tracker.demand.Load())
		switch {
		case c.anyFresh(wanted):
			gap = sampleGap
			timer.Reset(sampleIdle)
		default:
			timer.Reset(gap)
			gap = min(2*gap, sampleMost)
		}
		// However often it is asked, not faster than the gap.
		select {
		case <-ctx.Done():
			return
		case <-time.After(sampleGap):
		}
	}
}

// sample takes one sample of the primary and looks how far the replicas are.
func (c *Cluster) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	t := c.tracker
	topo := c.topo.Load()
	if topo.Primary == nil {
		return
	}
	if line := topo.State(topo.Primary).Timeline; topo.Primary != t.primary || line != t.line {
		// What another primary's log said means nothing in this one's.
		t.primary, t.line, t.samples = topo.Primary, line, t.samples[:0]
		for _, s := range c.o.Servers {
			s.fresh.Store(-1)
		}
	}
	at := Now()
	lsn, err := c.o.Sampler.Inserted(ctx, topo.Primary)
	if err == nil {
		t.note(sample{at, lsn})
	}
	for _, s := range topo.Replicas {
		replayed, err := c.o.Sampler.Replayed(ctx, s)
		if err != nil {
			continue
		}
		if at, ok := t.freshAsOf(replayed); ok {
			s.fresh.Store(int64(at))
		}
	}
	t.mu.Lock()
	close(t.changed)
	t.changed = make(chan struct{})
	t.mu.Unlock()
}

// note adds a sample. Of those with one LSN the newest says most; when there are
// too many, every other one goes.
func (t *tracker) note(s sample) {
	if n := len(t.samples); n > 0 && t.samples[n-1].lsn == s.lsn {
		t.samples[n-1] = s
		return
	}
	if len(t.samples) == maxSamples {
		kept := t.samples[:0]
		for i, old := range t.samples {
			if i%2 == 1 {
				kept = append(kept, old)
			}
		}
		t.samples = kept
	}
	t.samples = append(t.samples, s)
}

// freshAsOf is the newest sample a replica has replayed.
func (t *tracker) freshAsOf(replayed LSN) (Moment, bool) {
	for i := len(t.samples) - 1; i >= 0; i-- {
		if t.samples[i].lsn <= replayed {
			return t.samples[i].at, true
		}
	}
	return 0, false
}
