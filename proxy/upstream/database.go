package upstream

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// Database is what all users of one database on one cluster share.
type Database struct {
	Plans   *router.Plans     // of its statements
	Commits freshness.Commits // made in it
	Customs Customs           // known to its servers

	cluster *cluster.Cluster
	account *Account
	name    string // on the servers
	label   string
	clients atomic.Int64

	catalog struct {
		*catalog.Refresher
		asked                     string         // the name that the first client knew the database by
		wishes                    router.Options // that plans are made by; of who makes it or reloads it
		reader                    reader
		ddl, known                atomic.Uint64 // DDL seen, and how much of it is in the plans' catalog
		redefined, knownRedefined atomic.Uint64 // the same of what may redefine something
		hooked, knownHooked       atomic.Uint64 // of what DDL may run beside itself
		removed                   atomic.Uint64 // of what may remove something
		found                     atomic.Uint64 // how often it was read and had changed
		failed                    string        // the last failure told of; the reader's own
	}

	// The audit.
	audit      *audit.Auditor
	protection atomic.Pointer[tenant.Inspection]

	defaults  atomic.Pointer[backend.Defaults] // of new sessions; nil if not known
	directory *Directory                       // that it is in

	// What runs for it.
	log        *zap.Logger
	background *sync.WaitGroup
	ctx        context.Context
	end        context.CancelFunc

	mu     sync.Mutex    // protects loaded
	loaded chan struct{} // closed when the catalog is next read
}

func (dir *Directory) databaseLocked(key Key, eff config.Effective) *Database {
	label := label(eff.Cluster, eff.Database)
	if d := dir.databases[label]; d != nil {
		return d
	}
	cl, r := dir.clusters[eff.Cluster], dir.o.Load().Routing
	d := &Database{
		cluster: cl.Cluster, account: cl.Account, name: eff.Database, label: label, loaded: make(chan struct{}),
		audit: dir.o.Load().Audit, log: dir.o.Load().Log, background: &dir.background, directory: dir,
	}
	d.catalog.asked = key.Database
	d.catalog.wishes = d.plansOptions(dir.o.Load())
	d.Plans = router.NewPlans(d.catalog.wishes)
	d.catalog.Refresher = catalog.NewRefresher(catalog.RefreshOptions{
		Interval: r.CatalogInterval, Delay: 50 * time.Millisecond, Timeout: 30 * time.Second, Load: d.load,
		Publish: func(sn *catalog.Snapshot) {
			dir.o.Load().Log.Info("catalog read", zap.String("database", d.label),
				zap.Int("functions", sn.Functions()), zap.Int("relations", sn.Relations()))
		},
		Failed: d.catalogFailed,
	})
	d.ctx, d.end = context.WithCancel(dir.ctx)
	if dir.dropped { // it may have been this one, and what was committed in it is forgotten
		d.Commits.WhileTablesChange(func() bool { return true })
	}
	d.background.Go(d.readCatalog)
	dir.databases[label] = d
	return d
}

// plansOptions are what the plans are made by.
func (d *Database) plansOptions(o *Options) router.Options {
	r := o.Routing
	return router.Options{
		MaxBytes: r.PlanCache, Safe: r.SafeFunctions, Unsafe: r.UnsafeFunctions,
		Rules: o.Rules(d.catalog.asked), Tenant: d.audit.Policy(),
		Insight: o.Insight, Database: d.label,
	}
}

func label(cluster, database string) string { return cluster + "/" + database }

// catalogFailed tells why the catalog could not be read, unless it told so the last time, or
// the database is gone and nobody there to miss it.
func (d *Database) catalogFailed(err error) {
	if noDatabase(err) && d.directory.forgetDatabase(d) || d.catalog.failed == err.Error() {
		return
	}
	d.catalog.failed = err.Error()
	d.log.Warn("catalog could not be read; statements that need it run on the primary",
		zap.String("database", d.label), zap.Error(err))
}

