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
	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// originKey is whose statements an origin serves: names as clients give them.
type originKey struct{ user, database string }

// origin is what the clients of one user and database share: a pool for each
// server, the plans of the database, and how to log in. Safe for concurrent use.
type origin struct {
	key     originKey
	eff     config.Effective
	route   router.Route
	cluster *cluster.Cluster
	pools   []*pool.Pool // by cluster.Server.Index
	db      *database
	cred    atomic.Pointer[backend.Credentials]
	clients atomic.Int64
	// parsed are statements a server has parsed for this user, with the catalog of then.
	parsed *lru.Cache[*backend.Statement, *catalog.Snapshot]

	mu       sync.Mutex // protects welcomes
	welcomes map[session.Settings]map[string]string
}

// maxWelcomes bounds the startup settings whose reports are remembered.
const maxWelcomes = 1000

// maxParsed bounds the statements known to parse.
const maxParsed = 5000

// database is what all users of one database on one cluster share.
type database struct {
	cluster   *cluster.Cluster
	account   *account
	name      string // on the servers
	plans     *router.Plans
	refresher *catalog.Refresher
	end       context.CancelFunc // of the refresher
	limits    []*pool.Limit      // by server; of max_server_connections
	clients   atomic.Int64

	// changes counts DDL seen, seen those the plans' catalog has in it.
	changes, seen atomic.Uint64

	customs customs

	// committed is the Moment after the last commit through this proxy.
	committed atomic.Int64

	mu   sync.Mutex    // protects read
	read chan struct{} // closed when the catalog is next read
}

func (d *database) label() string { return d.cluster.Name() + "/" + d.name }

// lastCommit is a moment at which all that was committed through this proxy, as
// far as any client was told, had been.
func (d *database) lastCommit() cluster.Moment { return cluster.Moment(d.committed.Load()) }

// noteCommit says that something may just have been committed. It is called before
// the client can know.
func (d *database) noteCommit() {
	now := int64(cluster.Now())
	for {
		last := d.committed.Load()
		if last >= now || d.committed.CompareAndSwap(last, now) {
			return
		}
	}
}

// catalogChanged says that DDL was committed: until the catalog is read again its
// facts are not relied on.
func (d *database) catalogChanged() {
	d.changes.Add(1)
	d.refresher.Changed()
}

func (d *database) stale() bool { return d.changes.Load() != d.seen.Load() }

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
	snapshot, err := catalog.Load(ctx, b.Query, catalog.LoadOptions{Previous: previous})
	if err != nil {
		return nil, err
	}
	d.plans.SetSnapshot(snapshot)
	if s == t.Primary {
		d.seen.Store(at)
	}
	d.mu.Lock()
	close(d.read)
	d.read = make(chan struct{})
	d.mu.Unlock()
	return snapshot, nil
}

// account is how the proxy itself logs in to one cluster: with the service
// account, or with the login of the latest client.
type account struct {
	s        *Server
	tls      *backend.TLS
	service  config.Service
	borrowed atomic.Pointer[login]
}

// login is a client's, as lent to the proxy.
type login struct {
	cred     backend.Credentials
	database string
	proven   bool // a server let it in
}

// lend offers a client's login, which the proxy takes if it has no account of its
// own. One that a server has let in is not given up for one that none has yet.
func (a *account) lend(l login) {
	if a.service.User != "" {
		return
	}
	if now := a.borrowed.Load(); now == nil || l.proven || !now.proven {
		a.borrowed.Store(&l)
	}
}

// open logs in to a server; an empty database is the account's own.
func (a *account) open(ctx context.Context, s *cluster.Server, database string) (_ *backend.Backend, err error) {
	cred := backend.Credentials{User: a.service.User, Password: a.service.Password}
	own := a.service.Database
	if own == "" {
		own = "postgres"
	}
	if a.service.User == "" {
		l := a.borrowed.Load()
		if l == nil {
			return nil, cluster.ErrNoLogin
		}
		cred, own = l.cred, l.database
		defer func() {
			if err != nil && !unreachable(err) && l.proven && (database == "" || database == own) {
				// A changed password, perhaps: the next client's login is as good.
				a.borrowed.CompareAndSwap(l, &login{cred: l.cred, database: l.database})
			}
		}()
	}
	if database == "" {
		database = own
	}
	return a.s.dial(ctx, s.Address, a.tls, cred, database, "pgweir")
}

