package upstream

import (
	"fmt"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Cluster is the servers of one cluster, how the proxy logs in to them, and what it does
// as they change.
type Cluster struct {
	*cluster.Cluster
	Account *Account

	reaction *reaction
	watchers []interface{ Close() } // Close closes what they keep open
}

// leave closes what watches the servers from a client's database.
func (c *Cluster) leave(database string) {
	if c.Account.leave(database) {
		for _, w := range c.watchers {
			w.Close()
		}
	}
}

// Failovers is how often another server became the primary.
func (c *Cluster) Failovers() uint64 { return c.reaction.failovers.Load() }

// AddCluster adds a cluster under its name. watch makes what asks its servers for their
// state and their places in the log, given an account to do it by. The cluster does
// nothing before it is run.
func (dir *Directory) AddCluster(name string, c config.Cluster, watch func(*Account) (cluster.Prober, cluster.Sampler)) error {
	o := dir.o.Load()
	now, err := newAccess(name, c, o.Pool)
	if err != nil {
		return err
	}
	account := &Account{
		dialer: dialer{connect: o.Dial}, pools: dir.Pools, loginsChanged: o.LoginsChanged,
	}
	account.access.Store(now)
	reaction := &reaction{name: name, log: o.Log, pools: dir.Pools, closeHeld: o.CloseHeld, primaryWait: func() time.Duration { return dir.o.Load().Routing.PrimaryWait }}
	var all []*cluster.Server
	for i, sv := range c.Servers {
		all = append(all, &cluster.Server{Address: sv.Address, Index: i, Weight: sv.Weight})
	}
	prober, sampler := watch(account)
	dir.clusters[name] = &Cluster{
		Account: account, reaction: reaction, watchers: []interface{ Close() }{prober, sampler, &account.asker},
		Cluster: cluster.New(cluster.Options{
			Name: name, Servers: all,
			Interval: o.Routing.MonitorInterval, Slow: o.Routing.SlowAfter,
			// A connection that hangs is given up for a new one.
			Timeout: o.Routing.SlowAfter + o.Pool.ConnectTimeout,
			Prober:  prober, Sampler: sampler, Changed: reaction.changed,
		}),
	}
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
