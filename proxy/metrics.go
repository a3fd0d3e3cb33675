package proxy

import (
	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy/metrics"
)

// What the service tells package metrics, besides single events.

// sources are what is asked when metrics are collected.
func (s *Server) sources() metrics.Sources {
	return metrics.Sources{
		Pools: s.eachPool, Databases: s.eachDatabase, Clusters: s.eachCluster, Sessions: s.members.now,
		Certificates: func() []config.Certificate { return s.terms.Load().shown },
		Tenants:      func() bool { return len(s.terms.Load().cfg.Tenant.Settings) > 0 }, Verified: func() (uint64, uint64) { return s.upstream.Verified() },
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
		c := metrics.Cluster{Name: name, Topology: cl.Topology(), Failovers: cl.Failovers(), Slots: cl.Slots}
		c.Found, c.Unfound, c.Discovers = cl.Discoveries()
		each(c)
	}
}
