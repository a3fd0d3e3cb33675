package proxy

import (
	"time"

	"github.com/pgweir/pgweir/proxy/metrics"
)

// What the service tells package metrics, besides single events.

// sources are what is asked when metrics are collected.
func (s *Server) sources() metrics.Sources {
	return metrics.Sources{
		Pools: s.eachPool, Databases: s.eachDatabase, Clusters: s.eachCluster, OldestPins: s.oldestPins,
		Tenants: func() bool { return len(s.terms.Load().cfg.Tenant.Settings) > 0 }, Verified: func() (uint64, uint64) { return s.upstream.Verified() },
	}
}

func (s *Server) eachPool(each func(metrics.Pool)) {
	for _, p := range s.upstream.Pools() {
		for _, st := range p.Cluster.Topology().States {
			each(metrics.Pool{
				Server: st.Server.Address, Database: p.Key.Database, User: p.Key.User, Stats: p.Of(st.Server).Stats(),
			})
		}
	}
}

func (s *Server) eachDatabase(each func(metrics.Database)) {
	for _, d := range s.upstream.Databases() {
		each(metrics.Database{Label: d.Label(), Stats: d.Plans.Stats()})
	}
}

func (s *Server) eachCluster(each func(metrics.Cluster)) {
	for name, cl := range s.upstream.Clusters() {
		each(metrics.Cluster{Name: name, Topology: cl.Topology(), Failovers: cl.Failovers()})
	}
}

// oldestPins is how long some session has been pinned, by bit of PinSet.
func (s *Server) oldestPins() (oldest [metrics.Pins]time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		pins, since := m.client.Pinned()
		for i := range oldest {
			if pins&(1<<i) != 0 {
				oldest[i] = max(oldest[i], now.Sub(since))
			}
		}
	}
	return oldest
}
