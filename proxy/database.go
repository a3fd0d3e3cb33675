package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// database is what all users of one database on one cluster share.
type database struct {
	cluster   *cluster.Cluster
	account   *account
	name      string // on the servers
	id        string // cluster/name, for logs and metrics
	plans     *router.Plans
	refresher *catalog.Refresher
	ctx       context.Context    // of all that runs for it
	end       context.CancelFunc // of that
	limits    []*pool.Limit      // by server; of max_server_connections
	clients   atomic.Int64

	// changes counts DDL seen, seen those the plans' catalog has in it.
	changes, seen atomic.Uint64

	customs customs
	// inspection is what the database itself does to keep tenants apart; nil before it was
	// looked at, and if nothing is audited.
	inspection atomic.Pointer[tenant.Inspection]
	audit      *audit.Auditor
	logins     func() []string // of the sessions that use it, on the servers

	commits freshness.Commits

	mu   sync.Mutex    // protects read
	read chan struct{} // closed when the catalog is next read
}

func (d *database) label() string { return d.id }

// catalogChanged says that DDL was committed: until the catalog is read again its
// facts are not relied on.
func (d *database) catalogChanged() {
	d.changes.Add(1)
	d.refresher.Changed()
}

func (d *database) stale() bool { return d.changes.Load() != d.seen.Load() }

// knows reports whether the tables of a version of the catalog are what they were.
func (d *database) knows(version uint64) bool { return !d.stale() && d.plans.Version() == version }

// catalogPatience is how long a statement waits for the catalog to be read, if it
// is otherwise known too badly to be let run without tying its session to a server.
const catalogPatience = 2 * time.Second

// awaitCatalog waits until the catalog holds all that was seen to change, but not for ever.
func (d *database) awaitCatalog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catalogPatience)
	defer cancel()
	for ctx.Err() == nil {
		d.mu.Lock()
		read := d.read
		d.mu.Unlock()
		if d.plans.Snapshot().Loaded() && !d.stale() {
			return
		}
		select {
		case <-read:
		case <-ctx.Done():
		}
	}
}

// load reads the catalog over a connection of its own, once there is a server to
// read it from: the primary, or a replica while there is none.
func (d *database) load(ctx context.Context, previous *catalog.Snapshot) (*catalog.Snapshot, error) {
	if err := d.cluster.Wait(ctx, func(t *cluster.Topology) bool { return t.Primary != nil || len(t.Replicas) > 0 }); err != nil {
		return nil, cluster.ErrNoServer
	}
	at := d.changes.Load()
	t := d.cluster.Topology()
	s := t.Primary
	if s == nil {
		s = t.Replicas[0]
	}
	b, err := d.account.open(ctx, s, d.name)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	snapshot, err := catalog.Load(ctx, b.Query, catalog.LoadOptions{Previous: previous, Tables: d.audit.Policy() != nil})
	if err != nil {
		return nil, err
	}
	d.inspection.Store(d.audit.Inspect(ctx, d.label(), d.inspection.Load(), snapshot, d.logins(), b.Query))
	d.commits.WhileTablesChange(func() bool {
		before := d.plans.Snapshot()
		d.plans.SetSnapshot(snapshot)
		return before.Loaded() && d.plans.Snapshot() != before
	})
	if s == t.Primary {
		d.seen.Store(at)
	}
	d.mu.Lock()
	close(d.read)
	d.read = make(chan struct{})
	d.mu.Unlock()
	return snapshot, nil
}