// refuses asks the servers whether they let a client in, where the proxy has no
// account of its own to learn anything of them with. It returns their refusal.
func (a *account) refuses(ctx context.Context, t *cluster.Topology, cred backend.Credentials, database string) error {
	if a.service.User != "" || t.Primary != nil {
		return nil
	}
	for _, st := range t.States {
		b, err := a.s.dial(ctx, st.Server.Address, a.tls, cred, database, "pgweir")
		if err == nil {
			b.Close()
			return nil
		}
		if !unreachable(err) {
			return err
		}
	}
	return nil
}

// dial opens one server connection.
func (s *Server) dial(ctx context.Context, address string, tls *backend.TLS, cred backend.Credentials, database, application string) (*backend.Backend, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Pool.ConnectTimeout)
	defer cancel()
	addr, err := backend.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	var params map[string]string
	if application != "" {
		params = map[string]string{"application_name": application}
	}
	l, err := backend.Open(ctx, backend.Options{Address: addr, TLS: tls}, cred, database, params)
	if err != nil {
		return nil, err
	}
	return backend.New(l, s.cfg.Pool.MaxStatements), nil
}

// probe is the monitor's look at the servers: one connection to each, kept.
type probe struct {
	account *account

	mu    sync.Mutex // protects conns; a server's entry is used by one goroutine at a time
	conns map[*cluster.Server]*backend.Backend
}

// locate is the tracker's look at the servers' places in the log: a connection to
// each, kept. It is used by one goroutine.
type locate struct {
	account *account
	conns   map[*cluster.Server]*backend.Backend
}

// Inserted implements cluster.Sampler.
func (l *locate) Inserted(ctx context.Context, s *cluster.Server) (cluster.LSN, error) {
	return l.ask(ctx, s, "SELECT pg_catalog.pg_current_wal_insert_lsn()")
}

// Replayed implements cluster.Sampler.
func (l *locate) Replayed(ctx context.Context, s *cluster.Server) (cluster.LSN, error) {
	return l.ask(ctx, s, "SELECT pg_catalog.pg_last_wal_replay_lsn()")
}

func (l *locate) ask(ctx context.Context, s *cluster.Server, query string) (lsn cluster.LSN, err error) {
	b := l.conns[s]
	if b == nil {
		if b, err = l.account.open(ctx, s, ""); err != nil {
			return 0, err
		}
		l.conns[s] = b
	}
	err = b.Query(ctx, query, func(v [][]byte) error {
		var high, low uint32
		_, err := fmt.Sscanf(string(v[0]), "%X/%X", &high, &low)
		lsn = cluster.LSN(high)<<32 | cluster.LSN(low)
		return err
	})
	if err != nil {
		b.Close()
		delete(l.conns, s)
	}
	return lsn, err
}

// Close implements cluster.Sampler.
func (l *locate) Close() {
	for _, b := range l.conns {
		b.Close()
	}
	l.conns = nil
}

const probeQuery = `SELECT pg_catalog.pg_is_in_recovery(), c.timeline_id, s.system_identifier,
	pg_catalog.current_setting('server_version_num')
FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_system() s`

// Probe implements cluster.Prober.
func (p *probe) Probe(ctx context.Context, s *cluster.Server) (found cluster.Probe, err error) {
	p.mu.Lock()
	b := p.conns[s]
	delete(p.conns, s)
	p.mu.Unlock()
	if b != nil && !b.Alive() {
		b.Close()
		b = nil
	}
	if b == nil {
		if b, err = p.account.open(ctx, s, ""); err != nil {
			return found, err
		}
	}
	err = b.Query(ctx, probeQuery, func(v [][]byte) error {
		found.InRecovery = string(v[0]) == "t"
		found.SystemID = string(v[2])
		_, err := fmt.Sscan(string(v[1])+" "+string(v[3]), &found.Timeline, &found.Version)
		return err
	})
	if err != nil {
		b.Close()
		return found, err
	}
	p.mu.Lock()
	p.conns[s] = b
	p.mu.Unlock()
	return found, nil
}

