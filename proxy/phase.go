package proxy

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/pool/cluster"
)

// phase is where the service stands in its life; its methods are the Server's.
type phase struct {
	ending    atomic.Bool    // it is to end: whoever asks sends it no more clients
	draining  atomic.Bool    // it lets nobody in, and idle sessions end
	beside    atomic.Bool    // other processes of the service write too
	accepting sync.WaitGroup // of accept
	tended    atomic.Int64   // when tend last began a round, in nanoseconds since 1970
}

// Announce says that the service will end: it is not ready any more, and serves on.
func (p *phase) Announce() { p.ending.Store(true) }

// Draining reports whether the service is ending.
func (p *phase) Draining() bool { return p.draining.Load() }

// Beside says whether other processes of the service are beside this one. What those commit it
// does not know: while there are any, reads that must see the commits of others must be fresh as of
// their arrival.
func (s *Server) Beside(others bool) {
	if s.phase.beside.Load() && !others {
		s.upstream.CommittedElsewhere()
	}
	s.phase.beside.Store(others)
}

// Ready reports whether statements can be served, and if not, why.
func (s *Server) Ready() error {
	if s.phase.ending.Load() || s.phase.draining.Load() {
		return errors.New("shutting down")
	}
	for name, c := range s.upstream.Clusters() {
		t := c.Topology()
		if len(t.States) == 0 {
			return fmt.Errorf("cluster %s: no server has been found", name)
		}
		if t.Known && t.Primary == nil && len(t.Replicas) == 0 && !unasked(t) {
			return fmt.Errorf("cluster %s: no server is up", name)
		}
	}
	return s.lookups.nobodyLogsIn()
}

// Served is Ready for a service that has just begun: it also says so while the servers have not
// been asked.
func (s *Server) Served() error {
	for name, c := range s.upstream.Clusters() {
		t := c.Topology()
		for i := range t.States {
			if st := &t.States[i]; !t.Known && !(st.Probed > math.MinInt64 && errors.Is(st.Err, cluster.ErrNoLogin)) {
				return fmt.Errorf("cluster %s: the servers have not been asked yet", name)
			}
		}
	}
	return s.Ready()
}

// unasked reports whether some server is there of which nothing is known, because nobody's login is.
func unasked(t *cluster.Topology) bool {
	for i := range t.States {
		if t.States[i].Status == cluster.StatusUnknown {
			return true
		}
	}
	return false
}

// tendLate is how long a round of tend may take before the service counts as stuck.
const tendLate = 10 * time.Second

// Alive reports whether the service does its regular work, and if not, for how long.
func (p *phase) Alive() error {
	last := p.tended.Load()
	if late := time.Since(time.Unix(0, last)); last != 0 && late > tendLate {
		return fmt.Errorf("the service has been stuck for %v", late.Round(time.Second))
	}
	return nil
}
