package cluster

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
)

const (
	locateGap    = 500 * time.Microsecond // between questions to a replica while somebody waits
	locateGapMax = 50 * time.Millisecond  // and while waiting does not help
	sampleSpan   = time.Millisecond       // in which there are at most
	sampleMost   = 4                      // samples, however many ask
	idleGap      = time.Second            // between samples, and questions to a replica, when nobody does
	maxSamples   = 256
)

// tracker keeps as of when each replica is fresh.
type tracker struct {
	demand    atomic.Int64  // the latest Moment a read asked for
	sampled   atomic.Int64  // and that of the last sample
	sampleNow chan struct{} // signals the goroutine that samples the primary; of capacity 1

	mu      sync.Mutex    // protects the fields below
	next    chan struct{} // closed at the next sample; nil if nobody waits for that
	waiters []*waiter
	spare   []*waiter // for those who come
	samples samples   // of insert locations
	flushes samples   // of flush locations
	primary *Server   // they are of
	line    uint32
}

// sample says that at that moment the primary's log reached that far; first is the
// earliest moment of which that was found.
type sample struct {
	first, at Moment
	lsn       lsn.LSN
}

func newTracker() *tracker {
	return &tracker{sampleNow: make(chan struct{}, 1)}
}

// Track keeps the replicas' freshness until ctx ends.
func (c *Cluster) Track(ctx context.Context) {
	if c.o.Sampler == nil {
		return
	}
	defer c.o.Sampler.Close()
	followers := newCrew(c.follow)
	defer followers.wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var span Moment // its beginning
	n := 0
	within := patience{parent: ctx}
	defer within.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.tracker.sampleNow:
			if !c.tracker.lacks() {
				continue
			}
		}
		if now := Now(); now > span+Moment(sampleSpan) {
			span, n = now, 0
		}
		followers.attend(ctx, c.topo.Load().States)
		c.sample(&within)
		timer.Reset(idleGap)
		if n++; n >= sampleMost && !pause(ctx, time.Duration(span+Moment(sampleSpan)-Now())) {
			return
		}
		if c.tracker.lacks() {
			signal(c.tracker.sampleNow) // somebody came meanwhile, or the primary did not answer
		}
	}
}

// pause waits; false is the end of ctx.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lacks reports whether a moment is asked for that no sample is of yet.
func (t *tracker) lacks() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.samples)
	return n == 0 || int64(t.samples[n-1].at) <= t.demand.Load()
}

// sample takes one sample of the primary.
func (c *Cluster) sample(within *patience) {
	ctx := within.begin(c.o.Timeout())
	defer within.done()
	t := c.tracker
	topo := c.topo.Load()
	if topo.Primary == nil || topo.State(topo.Primary).Unproved != nil {
		_ = pause(ctx, locateGapMax)
		return
	}
	line := topo.State(topo.Primary).Timeline
	at := Now()
	found, err := c.o.Sampler.Written(ctx, topo.Primary)
	if err != nil {
		_ = pause(ctx, locateGapMax)
		return
	}
	t.mu.Lock()
	if topo.Primary != t.primary || line != t.line {
		// What another primary's log said means nothing in this one's.
		t.primary, t.line, t.samples, t.flushes = topo.Primary, line, t.samples[:0], t.flushes[:0]
		for i := range topo.States {
			topo.States[i].Server.fresh.Store(nil)
		}
	}
	t.samples.note(sample{at, at, found.Inserted})
	if settled := at - Moment(found.Delay); settled >= 0 {
		t.flushes.note(sample{settled, settled, found.Flushed})
	}
	t.sampled.Store(int64(at))
	if t.next != nil {
		close(t.next)
		t.next = nil
	}
	t.mu.Unlock()
	c.locateAll()
}

