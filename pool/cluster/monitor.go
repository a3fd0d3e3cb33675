package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/lsn"
)

// Probe holds what a server answered to one probe.
type Probe struct {
	InRecovery bool
	Timeline   uint32
	SystemID   string
	Version    int
	Started    string
	Anew       bool // it was asked over a new connection
	LSN        lsn.LSN
	// Unproved is why it does not tell how far it is; nil if it does.
	Unproved error
}

// Prober asks one server for its state. The monitor calls it for different servers at the same
// time, and for one server never twice at a time. With anew it must not rely on a
// connection it has: that may outlive what it is to probe. ErrNoLogin says that
// nobody's login is known yet.
type Prober interface {
	Probe(ctx context.Context, s *Server, anew bool) (Probe, error)
	// Forget is that s is not probed any more.
	Forget(s *Server)
	Close()
}

// ErrNoLogin is that the monitor has no account to ask with: none is configured
// and no client has logged in yet.
var ErrNoLogin = errors.New("no service account is configured and no client has logged in yet")

// ErrNoPrimary is that no server is the primary.
var ErrNoPrimary = errors.New("no primary")

// ErrNoServer is that no server can be used at all.
var ErrNoServer = errors.New("no server is up")

// Inconclusive reports whether a failure to reach a server, or to log in, is no proof
// that it is down: something took too long, the server is there and refused a login, or this
// machine has no descriptor, port or memory left to ask it by.
// A connection refused or cut off, or a server that says it is shutting down, is proof.
func Inconclusive(err error) bool {
	var refused *pgconn.PgError
	var name *net.DNSError
	var network net.Error
	switch {
	case err == nil, errors.Is(err, ErrNoLogin):
		return false
	case errors.As(err, &refused):
		return refused.Code != "57P03" && refused.Code != "57P01" && refused.Code != "57P02"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EADDRNOTAVAIL),
		errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return true
	case errors.As(err, &name), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNREFUSED):
		return false
	case errors.As(err, &network):
		return network.Timeout()
	}
	return true
}

// Options are what a Cluster is made with.
type Options struct {
	Name     string
	Servers  []*Server            // to begin with
	Interval time.Duration        // between probes of each server
	Slow     time.Duration        // a probe that takes longer makes the server slow
	Timeout  func() time.Duration // of one probe
	Prober   Prober
	Sampler  Sampler // nil: freshness is not tracked
	// Changed is called with every change, in order, by a goroutine of the monitor's
	// that does nothing else. It may be nil.
	Changed func(before, after *Topology)
}

// Cluster is one primary and its replicas. Safe for concurrent use.
type Cluster struct {
	o         Options
	topo      atomic.Pointer[Topology]
	turn      atomic.Uint32
	waiting   atomic.Int64  // those who wait for a change or a probe
	probeNow  chan struct{} // asks for a probe of all servers now; of capacity 1
	notifyNow chan struct{} // says that unnotified grew; of capacity 1

	tracker *tracker

	mu         sync.Mutex    // protects the fields below; nothing but memory is touched under it
	changed    chan struct{} // closed when the topology next changes
	published  chan struct{} // closed when it is next published, changed or not
	first      time.Time     // when the first server answered
	unnotified []*Topology   // changes Changed was not called with yet
}

// New makes a Cluster of which nothing is known until Run.
func New(o Options) *Cluster {
	c := &Cluster{
		o: o, probeNow: make(chan struct{}, 1), notifyNow: make(chan struct{}, 1),
		changed: make(chan struct{}), published: make(chan struct{}), tracker: newTracker(),
	}
	t := &Topology{}
	for _, s := range o.Servers {
		t.States = append(t.States, unknown(s))
	}
	c.topo.Store(t)
	return c
}

// unknown returns the state of a server nobody has asked.
func unknown(s *Server) State { return State{Server: s, Err: ErrNoLogin, Probed: math.MinInt64} }

// Name returns the cluster's name in the configuration.
func (c *Cluster) Name() string { return c.o.Name }

