package proxy

import (
	"time"

	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/router"
)

// What the service tells package metrics, besides single events.

// sources are what is asked when metrics are collected.
func (s *Server) sources() metrics.Sources {
	return metrics.Sources{
		Pools: s.eachPool, Databases: s.eachDatabase, Clusters: s.eachCluster, OldestPins: s.oldestPins,
		Tenants: len(s.cfg.Tenant.Settings) > 0,
	}
}

func (s *Server) eachPool(each func(metrics.Pool)) {
	for _, o := range s.origins.all() {
		for i, st := range o.cluster.Topology().States {
			each(metrics.Pool{Server: st.Server.Address, Database: o.key.database, User: o.key.user, Stats: o.pools[i].Stats()})
		}
	}
}

func (s *Server) eachDatabase(each func(metrics.Database)) {
	for _, d := range s.origins.databases() {
		each(metrics.Database{Label: d.label(), Stats: d.plans.Stats()})
	}
}

func (s *Server) eachCluster(each func(metrics.Cluster)) {
	for name, cl := range s.clusters {
		each(metrics.Cluster{Name: name, Topology: cl.Topology(), Failovers: s.servers[name].failovers.Load()})
	}
}

// pinned is why and since when a session is tied to its server connection.
type pinned struct {
	pins  router.PinSet
	since time.Time
}

// oldestPins is how long some session has been pinned, by bit of PinSet.
func (s *Server) oldestPins() (oldest [metrics.Pins]time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		p := c.pinned.Load()
		for i := 0; p != nil && i < len(oldest); i++ {
			if p.pins&(1<<i) != 0 {
				oldest[i] = max(oldest[i], now.Sub(p.since))
			}
		}
	}
	return oldest
}