// follow keeps one server's freshness, as long as it is a replica.
func (c *Cluster) follow(ctx context.Context, s *Server) {
	defer c.o.Sampler.Forget(s)
	timer := time.NewTimer(0)
	defer timer.Stop()
	gap := locateGap
	within := patience{parent: ctx}
	defer within.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.locateNow:
		}
		before := s.freshAs()
		if !c.locate(&within, s) || s.Fresh(Moment(c.tracker.demand.Load())) {
			timer.Reset(idleGap)
			gap = locateGap
			continue
		}
		if s.freshAs() > before {
			gap = locateGap
		}
		// Signals do not make it faster than the gap.
		if !pause(ctx, gap) {
			return
		}
		gap = min(2*gap, locateGapMax)
		timer.Reset(0)
	}
}

// locate asks a replica how far it is, if there is a sample it is not known to have
// reached. It reports whether the replica may have gone further the next time.
func (c *Cluster) locate(within *patience, s *Server) bool {
	t := c.tracker
	topo := c.topo.Load()
	if st := topo.State(s); st.Role != RoleReplica || !st.Up || !topo.Provable(s) || t.nothingFor(s) {
		return false
	}
	ctx := within.begin(c.o.Timeout())
	defer within.done()
	found, err := c.o.Sampler.Replayed(ctx, s)
	if err == nil {
		c.follows(s, found.Started)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil || topo.Primary == nil || topo.Primary != t.primary || topo.State(topo.Primary).Timeline != t.line {
		return err != nil
	}
	before := Moment(-1)
	if f := s.fresh.Load(); f != nil && f.started == found.Started {
		before = f.asOf
	}
	at, lag := t.samples.reached(found.LSN, before)
	if settled, _ := t.flushes.reached(found.LSN, before); settled > at {
		at = settled
	}
	s.lag.Store(int64(lag))
	s.fresh.Store(&freshness{at, found.Started})
	if at > before {
		c.fresherLocked()
	}
	return true
}

// follows has the sampler connect to s anew, now and then, if the monitor finds another server
// at its address: it may have moved while the one that is sampled lives on.
func (c *Cluster) follows(s *Server, started string) {
	st := c.topo.Load().State(s)
	if now := Now(); st.Started != "" && st.Started != started && now > s.resampled+Moment(c.o.Interval) {
		s.resampled = now
		c.o.Sampler.Forget(s)
	}
}

// nothingFor reports whether s is known to be where the last sample was.
func (t *tracker) nothingFor(s *Server) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.samples)
	return n == 0 || s.freshAs() >= t.samples[n-1].at
}

// samples are in order, oldest first.
type samples []sample

// note adds a sample. Of those with one LSN the newest says most. When there are too
// many, the one goes that is missed least: next to others for its age. So a replica
// hours behind is known to a few per cent.
func (list *samples) note(s sample) {
	of := *list
	n := len(of)
	if n > 0 && of[n-1].lsn == s.lsn {
		of[n-1].at = s.at
		return
	}
	if n == maxSamples {
		least, drop := math.Inf(1), 1
		for i := 1; i < n; i++ {
			next := s.at
			if i+1 < n {
				next = of[i+1].at
			}
			if gap := float64(next-of[i-1].at) / float64(s.at-of[i].at+1); gap < least {
				least, drop = gap, i
			}
		}
		of = slices.Delete(of, drop, drop+1)
	}
	*list = append(of, s)
}

// reached returns the newest moment as of which a replica is fresh that has replayed
// so far; one that has reached no sample may be another than it was before its restart.
// lag is how long it takes: since the first sample it lacks, or what the first of
// those it reached since before took.
func (list samples) reached(replayed lsn.LSN, before Moment) (at Moment, lag time.Duration) {
	at, now := -1, Now()
	for i := range list {
		s := &list[i]
		if s.lsn > replayed {
			return at, max(lag, time.Duration(now-s.first))
		}
		if at = s.at; lag == 0 && s.first > before && before >= 0 {
			lag = time.Duration(now - s.first)
		}
	}
	return at, lag
}