// Topology returns what is known now.
func (c *Cluster) Topology() *Topology { return c.topo.Load() }

// ProbeNow makes the monitor probe the servers now.
func (c *Cluster) ProbeNow() { signal(c.probeNow) }

// signal wakes the receiver of a channel of capacity 1, or leaves the signal for its
// next receive.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// ReportUnreachable tells the monitor that s could not be reached. If err is conclusive
// it serves nothing until a probe finds it up again, else the monitor probes now.
func (c *Cluster) ReportUnreachable(s *Server, err error) {
	s.loginAnew.Store(true)
	if !Inconclusive(err) {
		c.update(func(states []State) {
			if st := find(states, s); st != nil && st.Up {
				st.Up, st.Slow, st.Err, st.Probed = false, false, err, Now()
			}
		})
	}
	c.ProbeNow()
}

// ReportLost tells the monitor that a connection to s was lost, or that s is not what it
// was: it probes now, by a new login.
func (c *Cluster) ReportLost(s *Server) {
	s.loginAnew.Store(true)
	c.ProbeNow()
}

// Recheck returns s's state as a probe finds it that begins now and logs in anew,
// or the latest known if ctx ends before.
func (c *Cluster) Recheck(ctx context.Context, s *Server) State {
	at := Now()
	s.loginAnew.Store(true)
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	for {
		c.mu.Lock()
		published := c.published
		c.mu.Unlock()
		st := c.topo.Load().State(s)
		if st.Probed > at {
			return st
		}
		c.ProbeNow()
		select {
		case <-published:
		case <-ctx.Done():
			return st
		}
	}
}

// Departs reports whether a server that ended a session is shutting down, or has become
// something else, rather than having been told to end that session. It waits for a probe.
func (c *Cluster) Departs(ctx context.Context, s *Server) bool {
	before := c.Topology().State(s)
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	now := c.Recheck(ctx, s)
	return !now.Status.Usable() || now.Started != before.Started || now.Role != before.Role
}

// Demoted reports whether a server that refuses to write is the primary no more. It waits for a probe.
func (c *Cluster) Demoted(ctx context.Context, s *Server) bool {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	now := c.Recheck(ctx, s)
	return !now.Status.Usable() || now.Role == RoleReplica
}

// recheckTimeout bounds how long the answer of a server is held back to learn what
// becomes of it.
const recheckTimeout = 2 * time.Second

// WaitPrimary returns the primary, waiting until there is one or ctx ends (ErrNoPrimary).
func (c *Cluster) WaitPrimary(ctx context.Context) (*Server, error) {
	var primary *Server
	err := c.Wait(ctx, func(t *Topology) bool {
		primary = t.Primary
		return primary != nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoPrimary, c.topo.Load().reasons())
	}
	return primary, nil
}

// Wait waits until a topology satisfies enough, or ctx ends (its error).
func (c *Cluster) Wait(ctx context.Context, enough func(*Topology) bool) error {
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	return c.watchFor(ctx, enough, c.ProbeNow)
}

// Watch does what Wait does for somebody who is in no hurry: no server is asked sooner.
func (c *Cluster) Watch(ctx context.Context, enough func(*Topology) bool) error {
	return c.watchFor(ctx, enough, func() {})
}

