package proxy

import (
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/activity"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/client"
	"github.com/pgweir/pgweir/proxy/console"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// Config implements console.Service.
func (o operator) Config() config.Config { return o.Server.Config() }

// Databases implements console.Service: those that are configured or in use.
func (o operator) Databases() (all []console.Database) {
	cfg := o.Server.Config()
	connections, clients, names := map[string]int{}, map[string]int{}, map[string]bool{}
	for name := range cfg.Databases {
		names[name] = name != "*"
	}
	for _, p := range o.upstream.Pools() {
		name := p.Key.Database
		names[name] = true
		clients[name] += int(p.Clients())
		for _, pl := range p.Servers() {
			connections[name] += pl.Stats().Open
		}
	}
	o.consoles.mu.Lock()
	disabled := maps.Clone(o.consoles.disabled)
	o.consoles.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		eff, ok := cfg.Resolve("", name)
		if !ok || !names[name] {
			continue
		}
		host, port := o.address(eff.Cluster)
		all = append(all, console.Database{
			Name: name, Host: host, Port: port, Real: eff.Database, ForceUser: eff.ServerUser,
			PoolSize: eff.PoolSize, MinPoolSize: eff.MinIdle, Lifetime: cfg.Pool.MaxLifetime, PoolMode: eff.PoolMode,
			MaxConnections: eff.DatabaseConnections, Connections: connections[name],
			MaxClients: eff.DatabaseClients, Clients: clients[name],
			Paused: o.upstream.Paused(name), Disabled: disabled[name],
		})
	}
	return all
}

// address is where a cluster's primary is, or while there is none its first server.
func (o operator) address(name string) (host, port string) {
	t := o.upstream.Clusters()[name].Topology()
	at := ""
	switch {
	case t.Primary != nil:
		at = t.Primary.Address
	case len(t.States) > 0:
		at = t.States[0].Server.Address
	}
	i := strings.LastIndexByte(at, ':')
	if i < 0 {
		return at, ""
	}
	return strings.Trim(at[:i], "[]"), at[i+1:]
}

// Pools implements console.Service.
func (o operator) Pools() (all []console.Pool) {
	clients := map[upstream.Key][]console.Client{}
	for _, c := range o.Clients() {
		k := upstream.Key{User: c.User, Database: c.Database}
		clients[k] = append(clients[k], c)
	}
	now := time.Now()
	for _, p := range o.upstream.Pools() {
		sum := console.Pool{Database: p.Key.Database, User: p.Key.User, Mode: p.Terms().PoolMode, Clients: len(clients[p.Key])}
		for _, c := range clients[p.Key] {
			if c.State == console.ClientWaiting {
				sum.Waiting++
				sum.MaxWait = max(sum.MaxWait, now.Sub(c.Asked))
			}
		}
		for _, pl := range p.Servers() {
			st := pl.Stats()
			sum.Used, sum.Idle, sum.Login = sum.Used+st.Used, sum.Idle+st.Idle, sum.Login+st.Dialing
		}
		all = append(all, sum)
	}
	slices.SortFunc(all, func(a, b console.Pool) int {
		return slices.Compare([]string{a.Database, a.User}, []string{b.Database, b.User})
	})
	return all
}

// Clients implements console.Service.
func (o operator) Clients() (all []console.Client) {
	for _, m := range o.members.appendTo(nil) {
		all = append(all, clientOf(m, m.client.View()))
	}
	slices.SortFunc(all, func(a, b console.Client) int { return int(int64(a.ID) - int64(b.ID)) })
	return all
}

func clientOf(m *member, v client.View) console.Client {
	held, server, asked := m.client.Interrupt().Held()
	doing, since, first := m.client.Interrupt().Activity()
	c := console.Client{
		ID: v.ID, PID: m.pid, Database: m.up.Key.Database, User: m.up.Key.User, Application: v.Application,
		Address: endpoint(v.Front.RemoteAddr()), Local: endpoint(v.Front.LocalAddr()), TLS: encryption(v.Front),
		Connected: v.Connected, Asked: asked, Transaction: since, Idling: doing == interrupt.IdleInTransaction, First: shown(first), Pinned: v.Pins.Since,
	}
	if v.Pins.Set != router.PinNone {
		c.Pins = v.Pins.Set.String()
	}
	switch {
	case held != nil:
		c.State, c.Server, c.ServerPID = console.ClientActive, server.Address, held.PID()
	case doing == interrupt.Active, doing == interrupt.Waiting:
		c.State = console.ClientWaiting
	}
	return c
}

