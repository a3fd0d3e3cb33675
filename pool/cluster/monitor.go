package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Probe is what one look at a server tells.
type Probe struct {
	InRecovery bool
	Timeline   uint32
	SystemID   string
	Version    int
}

// Prober asks one server. The monitor calls it for different servers at the same
// time, and for one server never twice at a time. ErrNoLogin says that nobody's login is known yet.
type Prober interface {
	Probe(ctx context.Context, s *Server) (Probe, error)
	Close()
}

// ErrNoLogin is that the monitor has no account to ask with: none is configured
// and no client has logged in yet.
var ErrNoLogin = errors.New("no service account is configured and no client has logged in yet")

// ErrNoPrimary is that no server is the primary.
var ErrNoPrimary = errors.New("no primary")

// ErrNoServer is that no server can be used at all.
var ErrNoServer = errors.New("no server is up")

// Options are what a Cluster is made with.
type Options struct {
	Name     string
	Servers  []*Server
	Interval time.Duration // between looks at each server
	Timeout  time.Duration // of one look
	Prober   Prober
	Sampler  Sampler // nil: freshness is not tracked
	// Changed is told of every change of a server's state, from the monitor's goroutine. It may be nil.
	Changed func(before, after State)
}

// Cluster is one primary and its replicas. Safe for concurrent use.
type Cluster struct {
	o    Options
	topo atomic.Pointer[Topology]
	turn atomic.Uint32
	kick chan struct{} // asks for a look now; of capacity 1

	tracker *tracker

	mu      sync.Mutex    // protects the fields below
	changed chan struct{} // closed at the next publication
}

// New makes a Cluster of which nothing is known until Run.
func New(o Options) *Cluster {
	c := &Cluster{o: o, kick: make(chan struct{}, 1), changed: make(chan struct{}), tracker: newTracker(len(o.Servers))}
	states := make([]State, len(o.Servers))
	for i, s := range o.Servers {
		s.fresh.Store(-1)
		states[i] = State{Server: s, Err: ErrNoLogin}
	}
	c.topo.Store(&Topology{States: states})
	return c
}

// Name is the cluster's name in the configuration.
func (c *Cluster) Name() string { return c.o.Name }

// Topology is what is known now.
func (c *Cluster) Topology() *Topology { return c.topo.Load() }

// Kick makes the monitor look at the servers now.
func (c *Cluster) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Suspect tells that s failed: it serves nothing until a look says it is up.
func (c *Cluster) Suspect(s *Server, err error) {
	c.update(func(states []State) {
		if st := &states[s.Index]; st.Up {
			c.note(st, State{Server: s, Role: st.Role, Timeline: st.Timeline, SystemID: st.SystemID, Version: st.Version, Err: err})
		}
	})
	c.Kick()
}

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
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if enough(c.topo.Load()) {
			return nil
		}
		c.Kick()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *Topology) reasons() string {
	var text string
	for _, st := range t.States {
		if st.Err != nil {
			text += fmt.Sprintf("; %s: %v", st.Server.Address, st.Err)
		}
	}
	if text == "" {
		return "every server is a standby"
	}
	return text[2:]
}

// Run watches the servers until ctx ends. While somebody waits for a change it
// looks again after a tenth of the interval.
func (c *Cluster) Run(ctx context.Context) {
	defer c.o.Prober.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		kicked := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.kick:
			kicked = true
		}
		c.look(ctx)
		interval := c.o.Interval
		if t := c.topo.Load(); kicked || t.Primary == nil {
			interval /= 10
		}
		timer.Reset(interval)
		if kicked {
			// Not faster than the short interval, however often it is asked.
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
				timer.Reset(c.o.Interval)
			}
		}
	}
}

// look asks all servers at once and publishes what they say.
func (c *Cluster) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	found := make([]State, len(c.o.Servers))
	var wg sync.WaitGroup
	for i, s := range c.o.Servers {
		wg.Go(func() { found[i] = c.ask(ctx, s) })
	}
	wg.Wait()
	c.update(func(states []State) {
		for i := range states {
			c.note(&states[i], found[i])
		}
	})
}

func (c *Cluster) ask(ctx context.Context, s *Server) State {
	p, err := c.o.Prober.Probe(ctx, s)
	if err != nil {
		return State{Server: s, Err: err}
	}
	st := State{Server: s, Role: RolePrimary, Up: true, Timeline: p.Timeline, SystemID: p.SystemID, Version: p.Version}
	if p.InRecovery {
		st.Role = RoleReplica
	}
	return st
}

// note puts a new state in the place of an old one, keeping since when it holds
// and what a server that does not answer was last known to be.
func (c *Cluster) note(old *State, found State) {
	if !found.Up && found.Role == RoleUnknown {
		found.Role, found.Timeline, found.SystemID, found.Version = old.Role, old.Timeline, old.SystemID, old.Version
	}
	found.Since = old.Since
	same := found.Up == old.Up && found.Role == old.Role && found.Timeline == old.Timeline
	if !same || old.Since.IsZero() {
		found.Since = time.Now()
		if c.o.Changed != nil {
			c.o.Changed(*old, found)
		}
	}
	*old = found
}

// update publishes a changed copy of the topology.
func (c *Cluster) update(change func(states []State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := append([]State(nil), c.topo.Load().States...)
	change(states)
	c.topo.Store(judge(states))
	close(c.changed)
	c.changed = make(chan struct{})
}

// judge derives the topology from the servers' states. Among servers that call
// themselves primary the higher timeline wins; two on the same timeline are no primary at all.
func judge(states []State) *Topology {
	t := &Topology{States: states, Known: true}
	var best *State
	for i := range states {
		st := &states[i]
		if st.Role == RoleUnknown && errors.Is(st.Err, ErrNoLogin) {
			t.Known = false
		}
		if !st.Up {
			continue
		}
		switch {
		case st.Role == RoleReplica:
			t.Replicas = append(t.Replicas, st.Server)
		case best == nil || st.Timeline > best.Timeline:
			best, t.Primary = st, st.Server
		case st.Timeline == best.Timeline:
			t.Primary = nil
		}
	}
	return t
}

// AnyTime asks for no freshness.
const AnyTime Moment = -2

// Reader picks a server for a read that must see what was committed before asOf: a
// replica, or with primary also the primary, whichever has the least load for its
// weight. It is nil if none of them will do.
func (c *Cluster) Reader(primary bool, asOf Moment) *Server {
	t := c.topo.Load()
	s := t.Replica(c.turn.Add(1), asOf)
	if !primary || t.Primary == nil {
		return s
	}
	if p := t.Primary; s == nil || (p.Load()+1)*int64(s.Weight) < (s.Load()+1)*int64(max(p.Weight, 1)) {
		return p
	}
	return s
}