func (c *Cluster) watchFor(ctx context.Context, enough func(*Topology) bool, hurry func()) error {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if enough(c.topo.Load()) {
			return nil
		}
		hurry()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run watches the servers until ctx ends, each by a goroutine of its own, so that
// one that hangs delays nothing that is known of the others.
func (c *Cluster) Run(ctx context.Context) {
	defer c.o.Prober.Close()
	var wg sync.WaitGroup
	before := c.topo.Load()
	wg.Go(func() { c.notify(ctx, before) })
	watchers := newCrew(c.watch)
	c.schedule(ctx, watchers)
	watchers.wait()
	wg.Wait()
}

// fastInterval returns the time between probes while somebody waits or there is no primary.
func (c *Cluster) fastInterval() time.Duration {
	return min(max(c.o.Interval/10, 5*time.Millisecond), 50*time.Millisecond)
}

// schedule begins probes, of all servers at the same time, until ctx ends. However often
// it is signalled, it keeps its distance between them.
func (c *Cluster) schedule(ctx context.Context, watchers *crew) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.probeNow:
		}
		c.dismiss(time.Now())
		states := c.topo.Load().States
		watchers.attend(ctx, states)
		for i := range states {
			signal(states[i].Server.probeNow)
		}
		fastInterval := c.fastInterval()
		rest.Reset(fastInterval)
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
		}
		next := c.o.Interval - fastInterval
		if t := c.topo.Load(); c.waiting.Load() > 0 || t.Primary == nil && !t.lockedOut() {
			next = 0
		}
		timer.Reset(next)
	}
}

// lockedOut reports whether no server lets the monitor in, which fastInterval does not cure.
func (t *Topology) lockedOut() bool {
	for i := range t.States {
		var refused *pgconn.PgError
		if !errors.As(t.States[i].Err, &refused) || strings.HasPrefix(refused.Code, "57") {
			return false
		}
	}
	return true
}

// notify calls Changed with every change until ctx ends, the first with what was known
// before it.
func (c *Cluster) notify(ctx context.Context, before *Topology) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.notifyNow:
		}
		c.mu.Lock()
		pending := c.unnotified
		c.unnotified = nil
		c.mu.Unlock()
		for _, t := range pending {
			c.o.Changed(before, t)
			before = t
		}
	}
}

// update publishes a copy of the topology with changed states.
func (c *Cluster) update(change func(states []State)) {
	c.publish(func(states []State) []State { change(states); return states })
}

// publish publishes a copy of the topology with changed states, or others.
func (c *Cluster) publish(change func(states []State) []State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.topo.Load()
	states := change(append([]State(nil), before.States...))
	after := judge(states, before, before.Known || c.heardAllLocked(states))
	same := after.Known == before.Known && after.Primary == before.Primary && len(after.States) == len(before.States)
	now := time.Now()
	for i := range states {
		st, old := &states[i], find(before.States, states[i].Server)
		if old != nil && st.Status == old.Status && (st.Unproved == nil) == (old.Unproved == nil) && st.Many == old.Many && (st.Status == StatusUnknown || st.Role == old.Role && st.Timeline == old.Timeline) {
			same = same && st.Unlisted() == old.Unlisted()
			continue
		}
		st.Since, same = now, false
	}
	c.topo.Store(after)
	close(c.published)
	c.published = make(chan struct{})
	if same {
		return
	}
	close(c.changed)
	c.changed = make(chan struct{})
	if c.o.Changed != nil {
		c.unnotified = append(c.unnotified, after)
		signal(c.notifyNow)
	}
	if after.Primary == nil && before.Primary != nil {
		c.ProbeNow()
	}
}

// heardAllLocked reports whether every server has answered or failed, or the first
// answer is so long ago that the others need not be waited for.
func (c *Cluster) heardAllLocked(states []State) bool {
	all := true
	for i := range states {
		st := &states[i]
		if st.Up && c.first.IsZero() {
			c.first = time.Now()
		}
		all = all && (st.Up || !errors.Is(st.Err, ErrNoLogin))
	}
	return all || !c.first.IsZero() && time.Since(c.first) > c.o.Slow
}

// AnyTime asks for no freshness.
const AnyTime Moment = -2

// Reader picks a server for a read that must see what was committed up to asOf: a
// replica, or with primary also the primary, whichever has the least load for its
// share. It is nil if none of them will do.
func (c *Cluster) Reader(primary bool, asOf Moment) *Server {
	t := c.topo.Load()
	s := t.Replica(c.turn.Add(1), asOf)
	if !primary || t.Primary == nil {
		return s
	}
	if p := t.Primary; s == nil || (p.Load()+1)*s.share() < (s.Load()+1)*max(p.share(), fullShare) {
		return p
	}
	return s
}
