package upstream

import (
	"fmt"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/pool/discovery"
	"github.com/pgweir/pgweir/proxy/slots"
)

// Cluster is the servers of one cluster, how the proxy logs in to them, and what it does
// as they change.
type Cluster struct {
	*cluster.Cluster
	Account *Account

	reaction  *reaction
	discovery *discoverer            // nil if the servers are listed
	watchers  []interface{ Close() } // Close closes what they keep open
}

// leave closes what watches the servers from a client's database.
func (c *Cluster) leave(database string) {
	if c.Account.leave(database) {
		c.closeOwn()
	}
}

// closeOwn has what the proxy keeps open for itself, to watch and to ask, opened anew.
func (c *Cluster) closeOwn() {
	for _, w := range c.watchers {
		w.Close()
	}
}

// Failovers is how often another server became the primary.
func (c *Cluster) Failovers() uint64 { return c.reaction.failovers.Load() }

// Slots calls each with what is known of the connections to every server of the cluster.
func (c *Cluster) Slots(each func(*cluster.Server, pool.Slots)) {
	for _, st := range c.Topology().States {
		each(st.Server, c.Account.slots.Of(st.Server).State())
	}
}

// AddCluster adds a cluster under its name. watch makes what asks its servers for their
// state and their places in the log, given an account to do it by. The cluster does
// nothing before it is run.
func (dir *Directory) AddCluster(name string, c config.Cluster, watch func(*Account, config.Cluster) (cluster.Prober, cluster.Sampler)) error {
	o := dir.o.Load()
	now, err := newAccess(name, c, o.Pool)
	if err != nil {
		return err
	}
	source, err := discovery.New(c)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", name, err)
	}
	account := &Account{
		dialer: dialer{connect: o.Dial}, pools: dir.Pools, loginsChanged: o.LoginsChanged,
		slots: slots.NewServers(c.Servers, o.Pool), knocks: knocks{every: o.Routing.MonitorInterval},
	}
	account.access.Store(now)
	reaction := &reaction{
		name: name, log: o.Log, pools: dir.all, closeHeld: o.CloseHeld, forget: account.slots.Forget,
		primaryWait: func() time.Duration { return dir.o.Load().Routing.PrimaryWait },
		started:     func(s *cluster.Server) { dir.background.Go(func() { account.compareSlots(dir.ctx, s, o.Log) }) },
	}
	var all []*cluster.Server
	for _, m := range membersOf(c) {
		all = append(all, cluster.MemberServer(m))
	}
	prober, sampler := watch(account, c)
	cl := &Cluster{
		Account: account, reaction: reaction, watchers: []interface{ Close() }{prober, sampler, &account.asker},
		Cluster: cluster.New(cluster.Options{
			Name: name, Servers: all,
			Interval: o.Routing.MonitorInterval, Slow: o.Routing.SlowAfter,
			// A connection that hangs is given up for a new one.
			Timeout: func() time.Duration { return o.Routing.SlowAfter + account.access.Load().timeout },
			Prober:  prober, Sampler: sampler, Changed: reaction.changed,
		}),
	}
	if source != nil {
		cl.discovery = &discoverer{source: source, interval: o.Routing.DiscoveryInterval, name: name, log: o.Log}
	}
	dir.clusters[name] = cl
	return nil
}

// newAccess is how a cluster is logged in to.
func newAccess(name string, c config.Cluster, p config.Pool) (*access, error) {
	tls, err := backend.LoadTLS(c.TLS)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	return &access{tls, c.Service, p.ConnectTimeout, p.MaxStatements}, nil
}

// logInBy has the proxy log in otherwise from now on. Without an account of its own it borrows
// the login of a client that is there.
func (c *Cluster) logInBy(now *access) {
	a := c.Account
	before := a.access.Swap(now)
	if now.service == before.service {
		return
	}
	if now.service.User == "" {
		a.fallback.CompareAndSwap(nil, a.ofClient(func(*login) bool { return true }))
	}
	c.closeOwn()
}

// follow has the cluster follow what the configuration says now of its servers and their slots.
func (c *Cluster) follow(now config.Cluster, p config.Pool) {
	c.Account.slots.Configure(now.Servers, p)
	if c.discovery != nil || len(now.Servers) == 0 {
		return
	}
	_ = c.SetMembers(membersOf(now)) // it fails for none only
}

// membersOf are the servers that a configuration lists.
func membersOf(c config.Cluster) (members []cluster.Member) {
	for _, s := range c.Servers {
		members = append(members, cluster.Member{Address: s.Address, TLSName: s.TLSName, Weight: s.Weight})
	}
	return members
}
