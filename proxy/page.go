package proxy

import (
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/page"
)

// PageOf is what the status page of a service shows: what the admin console does, from the same source.
func PageOf(s *Server) page.Service { return operator{s} }

// Counts implements page.Service.
func (o operator) Counts() *metrics.Counts { return o.metrics.Counts() }

// Acquired implements page.Service.
func (o operator) Acquired() map[string]uint64 {
	all := map[string]uint64{}
	for _, p := range o.upstream.Pools() {
		for s, pl := range p.Servers() {
			all[s.Address] += pl.Stats().Acquired
		}
	}
	return all
}

// Insights implements page.Service, and console.Service.
func (o operator) Insights() (insight.Summary, bool) {
	if o.insight == nil {
		return insight.Summary{}, false
	}
	return o.insight.Summary(), true
}

// Book implements page.Service.
func (o operator) Book() *insight.Book { return o.insight }

// SinceBaseline implements page.Service.
func (o operator) SinceBaseline() (before, after *insight.Snapshot, err error) {
	return o.Baselines.Latest()
}

// OnlyPrimary implements page.Service.
func (o operator) OnlyPrimary() bool { return o.consoles.onlyPrimary.Load() }

// Verified implements page.Service.
func (o operator) Verified() (asked, differing uint64) { return o.upstream.Verified() }
