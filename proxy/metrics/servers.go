package metrics

import (
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/router"
)

// Sources tell, each time they are asked, what others know. Those with each call it once
// for everything there is. All must be set.
type Sources struct {
	Pools        func(each func(Pool))
	Databases    func(each func(Database))
	Clusters     func(each func(Cluster))
	Sessions     func() Sessions
	Certificates func() []config.Certificate // shown to others
	Tenants      func() bool                 // sessions have tenants
	// Verified is how many server connections were asked what they carry, and how many
	// carried something else than was believed.
	Verified func() (asked, differing uint64)
}

// Sessions are what sessions are doing at a moment. A duration of 0 is that there is none.
type Sessions struct {
	OldestPins         [Pins]time.Duration // how long some session has been pinned, by bit of PinSet
	Clients            [interrupt.Activities]int
	OldestTransactions [interrupt.Activities]time.Duration // the age of the oldest transaction of those doing so
}

// Pool is the state of one pool.
type Pool struct {
	Server, Database, User string
	pool.Stats
}

// Database is what was planned in one database.
type Database struct {
	Label string
	router.Stats
}

// Cluster is what is known of one cluster.
type Cluster struct {
	Name      string
	Topology  *cluster.Topology
	Failovers uint64 // times another server became the primary
	Slots     func(each func(*cluster.Server, pool.Slots))
	// Discovers is that its servers are found, not listed; Found and Unfound are how often
	// they were, or could not be.
	Discovers      bool
	Found, Unfound uint64
}

func (m *Metrics) collectPool(to sink, p Pool) {
	n, labels := &m.names.pools, []string{p.Server, p.Database, p.User}
	with := func(last string) []string { return append(labels[:3:3], last) }
	to.gauge(n.poolSize, float64(p.Size), labels...)
	to.gauge(n.poolWaiting, float64(p.Waiting), labels...)
	to.gauge(n.pool, float64(p.Idle), with("idle")...)
	to.gauge(n.pool, float64(p.Used), with("used")...)
	to.gauge(n.pool, float64(p.Dialing), with("connecting")...)
	to.count(n.poolEvents, p.Acquired, with("acquired")...)
	to.count(n.poolEvents, p.Dialled, with("connected")...)
	to.count(n.poolEvents, p.DialFailed, with("connect_failed")...)
	to.count(n.poolEvents, p.Recycled, with("recycled")...)
	to.count(n.poolEvents, p.TimeoutsSeen, with("timeout")...)
	to.count(n.poolRefused, p.Refused, labels...)
	to.total(n.poolWait, p.Waited.Seconds(), labels...)
}

func (m *Metrics) collectDatabase(to sink, d Database) {
	n := &m.names.pools
	to.count(n.plans, d.Hits, d.Label, "hit")
	to.count(n.plans, d.Misses, d.Label, "miss")
	to.count(n.plans, d.Evictions, d.Label, "eviction")
	to.gauge(n.planBytes, float64(d.Bytes), d.Label)
	to.gauge(n.planEntries, float64(d.Entries), d.Label)
}

func (m *Metrics) collectCluster(to sink, c Cluster) {
	n, t := &m.names.servers, c.Topology
	to.is(n.hasPrimary, t.Primary != nil, c.Name)
	to.count(n.failovers, c.Failovers, c.Name)
	c.Slots(func(s *cluster.Server, slots pool.Slots) {
		to.gauge(n.slots, float64(slots.Open), c.Name, s.Address)
		to.count(n.full, slots.Refused, c.Name, s.Address)
		if slots.Bound > 0 {
			to.gauge(n.slotsBound, float64(slots.Bound), c.Name, s.Address)
		}
	})
	if c.Discovers {
		to.count(n.discoveries, c.Found, c.Name, "found")
		to.count(n.discoveries, c.Unfound, c.Name, "failed")
	}
	for _, st := range t.States {
		labels := []string{c.Name, st.Server.Address}
		with := func(last string) []string { return append(labels[:2:2], last) }
		to.is(n.serverUp, st.Status.Usable(), with(st.Role.String())...)
		for status := range cluster.Statuses {
			to.is(n.serverState, st.Status == status, with(status.String())...)
		}
		to.is(n.serverMany, st.Many, labels...)
		to.gauge(n.load, float64(st.Server.Load()), labels...)
		if !st.Up {
			continue
		}
		to.gauge(n.timeline, float64(st.Timeline), labels...)
		to.gauge(n.lsn, float64(st.LSN), labels...)
		if lag, known := t.Lag(st.Server); known {
			to.gauge(n.lag, float64(lag), labels...)
		}
		if st.Role == cluster.RoleReplica && t.Provable(st.Server) {
			to.gauge(n.staleness, st.Server.Staleness().Seconds(), labels...)
		}
	}
}
