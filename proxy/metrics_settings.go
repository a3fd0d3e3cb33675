package proxy

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/router"
)

// settingsMetrics count how the settings of sessions get to server connections.
type settingsMetrics struct {
	adopted     [len(adoptedBounds) + 1]atomic.Uint64 // adoptions by how many settings changed
	adoptedSum  atomic.Uint64
	affinity    [2]atomic.Uint64 // connections taken that did not carry the settings, and that did
	readBacks   atomic.Uint64
	tenantLeft  atomic.Uint64
	tenantUnset [router.Classes]atomic.Uint64
}

// adoptedBounds are the buckets of settings changed by one adoption.
var adoptedBounds = [...]int{1, 2, 4, 8, 16, 32}

func (m *settingsMetrics) adoption(changes int) {
	i := 0
	for i < len(adoptedBounds) && changes > adoptedBounds[i] {
		i++
	}
	m.adopted[i].Add(1)
	m.adoptedSum.Add(uint64(changes))
}

var (
	descAdopted     = desc("adopted_settings", "Settings a server connection had to take over before it served a session.")
	descAffinity    = desc("affinity_total", "Server connections taken by sessions that have settings: whether it carried them already.", "result")
	descReadBacks   = desc("read_backs_total", "Times a server connection was asked what a statement left behind.")
	descTenantLeft  = desc("tenant_left_total", "Times a session gave its server connection back with a tenant setting newly set for the session: the next user of that client connection works for the same tenant.")
	descTenantUnset = desc("tenant_unset_total", "Statements that used relations while no tenant setting had a value, by class.", "class")
	descOldestPin   = desc("oldest_pin_seconds", "How long the longest has been tied to its server connection, of the sessions tied for a reason.", "reason")
)

// collectSettings adds the counts, and the age of the pins there are now.
func (m *metrics) collectSettings(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	buckets, total := map[float64]uint64{}, uint64(0)
	for i := range m.settings.adopted {
		total += m.settings.adopted[i].Load()
		if i < len(adoptedBounds) {
			buckets[float64(adoptedBounds[i])] = total
		}
	}
	ch <- prometheus.MustNewConstHistogram(descAdopted, total, float64(m.settings.adoptedSum.Load()), buckets)
	count(descAffinity, m.settings.affinity[0].Load(), "miss")
	count(descAffinity, m.settings.affinity[1].Load(), "hit")
	count(descReadBacks, m.settings.readBacks.Load())
	if len(m.s.cfg.Tenant.Settings) > 0 {
		count(descTenantLeft, m.settings.tenantLeft.Load())
		for class := range m.settings.tenantUnset {
			if n := m.settings.tenantUnset[class].Load(); n > 0 {
				count(descTenantUnset, n, router.Class(class).String())
			}
		}
	}
	now := time.Now()
	for i, since := range m.s.oldestPins() {
		if !since.IsZero() {
			reason := (router.PinSet(1) << i).String()
			ch <- prometheus.MustNewConstMetric(descOldestPin, prometheus.GaugeValue, now.Sub(since).Seconds(), reason)
		}
	}
}

// oldestPins is since when some session has been pinned, by bit of PinSet.
func (s *Server) oldestPins() (oldest [16]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		p := c.pinned.Load()
		for i := 0; p != nil && i < len(oldest); i++ {
			if p.pins&(1<<i) != 0 && (oldest[i].IsZero() || p.since.Before(oldest[i])) {
				oldest[i] = p.since
			}
		}
	}
	return oldest
}

// pinned is why and since when a session is tied to its server connection.
type pinned struct {
	pins  router.PinSet
	since time.Time
}
