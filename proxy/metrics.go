package proxy

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// metrics are the proxy's counts. Statements are counted in arrays indexed by
// enums: no lock, no allocation, no label lookup on the way of a statement.
type metrics struct {
	s *Server

	statements [router.Targets][router.Reasons][router.Classes]atomic.Uint64
	whole      histogram // of a unit, from its last frame to its last answer
	added      histogram // of that, before it went to a server: the proxy's own part
	wait       histogram // for a server or a connection
	login      histogram
	hold       histogram // of units, for a primary to appear

	clients       atomic.Int64
	logins        atomic.Uint64
	loginFailures atomic.Uint64
	cancels       atomic.Uint64
	settings      settingsMetrics
	retries       [retryReasons]atomic.Uint64
	clientErrors  atomic.Uint64 // the proxy's own, told to clients
	serverErrors  atomic.Uint64 // servers', passed on
	serversLost   atomic.Uint64
	fresh         [router.Consistencies]histogram     // waits of reads for a replica to become fresh
	delayed       [router.Consistencies]atomic.Uint64 // how many
	redirected    [router.Consistencies]atomic.Uint64 // and those that went to the primary
	pins          [16]atomic.Int64                    // sessions now, by bit of PinSet
	pinsTotal     [16]atomic.Uint64
}

// statement counts what a unit ran.
func (m *metrics) statement(u *unit, role cluster.Role) {
	target := router.TargetPrimary
	if role == cluster.RoleReplica {
		target = router.TargetReplica
	}
	for i := range u.queue {
		o := &u.queue[i]
		if !o.executes() || o.quiet || o.skipped {
			continue
		}
		class := router.ClassUnknown
		if o.plan != nil {
			class = o.plan.Class
		}
		m.statements[target][u.decision.Reason][class].Add(1)
	}
	m.whole.observe(time.Since(u.started))
}

func (m *metrics) refused(*wire.Error) { m.clientErrors.Add(1) }

// pinned counts the kinds of pins a session gained and lost.
func (m *metrics) pinned(before, after router.PinSet) {
	for i := range m.pins {
		bit := router.PinSet(1) << i
		switch {
		case after&bit != 0 && before&bit == 0:
			m.pins[i].Add(1)
			m.pinsTotal[i].Add(1)
		case before&bit != 0 && after&bit == 0:
			m.pins[i].Add(-1)
		}
	}
}

// histogram counts durations in buckets of powers of two from 16 µs on.
type histogram struct {
	buckets [24]atomic.Uint64
	sum     atomic.Int64 // ns
}

const firstBucket = 4 // 1<<4 µs

func (h *histogram) observe(d time.Duration) {
	us := uint64(max(d, 0)) / 1000
	i := max(bits.Len64(us)-firstBucket, 0)
	h.buckets[min(i, len(h.buckets)-1)].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	counts := make(map[float64]uint64, len(h.buckets))
	var total uint64
	for i := range h.buckets {
		total += h.buckets[i].Load()
		if i < len(h.buckets)-1 {
			counts[float64(uint64(1)<<(i+firstBucket))/1e6] = total
		}
	}
	return prometheus.MustNewConstHistogram(desc, total, float64(h.sum.Load())/1e9, counts, labels...)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pgweir_"+name, help, labels, nil)
}

var (
	descStatements  = desc("statements_total", "Statements run, by the kind of server, why there, and class.", "target", "reason", "class")
	descWhole       = desc("statement_seconds", "From a batch's last frame to its last answer.")
	descAdded       = desc("added_seconds", "From a batch's last frame until it goes to a server: analysis, choice, waiting and settings.")
	descWait        = desc("wait_seconds", "Waits for a server or a connection; batches that found one idle are not in it.")
	descLogin       = desc("login_seconds", "Logins of clients.")
	descClients     = desc("clients", "Clients connected.")
	descLogins      = desc("logins_total", "Logins of clients, by outcome.", "outcome")
	descCancels     = desc("cancel_requests_total", "Cancel requests received.")
	descRetries     = desc("retries_total", "Batches sent again before anything reached the client, by reason.", "reason")
	descErrors      = desc("errors_total", "Errors told to clients, by side.", "side")
	descLost        = desc("server_connections_lost_total", "Server connections that ended in the middle of a batch.")
	descDelayed     = desc("reads_delayed_total", "Reads no replica was fresh enough for at once, by level.", "level")
	descRedirected  = desc("reads_redirected_total", "Of these, reads that went to the primary.", "level")
	descFreshness   = desc("freshness_wait_seconds", "Waits of reads for a replica to be fresh enough.", "level")
	descPins        = desc("pinned_sessions", "Sessions tied to a server connection, by reason.", "reason")
	descPinsTotal   = desc("pins_total", "Times a session was tied to a server connection, by reason.", "reason")
	descPool        = desc("pool_connections", "Server connections of a pool, by state.", "server", "database", "user", "state")
	descPoolSize    = desc("pool_size", "Connections a pool may have.", "server", "database", "user")
	descWaiting     = desc("pool_waiting", "Clients waiting for a connection.", "server", "database", "user")
	descPoolTotal   = desc("pool_events_total", "What happened to a pool's connections.", "server", "database", "user", "event")
	descPoolRefused = desc("pool_refused_total", "Connections closed when they were given back, because they were not at rest: a fault of the proxy.", "server", "database", "user")
	descPoolWait    = desc("pool_wait_seconds_total", "Time clients waited for a connection.", "server", "database", "user")
	descPlans       = desc("plan_cache_total", "Lookups of statement plans.", "database", "result")
	descPlanBytes   = desc("plan_cache_bytes", "Memory of the plan cache.", "database")
	descPlanCount   = desc("plan_cache_entries", "Plans cached.", "database")
	descUnfiltered  = desc("unfiltered_statements_total", "Statements without a tenant filter, by the table that lacks it; beyond 500 tables by the table other.", "table", "kind", "severity")
	descAuditKept   = desc("audit_statements", "Distinct statements the tenant audit keeps.")
	descAuditDrop   = desc("audit_evictions_total", "Statements the tenant audit gave up for newer ones.")
	descRejected    = desc("audit_rejections_total", "Statements answered with an error because they lack a tenant filter.")
	descExempted    = desc("audit_exemptions_total", "Statements without a tenant filter that are exempt by a comment, user, application or pattern.")
	descGaps        = desc("tenant_gaps", "Gaps in the database's own protection of tenants, by kind.", "database", "kind")
)

