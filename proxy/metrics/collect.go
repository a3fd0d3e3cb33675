package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/router"
)

// sink is where metrics are collected to.
type sink chan<- prometheus.Metric

func (to sink) count(d *prometheus.Desc, v uint64, labels ...string) {
	to.total(d, float64(v), labels...)
}

func (to sink) total(d *prometheus.Desc, v float64, labels ...string) {
	to.send(d, prometheus.CounterValue, v, labels)
}

func (to sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	to.send(d, prometheus.GaugeValue, v, labels)
}

// send passes on a metric. One that cannot be is an error in its place: the others are shown.
func (to sink) send(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels []string) {
	one, err := prometheus.NewConstMetric(d, kind, v, labels...)
	if err != nil {
		one = prometheus.NewInvalidMetric(d, err)
	}
	to <- one
}

// is is a gauge of 1 or 0.
func (to sink) is(d *prometheus.Desc, yes bool, labels ...string) {
	v := 0.0
	if yes {
		v = 1
	}
	to.gauge(d, v, labels...)
}

// Describe implements prometheus.Collector; the metrics are described by collecting them.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	to := sink(ch)
	m.collectStatements(to)
	now := m.sources.Sessions()
	m.collectClients(to, &now)
	m.collectPins(to, &now.OldestPins)
	m.collectSettings(to)
	pools := map[poolID]pool.Stats{}
	m.sources.Pools(func(p Pool) {
		id := poolID{valid(p.Server), valid(p.Database), valid(p.User)}
		pools[id] = plus(pools[id], p.Stats)
	})
	m.bounded.pools.collect(pools, func(id poolID, st pool.Stats) { m.collectPool(to, Pool{id.server, id.database, id.user, st}) })
	plans := map[string]router.Stats{}
	m.sources.Databases(func(d Database) { plans[valid(d.Label)] = m.bounded.plans.plus(plans[valid(d.Label)], d.Stats) })
	m.bounded.plans.collect(plans, func(label string, st router.Stats) { m.collectDatabase(to, Database{label, st}) })
	m.sources.Clusters(func(c Cluster) { m.collectCluster(to, c) })
}

// valid is a label of a name that a client or server has said in whatever encoding: Prometheus takes UTF-8 only. Names that differ in
// nothing else are added up.
func valid(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

func (m *Metrics) collectStatements(to sink) {
	n := &m.names.statements
	m.Statements(func(t router.Target, r router.Reason, c router.Class, v uint64) {
		to.count(n.statements, v, t.String(), r.String(), c.String())
	})
	m.answered.collect(to)
	m.sent.collect(to)
	for w := range m.waits {
		to <- &m.waits[w]
	}
	for r := range m.retries {
		to.count(n.retries, m.retries[r].Load(), Retry(r).String())
	}
	for l := router.Eventual; int(l) < router.Consistencies; l++ {
		f := &m.freshness[l]
		to.count(n.delayed, f.delayed.Load(), l.String())
		to.count(n.redirected, f.redirected.Load(), l.String())
	}
}

func (m *Metrics) collectClients(to sink, now *Sessions) {
	n := &m.names.clients
	to.gauge(n.clients, float64(m.clients.Load()))
	for a := range interrupt.Activities {
		state := interrupt.Activity(a)
		to.gauge(n.states, float64(now.Clients[a]), state.String())
		if state != interrupt.Idle {
			to.gauge(n.oldest, now.OldestTransactions[a].Seconds(), state.String())
		}
	}
	for _, cert := range m.sources.Certificates() {
		to.gauge(n.expiry, float64(cert.Expires.Unix()), cert.Key)
	}
	to.count(n.logins, m.logins.Load(), "ok")
	to.count(n.logins, m.loginFailures.Load(), "failed")
	to <- &m.login
	for c := range m.odd.cancels {
		to.count(n.cancels, m.odd.cancels[c].Load(), Cancel(c).String())
	}
	for t := range m.odd.timeouts {
		to.count(n.timeouts, m.odd.timeouts[t].Load(), Timeout(t).String())
	}
	to.count(n.vanished, m.odd.vanished.Load())
	to.count(n.misspelt, m.odd.misspelt.Load())
	to.count(n.errors, m.proxyErrors.Load(), "proxy")
	to.count(n.errors, m.serverErrors.Load(), "server")
	to.count(n.lost, m.serversLost.Load())
}

func (m *Metrics) collectPins(to sink, oldest *[Pins]time.Duration) {
	for i := range m.pins {
		bit := router.PinSet(1) << i
		if bit <= router.PinSession {
			to.gauge(m.names.pins.pins, float64(m.pins[i].now.Load()), bit.String())
			to.count(m.names.pins.pinsTotal, m.pins[i].total.Load(), bit.String())
		}
		if age := oldest[i]; age > 0 {
			to.gauge(m.names.pins.oldestPin, age.Seconds(), bit.String())
		}
	}
}
