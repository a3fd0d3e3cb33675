package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// originKey is whose statements an origin serves: names as clients give them.
type originKey struct{ user, database string }

// origin is what the clients of one user and database share: a pool for each
// server, the plans of the database, and how to log in. Safe for concurrent use.
type origin struct {
	key         originKey
	eff         config.Effective
	route       router.Route
	consistency router.Consistency
	cluster     *cluster.Cluster
	pools       []*pool.Pool // by cluster.Server.Index
	db          *database
	cred        atomic.Pointer[backend.Credentials]
	clients     atomic.Int64
	// parsed are statements a server has parsed for this user, with the catalog of then.
	parsed *lru.Cache[*prepared.Statement, *catalog.Snapshot]

	mu       sync.Mutex // protects welcomes
	welcomes map[session.Settings]map[string]string
}

// maxWelcomes bounds the startup settings whose reports are remembered.
const maxWelcomes = 1000

// maxParsed bounds the statements known to parse.
const maxParsed = 5000

// origins are all origins and databases. They are made when first asked for and
// stay: there are as many as users and databases that could log in.
type origins struct {
	s *Server

	mu   sync.Mutex // protects the fields below
	byID map[originKey]*origin
	dbs  map[string]*database // by cluster and name
}

func (os *origins) all() []*origin {
	os.mu.Lock()
	defer os.mu.Unlock()
	return slices.Collect(maps.Values(os.byID))
}

func (os *origins) databases() []*database {
	os.mu.Lock()
	defer os.mu.Unlock()
	return slices.Collect(maps.Values(os.dbs))
}

// logins are the names under which sessions of a database log in to its servers.
func (os *origins) logins(d *database) (names []string) {
	for _, o := range os.all() {
		if o.db == d && !slices.Contains(names, o.eff.ServerUser) {
			names = append(names, o.eff.ServerUser)
		}
	}
	slices.Sort(names)
	return names
}

// protections calls each with what every database does itself to keep tenants apart, as
// far as that is known.
func (os *origins) protections(each func(label string, found *tenant.Inspection)) {
	for _, d := range os.databases() {
		if found := d.inspection.Load(); found != nil {
			each(d.label(), found)
		}
	}
}

// find is the origin of a user and database, made if need be.
func (os *origins) find(key originKey, eff config.Effective, cred backend.Credentials) *origin {
	os.mu.Lock()
	defer os.mu.Unlock()
	o := os.byID[key]
	if o == nil {
		o = os.makeLocked(key, eff)
		o.cred.Store(&cred)
		os.byID[key] = o
	} else if !o.cred.Load().Equal(cred) {
		o.cred.Store(&cred)
	}
	return o
}

// forget drops an origin nobody could log in with.
func (os *origins) forget(o *origin) {
	os.mu.Lock()
	if os.byID[o.key] == o {
		delete(os.byID, o.key)
		os.dropUnusedLocked(o.db)
	}
	os.mu.Unlock()
	for _, p := range o.pools {
		p.Close()
	}
}

// dropUnusedLocked ends what a database keeps running if no origin is left that
// uses it: any name can be asked for, and most do not exist.
func (os *origins) dropUnusedLocked(d *database) {
	for _, o := range os.byID {
		if o.db == d {
			return
		}
	}
	d.end()
	for id, known := range os.dbs {
		if known == d {
			delete(os.dbs, id)
		}
	}
}

func (os *origins) makeLocked(key originKey, eff config.Effective) *origin {
	s := os.s
	cl := s.clusters[eff.Cluster]
	o := &origin{key: key, eff: eff, cluster: cl, welcomes: map[session.Settings]map[string]string{}}
	o.route, _ = router.ParseRoute(eff.Route)
	o.consistency, _ = router.ParseConsistency(eff.Consistency)
	o.db = os.databaseLocked(key, eff)
	o.parsed, _ = lru.New[*prepared.Statement, *catalog.Snapshot](maxParsed) // fails for a size below 1 only
	c := s.cfg.Pool
	for i, st := range cl.Topology().States {
		o.pools = append(o.pools, pool.New(pool.Options{
			Size: eff.PoolSize, MinIdle: eff.MinIdle,
			AcquireTimeout: c.AcquireTimeout, IdleTimeout: c.IdleTimeout, MaxLifetime: c.MaxLifetime,
			Limits: []*pool.Limit{o.db.limits[i], s.userLimit(key.user, eff, i)},
			Dial: func(ctx context.Context) (*backend.Backend, error) {
				return s.dial(ctx, st.Server.Address, o.db.account.tls, *o.cred.Load(), eff.Database, "")
			},
			Refused: func(b *backend.Backend, why error) { s.refusedByPool(st.Server, key, b, why) },
		}))
	}
	return o
}

// refusedByPool says that a connection was not at rest when it was given back. It was
// closed, so nobody found it so, but whoever gave it back is in error.
func (s *Server) refusedByPool(server *cluster.Server, key originKey, b *backend.Backend, why error) {
	s.log.Error("server connection is closed, not shared: it is not at rest",
		zap.String("server", server.Address), zap.Uint32("pid", b.PID()), zap.String("user", key.user),
		zap.String("database", key.database), zap.Uint64("session", b.LastUser()), zap.Error(why))
}