// readCatalog reads the catalog now and then until the database is given up.
func (d *Database) readCatalog() {
	defer d.catalog.reader.close()
	d.catalog.Run(d.ctx)
}

// Label names the database in logs and metrics: its cluster and its name there.
func (d *Database) Label() string { return d.label }

// Protection is what the database itself does to keep tenants apart; nil before it was
// looked at, and if nothing is audited.
func (d *Database) Protection() *tenant.Inspection { return d.protection.Load() }

// Change is what DDL means for what others have run and will run.
type Change struct {
	Redefines bool // what is known by its name may do something else
	Removes   bool // what statements have used may be gone, or something else
	Hooks     bool // DDL may run something else beside itself
}

// CatalogChanged says that DDL was committed, of roles perhaps: until the catalog is read
// again its facts are not relied on.
func (d *Database) CatalogChanged(c Change) {
	d.account.LoginsChanged()
	if c.Redefines {
		d.catalog.redefined.Add(1)
	}
	if c.Hooks {
		d.catalog.hooked.Add(1)
	}
	if c.Removes {
		d.catalog.removed.Add(1)
	}
	d.catalog.ddl.Add(1)
	d.catalog.Changed()
}

// Removals counts the DDL seen that may have removed something.
func (d *Database) Removals() uint64 { return d.catalog.removed.Load() }

// Stale reports whether DDL was seen that is not in the catalog the plans know.
func (d *Database) Stale() bool { return d.catalog.ddl.Load() != d.catalog.known.Load() }

// Folds reports whether plans may have values of any setting in them: see catalog.Snapshot.Folds.
func (d *Database) Folds() bool { return d.Stale() || d.Plans.Snapshot().Folds() }

// RedefinedByOthers reports whether DDL was seen, besides own times, that may have redefined
// what the catalog tells that the plans know.
func (d *Database) RedefinedByOthers(own uint64) bool {
	return d.catalog.redefined.Load()-own != d.catalog.knownRedefined.Load()
}

// Hooked reports whether DDL was seen after which DDL may run more beside itself than the catalog
// tells that the plans know.
func (d *Database) Hooked() bool { return d.catalog.hooked.Load() != d.catalog.knownHooked.Load() }

// Definitions counts what is known to have changed the catalog, whoever did it: a statement
// parsed while it was less may mean something else now.
func (d *Database) Definitions() uint64 { return d.catalog.ddl.Load() + d.catalog.found.Load() }

// Knows reports whether the tables of a version of the catalog are what they were.
func (d *Database) Knows(version uint64) bool { return !d.Stale() && d.Plans.Version() == version }

// catalogWait is how long a statement waits for the catalog to be read, if it
// is otherwise known too badly to be let run without tying its session to a server.
const catalogWait = 2 * time.Second

// AwaitCatalog waits until the catalog holds all that was seen to change, but not for ever.
func (d *Database) AwaitCatalog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catalogWait)
	defer cancel()
	for ctx.Err() == nil {
		d.mu.Lock()
		loaded := d.loaded
		d.mu.Unlock()
		if d.Plans.Snapshot().Loaded() && !d.Stale() {
			return
		}
		d.catalog.Hurry()
		select {
		case <-loaded:
		case <-ctx.Done():
		}
	}
}

