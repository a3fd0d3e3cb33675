package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/router"
)

// settings count how the settings of sessions get to server connections.
type settings struct {
	adopted      prometheus.Histogram // by how many settings changed
	hits, misses atomic.Uint64
	readBacks    atomic.Uint64
	unclean      atomic.Uint64
	tenantLeft   atomic.Uint64
	tenantUnset  [router.Classes]atomic.Uint64
}

func newAdopted() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "pgweir_adopted_settings", Help: "Settings a server connection had to take over before it served a session.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 6),
	})
}

// Adopted counts a server connection that was taken by a session with settings, and had
// to take over so many of them; 0 is that it carried all.
func (m *Metrics) Adopted(changes int) {
	s := &m.settings
	if changes == 0 {
		s.hits.Add(1)
		return
	}
	s.misses.Add(1)
	s.adopted.Observe(float64(changes))
}

// ReadBack counts a server connection that was asked what a statement left behind.
func (m *Metrics) ReadBack() { m.settings.readBacks.Add(1) }

// AssertionFailed counts a server connection that is closed because what isolation rests
// on did not hold when it went to another session.
func (m *Metrics) AssertionFailed() { m.settings.unclean.Add(1) }

// TenantLeft counts a session that gave its server connection back while it works for a
// tenant it did not work for the last time.
func (m *Metrics) TenantLeft() { m.settings.tenantLeft.Add(1) }

// TenantUnset counts a statement that uses relations while no tenant is named.
func (m *Metrics) TenantUnset(c router.Class) { m.settings.tenantUnset[c].Add(1) }

// collectSettings adds the counts.
func (m *Metrics) collectSettings(to sink) {
	s, n := &m.settings, &m.names.settings
	s.adopted.Collect(to)
	to.count(n.affinity, s.misses.Load(), "miss")
	to.count(n.affinity, s.hits.Load(), "hit")
	to.count(n.readBacks, s.readBacks.Load())
	to.count(n.assertionsFailed, s.unclean.Load())
	asked, differing := m.sources.Verified()
	to.count(n.verified, asked-differing, "equal")
	to.count(n.verified, differing, "different")
	if !m.sources.Tenants() {
		return
	}
	to.count(n.tenantLeft, s.tenantLeft.Load())
	for class := range s.tenantUnset {
		if v := s.tenantUnset[class].Load(); v > 0 {
			to.count(n.tenantUnset, v, router.Class(class).String())
		}
	}
}