// shown is what may be told of a plan's text: itself, masked, if insight has it, else what it does.
func shown(p *router.Plan) string {
	switch {
	case p == nil:
		return ""
	case p.Statement != nil:
		return p.Statement.Text
	}
	return p.String()
}

// Connections implements console.Service: those that are idle, and those that clients hold.
func (o operator) Connections() (all []console.Connection) {
	for _, p := range o.upstream.Pools() {
		for s, pl := range p.Servers() {
			pl.EachIdle(func(b *backend.Backend) {
				c := connection(p.Key, s, b)
				c.Used = b.Pooled().Released
				all = append(all, c)
			})
		}
	}
	for _, m := range o.members.appendTo(nil) {
		if held, server, asked := m.client.Interrupt().Held(); held != nil {
			c, v := connection(m.up.Key, server, held), m.client.View()
			c.Used, c.Client, c.ClientPID, c.Application = asked, v.ID, m.pid, v.Application
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b console.Connection) int { return a.Connected.Compare(b.Connected) })
	return all
}

func connection(k upstream.Key, s *cluster.Server, b *backend.Backend) console.Connection {
	conn := b.Conn.NetConn()
	return console.Connection{
		Database: k.Database, User: k.User, Server: s.Address, PID: b.PID(), Connected: b.Origin().Created,
		Peer: endpoint(conn.RemoteAddr()), Local: endpoint(conn.LocalAddr()), TLS: encryption(conn),
	}
}

// endpoint is an address in its parts.
func endpoint(a net.Addr) console.Endpoint {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return console.Endpoint{Host: "unix"}
	}
	n, _ := strconv.Atoi(port)
	return console.Endpoint{Host: host, Port: n}
}

// encryption says how a connection is encrypted; "" for not.
func encryption(conn net.Conn) string {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return ""
	}
	st := secure.ConnectionState()
	return tls.VersionName(st.Version) + "/" + tls.CipherSuiteName(st.CipherSuite)
}

// Servers implements console.Service.
func (o operator) Servers() (all []console.Server) {
	o.eachCluster(func(c metrics.Cluster) {
		slots := map[*cluster.Server]pool.Slots{}
		c.Slots(func(s *cluster.Server, of pool.Slots) { slots[s] = of })
		for i := range c.Topology.States {
			all = append(all, serverOf(c, &c.Topology.States[i], slots))
		}
	})
	slices.SortStableFunc(all, func(a, b console.Server) int { return strings.Compare(a.Cluster, b.Cluster) })
	return all
}

func serverOf(c metrics.Cluster, st *cluster.State, slots map[*cluster.Server]pool.Slots) console.Server {
	s := st.Server
	v := console.Server{
		Cluster: c.Name, Address: s.Address, Role: st.Role.String(), Status: st.Status.String(), Disabled: s.Disabled(), Since: st.Since,
		Timeline: st.Timeline, Lag: -1, Staleness: -1, Load: s.Load(), Open: slots[s].Open, Bound: slots[s].Bound,
	}
	if st.Err != nil {
		v.Err = st.Err.Error()
	}
	if !st.Up {
		return v
	}
	v.LSN = st.LSN.String()
	if lag, known := c.Topology.Lag(s); known {
		v.Lag = int64(lag)
	}
	if st.Role == cluster.RoleReplica && c.Topology.Provable(s) {
		v.Staleness = s.Staleness()
	}
	return v
}