// Close implements cluster.Prober.
func (p *probe) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.conns {
		b.Close()
	}
	p.conns = nil
}

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
	o.db = os.databaseLocked(key, eff)
	o.parsed, _ = lru.New[*backend.Statement, *catalog.Snapshot](maxParsed) // fails for a size below 1 only
	c := s.cfg.Pool
	for i, st := range cl.Topology().States {
		o.pools = append(o.pools, pool.New(pool.Options{
			Size: eff.PoolSize, MinIdle: eff.MinIdle,
			AcquireTimeout: c.AcquireTimeout, IdleTimeout: c.IdleTimeout, MaxLifetime: c.MaxLifetime,
			Limits: []*pool.Limit{o.db.limits[i], s.userLimit(key.user, eff, i)},
			Dial: func(ctx context.Context) (*backend.Backend, error) {
				return s.dial(ctx, st.Server.Address, o.db.account.tls, *o.cred.Load(), eff.Database, "")
			},
		}))
	}
	return o
}

func (os *origins) databaseLocked(key originKey, eff config.Effective) *database {
	id := eff.Cluster + "/" + eff.Database
	if d := os.dbs[id]; d != nil {
		return d
	}
	s := os.s
	cl := s.clusters[eff.Cluster]
	d := &database{cluster: cl, account: s.accounts[eff.Cluster], name: eff.Database, read: make(chan struct{})}
	for range cl.Topology().States {
		d.limits = append(d.limits, pool.NewLimit(eff.DatabaseConnections))
	}
	r := s.cfg.Routing
	d.plans = router.NewPlans(router.Options{
		MaxBytes: r.PlanCache, Safe: r.SafeFunctions, Unsafe: r.UnsafeFunctions,
		Rules: s.cfg.RulesFor(key.database),
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
	d.end = end
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

// unused reports whether nobody was ever welcomed and only one client tries.
func (o *origin) unused() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.welcomes) == 0 && o.clients.Load() == 1
}

// askWelcome adopts the settings on a connection of the primary, or of a replica while there is none.
func (o *origin) askWelcome(ctx context.Context, s *Server, settings session.Settings) (map[string]string, error) {
	want := pool.Want{Settings: settings, Touched: settings.Custom()}
	for {
		server, err := o.anyServer(ctx, s.cfg.Routing.PrimaryWait)
		if err != nil {
			return nil, err
		}
		p := o.pools[server.Index]
		b, err := p.Acquire(want, patient{ctx})
		if unreachable(err) {
			o.cluster.Suspect(server, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		if !b.Alive() {
			p.Discard(b)
			continue
		}
		if err := b.Adopt(ctx, settings, want.Touched); err != nil {
			p.Discard(b)
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

// Late implements pool.Patience.
func (p patient) Late() context.Context { return p.ctx }

func (o *origin) anyServer(ctx context.Context, wait time.Duration) (*cluster.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var found *cluster.Server
	err := o.cluster.Wait(ctx, func(t *cluster.Topology) bool {
		if found = t.Primary; found == nil && len(t.Replicas) > 0 && t.Known {
			found = t.Replicas[0]
		}
		return found != nil
	})
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		_, err = o.cluster.WaitPrimary(ctx)
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

// defaultIsolation is what a transaction gets that says nothing of it.
func (c *client) defaultIsolation() router.Isolation {
	value, ok := c.settings.now.Value("default_transaction_isolation")
	if !ok {
		value = c.o.db.plans.Snapshot().DefaultIsolation(c.o.eff.ServerUser)
	}
	iso, _ := router.ParseIsolation(value)
	return iso
}

func (c *client) defaultReadOnly() bool {
	value, ok := c.settings.now.Value("default_transaction_read_only")
	if !ok {
		value = c.o.db.plans.Snapshot().DefaultReadOnly(c.o.eff.ServerUser)
	}
	on, _ := parseBool(value)
	return on
}

// clientError is what a client is told of err.
func (s *Server) clientError(err error) *wire.Error {
	return toClient(err, s.cfg)
}
