package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Servers come and go while the cluster is in use. One that is no longer listed is
// watched as long as something runs on it, so that it is known when nothing may: it
// leaves. Then it is forgotten; if it is listed again before, nothing has happened.

// Member is what is declared or found of one server.
type Member struct {
	Address string
	TLSName string // as Server.TLSName
	Weight  int
}

// errNoMembers is a list of servers that is empty, which a cluster cannot be.
var errNoMembers = errors.New("no server is listed")

// leaveAfter is how long a server stays known at least once it is no longer listed: for
// who has just picked it.
const leaveAfter = time.Second

// SetMembers makes the cluster consist of these servers from now on, each address once.
// Those that it knows by their addresses are not disturbed. The error is of an empty list,
// which changes nothing.
func (c *Cluster) SetMembers(members []Member) error {
	if len(members) == 0 {
		return errNoMembers
	}
	c.publish(func(states []State) []State { return withMembers(states, members, time.Now()) })
	c.ProbeNow()
	signal(c.tracker.sampleNow)
	return nil
}

// Enable lets reads go to a server, or keeps them away from it as long as it is a replica. What runs
// there comes to its end.
func (c *Cluster) Enable(s *Server, on bool) {
	s.disabled.Store(!on)
	c.update(func([]State) {})
}

func withMembers(states []State, members []Member, now time.Time) []State {
	for i := range states {
		st := &states[i]
		at := slices.IndexFunc(members, st.Server.is)
		switch {
		case at >= 0:
			st.Leaving = time.Time{}
			st.Server.declare(&members[at])
		case st.Leaving.IsZero():
			st.Leaving = now
		}
	}
	for _, m := range members {
		if slices.ContainsFunc(states, func(st State) bool { return st.Server.is(m) }) {
			continue
		}
		states = append(states, unknown(MemberServer(m)))
	}
	return states
}

// is reports whether m is s.
func (s *Server) is(m Member) bool { return s.Address == m.Address }

// dismiss forgets the servers that have left: nothing runs there, and they are not needed.
func (c *Cluster) dismiss(now time.Time) {
	left := func(st State) bool {
		return !st.Leaving.IsZero() && now.Sub(st.Leaving) >= leaveAfter && !st.Status.Usable() && st.Server.Load() == 0
	}
	if slices.ContainsFunc(c.topo.Load().States, left) {
		c.publish(func(states []State) []State { return slices.DeleteFunc(states, left) })
	}
}

// crew is one goroutine for each server, as long as that is known. It belongs to one
// goroutine.
type crew struct {
	work    func(context.Context, *Server)
	running map[*Server]context.CancelFunc
	all     sync.WaitGroup
}

func newCrew(work func(context.Context, *Server)) *crew {
	return &crew{work: work, running: map[*Server]context.CancelFunc{}}
}

// attend begins the work for servers that are new, until ctx ends, and ends that for
// those that are gone.
func (w *crew) attend(ctx context.Context, states []State) {
	for s, end := range w.running {
		if find(states, s) == nil {
			end()
			delete(w.running, s)
		}
	}
	for i := range states {
		s := states[i].Server
		if w.running[s] == nil {
			of, end := context.WithCancel(ctx)
			w.running[s] = end
			w.all.Go(func() { w.work(of, s) })
		}
	}
}

// wait ends all the work and waits for its end.
func (w *crew) wait() {
	for _, end := range w.running {
		end()
	}
	w.all.Wait()
}