// Users implements console.Service: those that are configured or have pools.
func (o operator) Users() (all []console.User) {
	cfg := o.Server.Config()
	connections, clients, names := map[string]int{}, map[string]int{}, map[string]bool{}
	for name := range cfg.Users {
		names[name] = true
	}
	for _, p := range o.upstream.Pools() {
		names[p.Key.User] = true
		clients[p.Key.User] += int(p.Clients())
		for _, pl := range p.Servers() {
			connections[p.Key.User] += pl.Stats().Open
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		u := cfg.Users[name]
		all = append(all, console.User{
			Name: name, PoolSize: u.PoolSize, PoolMode: u.PoolMode, MaxConnections: u.MaxServerConnections,
			Connections: connections[name], MaxClients: u.MaxClients, Clients: clients[name],
		})
	}
	return all
}

// Routes implements console.Service.
func (o operator) Routes() (all []console.Route) {
	o.metrics.Statements(func(t router.Target, r router.Reason, c router.Class, n uint64) {
		all = append(all, console.Route{Target: t.String(), Reason: r.String(), Class: c.String(), Statements: n})
	})
	slices.SortStableFunc(all, func(a, b console.Route) int { return int(int64(b.Statements) - int64(a.Statements)) })
	return all
}

// Unfiltered implements console.Service.
func (o operator) Unfiltered() (columns []string, rows [][]string) {
	for _, d := range o.upstream.Databases() {
		for _, row := range o.audit.Rows(d.Label()) {
			rows = append(rows, slices.Concat([]string{d.Label()}, row))
		}
	}
	return slices.Concat([]string{"database"}, audit.Columns()), rows
}

// RoutesOfTransactions implements console.Service.
func (o operator) RoutesOfTransactions() []insight.RouteCounts {
	if o.insight == nil {
		return nil
	}
	return o.insight.Routes()
}

// Traffic implements console.Service.
func (o operator) Traffic() (all []console.Traffic) {
	totals := o.upstream.Traffic()
	for _, name := range slices.Sorted(maps.Keys(totals)) {
		all = append(all, console.Traffic{Database: name, Total: countsOf(totals[name]), Average: o.consoles.averages.of(name)})
	}
	return all
}

func countsOf(t activity.Totals) console.Counts {
	return console.Counts{
		Logins: t.Logins, Assigned: t.Assigned, Transactions: t.Transactions, Statements: t.Statements,
		Received: t.Received, Sent: t.Sent, TransactionTime: t.InTransaction, StatementTime: t.InStatements, WaitTime: t.Waiting,
	}
}

// statsPeriod is what averages are over.
const statsPeriod = time.Minute

// averages are what was done in the last period. Safe for concurrent use.
type averages struct {
	mu     sync.Mutex // protects the fields below
	began  time.Time  // of the period that goes on
	before map[string]activity.Totals
	last   map[string]console.Counts
}

// tend begins another period if one is over.
func (a *averages) tend(now time.Time, totals func() map[string]activity.Totals) {
	a.mu.Lock()
	defer a.mu.Unlock()
	over := now.Sub(a.began)
	if over < statsPeriod {
		return
	}
	after := totals()
	if !a.began.IsZero() {
		a.last = map[string]console.Counts{}
		for name, t := range after {
			a.last[name] = average(a.before[name], t, over)
		}
	}
	a.began, a.before = now, after
}

func (a *averages) of(database string) console.Counts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last[database]
}

// average is what was counted for each second, and of times for each thing that took it.
func average(before, after activity.Totals, over time.Duration) console.Counts {
	each := func(before, after uint64) uint64 { return uint64(float64(after-before) / over.Seconds()) }
	mean := func(before, after time.Duration, n uint64) time.Duration {
		return (after - before) / time.Duration(max(n, 1))
	}
	return console.Counts{
		Logins: each(before.Logins, after.Logins), Assigned: each(before.Assigned, after.Assigned),
		Transactions: each(before.Transactions, after.Transactions), Statements: each(before.Statements, after.Statements),
		Received: each(before.Received, after.Received), Sent: each(before.Sent, after.Sent),
		TransactionTime: mean(before.InTransaction, after.InTransaction, after.Transactions-before.Transactions),
		StatementTime:   mean(before.InStatements, after.InStatements, after.Statements-before.Statements),
		WaitTime:        mean(before.Waiting, after.Waiting, after.Assigned-before.Assigned),
	}
}