// load reads the catalog, once there is a server to read it from: the primary, or a
// replica while there is none.
func (d *Database) load(ctx context.Context, previous *catalog.Snapshot) (snapshot *catalog.Snapshot, err error) {
	if err := d.cluster.Wait(ctx, func(t *cluster.Topology) bool { return t.Primary != nil || len(t.Replicas) > 0 }); err != nil {
		return nil, cluster.ErrNoServer
	}
	at, redefined, hooked := d.catalog.ddl.Load(), d.catalog.redefined.Load(), d.catalog.hooked.Load()
	t := d.cluster.Topology()
	s := t.Primary
	if s == nil {
		s = t.Replicas[0]
	}
	err = d.read(ctx, s, func(b *backend.Backend) (err error) {
		snapshot, err = d.loadOver(ctx, b, previous)
		return err
	})
	if err != nil {
		return nil, err
	}
	if previous != nil && snapshot != previous {
		d.catalog.found.Add(1)
	}
	if s == t.Primary {
		d.catalog.known.Store(at)
		d.catalog.knownRedefined.Store(redefined)
		d.catalog.knownHooked.Store(hooked)
	}
	d.catalog.failed = ""
	d.mu.Lock()
	close(d.loaded)
	d.loaded = make(chan struct{})
	d.mu.Unlock()
	return snapshot, nil
}

// loadOver reads the catalog over a connection, and has it used.
func (d *Database) loadOver(ctx context.Context, b *backend.Backend, previous *catalog.Snapshot) (*catalog.Snapshot, error) {
	ask := func(ctx context.Context, sql string, row func(values [][]byte) error) error {
		return b.Query(ctx, backend.AnyDefault+sql, row)
	}
	snapshot, err := catalog.Load(ctx, ask, catalog.LoadOptions{Previous: previous, Tables: d.audit.Policy() != nil})
	if err != nil {
		return nil, err
	}
	d.protection.Store(d.audit.Inspect(ctx, d.label, d.protection.Load(), snapshot, d.directory.logins(d), ask))
	d.Commits.WhileTablesChange(func() bool {
		before := d.Plans.Snapshot()
		d.Plans.SetSnapshot(snapshot)
		return before.Loaded() && d.Plans.Snapshot() != before
	})
	if defaults, err := b.AskDefaults(ctx, ""); err == nil {
		d.learnDefaults(defaults)
	}
	if previous == nil {
		d.recommend(ctx, ask)
	}
	if names := snapshot.Folding(); len(names) > 0 && (previous == nil || !slices.Equal(names, previous.Folding())) {
		d.log.Warn("functions are declared IMMUTABLE and depend on their session; servers' plans are discarded at each hand-over: declare them STABLE",
			zap.String("database", d.label), zap.Strings("functions", names))
	}
	return snapshot, nil
}

// recommend warns of settings that the database's policies read and that the configuration
// does not declare: isolation rests on them.
func (d *Database) recommend(ctx context.Context, q catalog.Query) {
	o := d.directory.o.Load()
	read, err := catalog.SettingsOfPolicies(ctx, q)
	if err != nil {
		d.log.Warn("what row-level security rests on is not known", zap.String("database", d.label), zap.Error(err))
		return
	}
	if missing := o.Settings.Undeclared(o.Tenants, read); len(missing) > 0 {
		d.log.Warn("policies read settings that are not declared: add them to settings.assert, or to tenant.settings if they name the tenant",
			zap.String("database", d.label), zap.Strings("settings", missing), zap.String("configuration", "settings: {assert: "+o.Settings.AssertAlso(missing)+"}"))
	}
}

// learnDefaults takes over what new sessions begin with. Connections that began with
// something else are not used for long.
func (d *Database) learnDefaults(now *backend.Defaults) {
	var before *backend.Defaults
	for kept := false; !kept; kept = d.defaults.CompareAndSwap(before, now) {
		if before = d.defaults.Load(); before != nil {
			now.Follow(before)
		}
	}
	if before == nil {
		return
	}
	for _, p := range d.directory.Pools() {
		if user := p.Config.ServerUser; p.Database == d && before.Of(user) != now.Of(user) {
			p.expire()
		}
	}
}

// defaultNames are the custom settings that ALTER ROLE or ALTER DATABASE … SET gave or once gave a
// value, which a connection to a replica that lags behind may still begin with.
func (d *Database) defaultNames() []string {
	known := d.defaults.Load()
	if known == nil {
		return nil
	}
	names := known.Names()
	return names.List()
}
