package cluster

import (
	"context"
	"fmt"
	"time"
)

// watch looks at one server whenever it is told to, until ctx ends.
func (c *Cluster) watch(ctx context.Context, s *Server) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.looks[s.Index]:
			c.look(ctx, s)
		}
	}
}

// look asks a server and publishes what that tells.
func (c *Cluster) look(ctx context.Context, s *Server) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	anew := s.doubted.Swap(false) || !c.topo.Load().State(s).Up
	s.alive.Store(false)
	s.asked.Store(true)
	began := Now()
	late := time.AfterFunc(c.o.Slow, func() { c.late(s, began) })
	p, err := c.o.Prober.Probe(ctx, s, anew)
	late.Stop()
	s.asked.Store(false)
	if ctx.Err() != nil && context.Cause(ctx) == context.Canceled {
		return // the monitor ends
	}
	if err != nil {
		c.missed(s, began, err)
		return
	}
	c.learn(s, began, p)
}

// late notes that a look is not answered in time, unless clients are.
func (c *Cluster) late(s *Server, began Moment) {
	c.update(func(states []State) {
		if st := &states[s.Index]; st.Up && st.Looked < began && !s.alive.Load() {
			st.Slow, st.Err = true, fmt.Errorf("it has not answered for %v", c.o.Slow)
		}
	})
}

// missed notes a look that failed. Clients that are answered meanwhile prove that
// the server is there, unless the failure leaves no doubt that it is not.
func (c *Cluster) missed(s *Server, began Moment, err error) {
	c.update(func(states []State) {
		st := &states[s.Index]
		if began < st.Looked {
			return // overtaken by a suspicion
		}
		if st.Looked = began; st.Up && s.alive.Load() && Doubtful(err) {
			st.Slow = false
			return
		}
		st.Up, st.Slow, st.Err = false, false, err
	})
}

// learn notes what a server said of itself.
func (c *Cluster) learn(s *Server, began Moment, p Probe) {
	c.update(func(states []State) {
		st := &states[s.Index]
		if began < st.Looked {
			return
		}
		found := State{
			Server: s, Role: RolePrimary, Up: true, Timeline: p.Timeline, SystemID: p.SystemID,
			Version: p.Version, Started: p.Started, LSN: p.LSN, Looked: began, Since: st.Since,
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
			s.fresh.Store(-1)
		}
		if away(st) {
			s.returned.Store(int64(Now()))
		}
		*st = found
	})
}

// away reports whether a server that answers again had been given up.
func away(st *State) bool {
	switch st.Status {
	case StatusDown, StatusSlow, StatusStranger, StatusAstray, StatusFenced:
		return true
	}
	return false
}
