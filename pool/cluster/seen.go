package cluster

import (
	"slices"
	"sync"
	"time"
)

// An address is one server. Behind some there are several: a balancer, a name with many
// addresses. What is known of one is not true of another, so each connection learns who
// answered (the time at which its postmaster was started), and freshness counts for that
// one only. A server that was restarted, or an address that leads elsewhere now, shows
// another time once and for all; where a later login shows an earlier one again, there are many.

// manyFor is for how long an address that was found to be many counts as that.
const manyFor = 10 * time.Minute

// seen is who answered at an address.
type seen struct {
	mu      sync.Mutex // protects the fields below
	started []string   // the latest last, each once, at most maxSeen
	many    time.Time  // when it last was found to be many
}

const maxSeen = 16

// Saw says that a new connection to s was answered by the server with that start time. If the
// monitor knows another, it asks anew, and until then nobody knows what that server is: the address
// may lead elsewhere now, to a primary that has a successor. Then known is false.
func (c *Cluster) Saw(s *Server, started string) (known bool) {
	if started == "" {
		return true
	}
	many := s.seen.note(started, time.Now())
	switch st := c.topo.Load().State(s); {
	case st.Many != many:
		c.update(func(states []State) {
			if st := find(states, s); st != nil {
				st.Many = many
			}
		})
	case !many && st.Started != "" && st.Started != started:
		c.ReportLost(s)
		return false
	}
	return true
}

// note reports whether several servers answer.
func (w *seen) note(started string, now time.Time) (many bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.Index(w.started, started)
	if n := len(w.started); at >= 0 && at < n-1 {
		w.many = now
		w.started = slices.Delete(w.started, at, at+1)
	} else if n == maxSeen && at < 0 {
		w.started = slices.Delete(w.started, 0, 1)
	}
	if n := len(w.started); n == 0 || w.started[n-1] != started {
		w.started = append(w.started, started)
	}
	return !w.many.IsZero() && now.Sub(w.many) < manyFor
}
