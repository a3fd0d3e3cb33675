package cluster

import (
	"context"
	"fmt"
	"time"
)

// watch probes one server whenever schedule asks for it, until ctx ends.
func (c *Cluster) watch(ctx context.Context, s *Server) {
	defer c.o.Prober.Forget(s)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.probeNow:
			c.probe(ctx, s)
		}
	}
}

// probe asks a server for its state and publishes the outcome.
func (c *Cluster) probe(ctx context.Context, s *Server) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout())
	defer cancel()
	anew := s.loginAnew.Swap(false) || !c.topo.Load().State(s).Up
	s.alive.Store(false)
	s.asked.Store(true)
	began := Now()
	slow := time.AfterFunc(c.o.Slow, func() { c.probeSlow(s, began) })
	p, err := c.o.Prober.Probe(ctx, s, anew)
	slow.Stop()
	s.asked.Store(false)
	if ctx.Err() != nil && context.Cause(ctx) == context.Canceled {
		return // the monitor ends
	}
	if err == nil {
		err = Supported(p.Version)
	}
	if err != nil {
		c.probeFailed(s, began, err)
		return
	}
	c.probeAnswered(s, began, p)
}

// probeSlow notes that a probe is not answered in time, unless clients are.
func (c *Cluster) probeSlow(s *Server, began Moment) {
	c.update(func(states []State) {
		if st := find(states, s); st != nil && st.Up && st.Probed < began && !s.alive.Load() {
			st.Slow, st.Err = true, fmt.Errorf("it has not answered for %v", c.o.Slow)
		}
	})
}

// probeFailed notes a probe that failed. Clients that are answered meanwhile prove that
// the server is there, unless the failure is conclusive.
func (c *Cluster) probeFailed(s *Server, began Moment, err error) {
	c.update(func(states []State) {
		st := find(states, s)
		if st == nil || began < st.Probed {
			return // it is gone, or overtaken by a report
		}
		if st.Probed = began; st.Up && s.alive.Load() && Inconclusive(err) {
			st.Slow = false
			return
		}
		st.Up, st.Slow, st.Err = false, false, err
	})
}

// probeAnswered notes what a server said of itself.
func (c *Cluster) probeAnswered(s *Server, began Moment, p Probe) {
	c.update(func(states []State) {
		st := find(states, s)
		if st == nil || began < st.Probed {
			return
		}
		found := State{
			Server: s, Role: RolePrimary, Up: true, Timeline: p.Timeline, SystemID: p.SystemID,
			Version: p.Version, Started: p.Started, LSN: p.LSN, Unproved: p.Unproved, Probed: began, Since: st.Since,
		}
		if p.InRecovery {
			found.Role = RoleReplica
		}
		if p.InRecovery && st.Started == p.Started {
			// What a standby has received it is not asked for once it receives no more.
			found.Timeline = max(found.Timeline, st.Timeline)
		}
		if !st.Up || st.Started != p.Started {
			// What was known of its freshness may be of another data directory.
			s.fresh.Store(nil)
		}
		if away(st) {
			s.returned.Store(int64(Now()))
		}
		found.Many, found.Leaving = st.Many, st.Leaving
		*st = found
	})
	if p.Anew {
		c.Saw(s, p.Started)
	}
}

// away reports whether a server that answers again had been given up.
func away(st *State) bool {
	switch st.Status {
	case StatusDown, StatusSlow, StatusForeign, StatusDiverged, StatusFenced:
		return true
	case StatusUnknown, StatusServing, StatusSplitBrain, StatusDuplicate, StatusLeaving:
	}
	return false
}