// Describe implements prometheus.Collector; the metrics are described by collecting them.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for t := range m.statements {
		for r := range m.statements[t] {
			for k := range m.statements[t][r] {
				if n := m.statements[t][r][k].Load(); n > 0 {
					count(descStatements, n, router.Target(t).String(), router.Reason(r).String(), router.Class(k).String())
				}
			}
		}
	}
	ch <- m.whole.metric(descWhole)
	ch <- m.added.metric(descAdded)
	ch <- m.wait.metric(descWait)
	ch <- m.login.metric(descLogin)
	ch <- m.hold.metric(descHold)
	gauge(descClients, float64(m.clients.Load()))
	count(descLogins, m.logins.Load(), "ok")
	count(descLogins, m.loginFailures.Load(), "failed")
	count(descCancels, m.cancels.Load())
	m.collectSettings(ch)
	for r := range m.retries {
		count(descRetries, m.retries[r].Load(), retryReason(r).String())
	}
	count(descErrors, m.clientErrors.Load(), "proxy")
	count(descErrors, m.serverErrors.Load(), "server")
	count(descLost, m.serversLost.Load())
	for l := router.Eventual; int(l) < router.Consistencies; l++ {
		count(descDelayed, m.delayed[l].Load(), l.String())
		count(descRedirected, m.redirected[l].Load(), l.String())
		ch <- m.fresh[l].metric(descFreshness, l.String())
	}
	for i := range m.pins {
		if bit := router.PinSet(1) << i; bit <= router.PinSession {
			gauge(descPins, float64(m.pins[i].Load()), bit.String())
			count(descPinsTotal, m.pinsTotal[i].Load(), bit.String())
		}
	}
	m.s.collect(count, gauge)
	m.s.collectAudit(count, gauge)
}

// collect adds what pools, servers and plan caches tell of themselves.
func (s *Server) collect(count func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	s.collectServers(count, gauge)
	for _, o := range s.origins.all() {
		for i, p := range o.pools {
			st, labels := p.Stats(), []string{o.cluster.Topology().States[i].Server.Address, o.key.database, o.key.user}
			with := func(last string) []string { return append(labels[:3:3], last) }
			gauge(descPoolSize, float64(st.Size), labels...)
			gauge(descWaiting, float64(st.Waiting), labels...)
			gauge(descPool, float64(st.Idle), with("idle")...)
			gauge(descPool, float64(st.Used), with("used")...)
			gauge(descPool, float64(st.Dialing), with("connecting")...)
			count(descPoolTotal, st.Acquired, with("acquired")...)
			count(descPoolTotal, st.Dialled, with("connected")...)
			count(descPoolTotal, st.DialFailed, with("connect_failed")...)
			count(descPoolTotal, st.Recycled, with("recycled")...)
			count(descPoolTotal, st.TimeoutsSeen, with("timeout")...)
			count(descPoolRefused, st.Refused, labels...)
			gauge(descPoolWait, st.Waited.Seconds(), labels...)
		}
	}
	for _, d := range s.origins.databases() {
		st := d.plans.Stats()
		count(descPlans, st.Hits, d.label(), "hit")
		count(descPlans, st.Misses, d.label(), "miss")
		count(descPlans, st.Evictions, d.label(), "eviction")
		gauge(descPlanBytes, float64(st.Bytes), d.label())
		gauge(descPlanCount, float64(st.Entries), d.label())
	}
}