func (os *origins) databaseLocked(key originKey, eff config.Effective) *database {
	id := eff.Cluster + "/" + eff.Database
	if d := os.dbs[id]; d != nil {
		return d
	}
	s := os.s
	cl := s.clusters[eff.Cluster]
	d := &database{cluster: cl, account: s.accounts[eff.Cluster], name: eff.Database, id: id, read: make(chan struct{}), audit: s.audit}
	d.logins = func() []string { return os.logins(d) }
	for range cl.Topology().States {
		d.limits = append(d.limits, pool.NewLimit(eff.DatabaseConnections))
	}
	r := s.cfg.Routing
	d.plans = router.NewPlans(router.Options{
		MaxBytes: r.PlanCache, Safe: r.SafeFunctions, Unsafe: r.UnsafeFunctions,
		Rules: s.cfg.RulesFor(key.database), Tenant: s.audit.Policy(),
	})
	d.refresher = catalog.NewRefresher(catalog.RefreshOptions{
		Interval: r.CatalogInterval, Delay: 50 * time.Millisecond, Timeout: 30 * time.Second, Load: d.load,
		Publish: func(sn *catalog.Snapshot) {
			s.log.Info("catalog read", zap.String("database", d.label()),
				zap.Int("functions", sn.Functions()), zap.Int("relations", sn.Relations()))
		},
		Failed: func(err error) {
			s.log.Warn("catalog could not be read; statements that need it run on the primary",
				zap.String("database", d.label()), zap.Error(err))
		},
	})
	ctx, end := context.WithCancel(s.ctx)
	d.ctx, d.end = ctx, end
	s.background.Go(func() { d.refresher.Run(ctx) })
	os.dbs[id] = d
	return d
}

// welcome are the settings a server reports to a session with these startup
// settings; err if a server refuses them. Asked of a server once, then remembered.
func (o *origin) welcome(ctx context.Context, s *Server, want session.Settings) (map[string]string, error) {
	o.mu.Lock()
	w, known := o.welcomes[want]
	o.mu.Unlock()
	if known {
		return w, nil
	}
	if err := o.db.account.refuses(ctx, o.cluster.Topology(), *o.cred.Load(), o.db.name); err != nil {
		return nil, err
	}
	w, err := o.askWelcome(ctx, s, want)
	if err != nil {
		return nil, err
	}
	o.db.account.lend(login{*o.cred.Load(), o.db.name, true})
	o.db.awaitCatalog(ctx) // or the first statements would know nothing
	o.mu.Lock()
	if len(o.welcomes) >= maxWelcomes {
		clear(o.welcomes)
	}
	o.welcomes[want] = w
	o.mu.Unlock()
	return w, nil
}

// welcomed reports whether a server has let a client in.
func (o *origin) welcomed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.welcomes) > 0
}

// unused reports whether nobody was ever welcomed and only one client tries.
func (o *origin) unused() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.welcomes) == 0 && o.clients.Load() == 1
}

// askWelcome adopts the settings on a connection of the primary, or of a replica while there is none.
func (o *origin) askWelcome(ctx context.Context, s *Server, settings session.Settings) (map[string]string, error) {
	want := pool.Want{Settings: settings, Defined: settings.Custom()}
	waiting, cancel := context.WithTimeout(ctx, s.cfg.Routing.PrimaryWait)
	defer cancel()
	for {
		server, err := anyServer(waiting, o.cluster)
		if err != nil {
			return nil, err
		}
		p := o.pools[server.Index]
		b, err := p.Acquire(want, patient{ctx})
		if unreachable(err) {
			o.cluster.ReportUnreachable(server, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		if !b.Alive() {
			p.Discard(b)
			continue
		}
		if err := b.Adopt(ctx, settings, want.Defined); err != nil {
			p.Discard(b)
			if cutOff(err) && ctx.Err() == nil {
				o.cluster.ReportLost(server)
				continue
			}
			return nil, err
		}
		w := maps.Clone(b.Parameters())
		if _, ok := w["in_hot_standby"]; ok {
			w["in_hot_standby"] = "off" // one ordinary server is none
		}
		p.Release(b)
		return w, nil
	}
}

// patient waits as long as a context lets it.
type patient struct{ ctx context.Context }

// SlowContext implements pool.SlowPath.
func (p patient) SlowContext() context.Context { return p.ctx }

// anyServer is the primary, or a replica while there is none, as soon as there is either.
func anyServer(ctx context.Context, cl *cluster.Cluster) (found *cluster.Server, err error) {
	err = cl.Wait(ctx, func(t *cluster.Topology) bool {
		if found = t.Primary; found == nil && len(t.Replicas) > 0 {
			found = t.Replicas[0]
		}
		return found != nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		found, err = cl.WaitPrimary(ctx) // says why there is none
	}
	return found, err
}

// userLimit is max_server_connections of a user on one server, over all databases.
func (s *Server) userLimit(user string, eff config.Effective, index int) *pool.Limit {
	if eff.UserConnections <= 0 {
		return nil
	}
	id := fmt.Sprintf("%s\x00%s\x00%d", strings.ToLower(eff.Cluster), user, index)
	l := s.userLimits[id]
	if l == nil {
		l = pool.NewLimit(eff.UserConnections)
		s.userLimits[id] = l
	}
	return l
}

// clientError is what a client is told of err.
func (s *Server) clientError(err error) *wire.Error {
	return toClient(err, s.cfg)
}
