package upstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/pool/perserver"
	"github.com/pgweir/pgweir/proxy/activity"
	"github.com/pgweir/pgweir/router/catalog"
)

// Pools are what the clients of one user and database share. The exported fields never
// change.
type Pools struct {
	Key      Key
	Config   config.Effective // when they were made; see Terms for what is in force
	Cluster  *cluster.Cluster
	Database *Database
	// Sequences are what was learned of what sessions ask of them.
	Sequences Sequences
	// Parsed are statements a server has parsed for this user, by name, with the catalog of
	// then, which one of equal content is not. It keeps neither alive.
	Parsed *lru.Cache[string, weak.Pointer[catalog.Snapshot]]
	// Traffic counts what is done for them.
	Traffic activity.Traffic

	terms     atomic.Pointer[Terms]
	cred      atomic.Pointer[backend.Credentials]
	clients   atomic.Int64
	left      atomic.Int64             // when a client last did, in Unix nanoseconds
	asking    singleflight.Group       // of Admit
	admitted  atomic.Pointer[admitted] // the last time; nil for never
	directory *Directory
	paused    atomic.Bool // so are the pools, and those that are yet to be made
	servers   perserver.Pools
	// toldLockOut is when it was last logged that sessions end for want of a login; nil for never.
	toldLockOut atomic.Pointer[time.Time]

	mu      sync.Mutex // protects replies
	replies map[setting.Settings]map[string]string
}

// maxReplies bounds the startup settings whose replies are remembered.
const maxReplies = 1000

// maxParsed bounds the statements known to parse.
const maxParsed = 5000

func (dir *Directory) poolsLocked(key Key, eff config.Effective) *Pools {
	cl := dir.clusters[eff.Cluster]
	p := &Pools{
		Key: key, Config: eff, Cluster: cl.Cluster, Database: dir.databaseLocked(key, eff),
		directory: dir, replies: map[setting.Settings]map[string]string{},
	}
	p.terms.Store(newTerms(eff))
	p.paused.Store(dir.paused.has(key.Database))
	p.Parsed, _ = lru.New[string, weak.Pointer[catalog.Snapshot]](maxParsed) // fails for a size below 1 only
	return p
}

// Of is the pool of a server of the cluster.
func (p *Pools) Of(s *cluster.Server) *pool.Pool { return p.of(s).Pool }

func (p *Pools) of(s *cluster.Server) *perserver.Pool {
	return p.servers.Of(s, func() *pool.Pool { return p.directory.newPool(p, s) })
}

// newPool makes a pool of connections to one server.
func (dir *Directory) newPool(p *Pools, s *cluster.Server) *pool.Pool {
	o := p.size(dir.o.Load().Pool)
	o.Verify = func(b *backend.Backend) error {
		if !dir.o.Load().Settings.VerifyReleases {
			return nil
		}
		return dir.verify(s, p.Key, b)
	}
	o.Refused = func(b *backend.Backend, why error) { dir.refused(s, p.Key, b, why) }
	o.Dial = func(ctx context.Context) (*backend.Backend, error) { return p.dial(ctx, s) }
	pl := p.Database.account.slots.Of(s).NewPool(o, p.Key.User, p.Terms().Effective)
	if p.paused.Load() {
		pl.Pause(true)
	}
	return pl
}

// size is those options of a pool that may change while it is used.
func (p *Pools) size(c config.Pool) pool.Options {
	eff := p.Terms()
	o := pool.Options{
		Size: eff.PoolSize, MinIdle: eff.MinIdle, Warm: eff.Warm,
		AcquireTimeout: eff.AcquireTimeout, IdleTimeout: c.IdleTimeout, MaxLifetime: c.MaxLifetime,
	}
	if eff.Retired { // it keeps nothing open that is not in use
		o.MinIdle, o.Warm = 0, false
	}
	return o
}

// refused says that a connection was not at rest when it was given back. It was closed,
// so nobody found it so, but whoever gave it back is in error.
func (dir *Directory) refused(server *cluster.Server, key Key, b *backend.Backend, why error) {
	dir.o.Load().Log.Error("server connection is closed, not shared: it is not at rest",
		zap.String("server", server.Address), zap.Uint32("pid", b.PID()), zap.String("user", key.User),
		zap.String("database", key.Database), zap.Uint64("session", b.LastUser()), zap.Error(why))
}

// Begin opens a connection that begins with a session's startup settings, and is for that
// session only. Custom settings that sessions have by default since are empty there: RESET
// returns to what a connection began with.
func (p *Pools) Begin(ctx context.Context, s *cluster.Server, with setting.Settings) (*backend.Backend, error) {
	params := maps.Collect(with.All())
	hide := func(now setting.Settings, but setting.Names) (more bool) {
		for name := range now.All() {
			if _, has := params[name]; !has && setting.IsCustom(name) && !but.Has(name) {
				params[name], more = "", true
			}
		}
		return more
	}
	hide(p.Usual(), setting.Names{})
	for refused := false; ; {
		b, err := p.open(ctx, s, params)
		if own := maps.Collect(with.All()); errors.As(err, new(*pgconn.PgError)) && !refused && len(own) < len(params) {
			params, refused = own, true // one of them is a library's, and not empty
			continue
		}
		if err != nil {
			return nil, err
		}
		defaults, err := p.learn(ctx, s, b, slices.Collect(maps.Keys(params)))
		if err != nil || !hide(defaults.Of(p.Config.ServerUser), b.Origin().Libraries) {
			return b, err
		}
		b.Close() // one was given meanwhile, or may be hidden
	}
}

// learn finds out what the session of a new connection begins with, custom settings of those names
// included, and what others begin with by now. If that cannot be told in the time there is to connect,
// the connection is closed: it has a place in its pool, and may be waited for. So it is if another
// server answers than the monitor knows at that address.
func (p *Pools) learn(ctx context.Context, s *cluster.Server, b *backend.Backend, named []string) (*backend.Defaults, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Database.account.access.Load().timeout)
	defer cancel()
	defaults, err := b.AskDefaults(ctx, p.Config.ServerUser)
	if err == nil {
		err = b.AskBegan(ctx, slices.Concat(named, defaults.Names().List(), p.Database.defaultNames()))
	}
	if err == nil && !p.Cluster.Saw(s, b.Origin().Started) {
		err = fmt.Errorf("server %s: %w", s.Address, errAnother)
	}
	if err != nil {
		b.Close()
	}
	return defaults, err
}

// errAnother is that a server's address leads to another one, or to it since it was started again.
var errAnother = fmt.Errorf("%w: another server answers there than the one that was asked what it is, or it was started again", pool.ErrGone)

// Usual are the settings that a session began with when they were last asked for.
func (p *Pools) Usual() setting.Settings {
	if known := p.Database.defaults.Load(); known != nil {
		return known.Of(p.Credentials().User)
	}
	return setting.Settings{}
}

// Credentials are how connections log in now.
func (p *Pools) Credentials() backend.Credentials { return *p.cred.Load() }

// Leave counts a client out.
func (p *Pools) Leave() {
	p.left.Store(time.Now().UnixNano())
	p.clients.Add(-1)
	p.Database.clients.Add(-1)
}

// StartupReply is the parameters a server reports to a session with these startup
// settings; the error is a server's refusal of them, or that there is no server. A server
// is asked once, and its reply remembered. The caller must not change it.
func (p *Pools) StartupReply(ctx context.Context, want setting.Settings) (map[string]string, error) {
	p.mu.Lock()
	reply, known := p.replies[want]
	p.mu.Unlock()
	if known {
		return reply, nil
	}
	account := p.Database.account
	if err := account.refusal(ctx, p.Cluster.Topology(), p.Credentials(), p.Database.name); err != nil {
		return nil, err
	}
	reply, err := p.askStartup(ctx, want)
	if err != nil {
		return nil, err
	}
	account.offer(login{p.Credentials(), p.Database.name, true})
	p.Database.AwaitCatalog(ctx) // or the first statements would know nothing
	p.mu.Lock()
	if len(p.replies) >= maxReplies {
		clear(p.replies)
	}
	p.replies[want] = reply
	p.mu.Unlock()
	return reply, nil
}

// proven reports whether a server has let a client in.
func (p *Pools) proven() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.replies) > 0
}

// dial opens a connection and learns what its session begins with.
func (p *Pools) dial(ctx context.Context, s *cluster.Server) (*backend.Backend, error) {
	b, err := p.open(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	if _, err := p.learn(ctx, s, b, nil); err != nil {
		return nil, err
	}
	return b, nil
}

// open logs in to a server as clients do. Refused, it does so again by what another client has
// shown meanwhile.
func (p *Pools) open(ctx context.Context, s *cluster.Server, params map[string]string) (*backend.Backend, error) {
	for {
		cred := p.cred.Load()
		b, err := p.Database.account.dial(ctx, s, *cred, p.Database.name, params)
		if !LockedOut(err) || p.cred.Load() == cred {
			return b, err
		}
	}
}

// expire has connections that began with other defaults than sessions do now used no
// longer.
func (p *Pools) expire() {
	for _, pl := range p.servers.All() {
		pl.Expire()
	}
}

// Defaults are the settings that a session begins with, but for its own startup
// parameters: those of ALTER ROLE and ALTER DATABASE … SET. A session keeps them, whatever
// becomes of these later.
func (p *Pools) Defaults(ctx context.Context) (setting.Settings, error) {
	d := p.Database
	if d.defaults.Load() == nil || !p.proven() {
		if err := d.account.refusal(ctx, p.Cluster.Topology(), p.Credentials(), d.name); err != nil {
			return setting.Settings{}, err
		}
		if err := p.onServer(ctx, pool.Want{}, p.askDefaults(ctx)); err != nil {
			return setting.Settings{}, err
		}
	}
	if d.Stale() {
		d.AwaitCatalog(ctx)
	}
	p.lookAtDefaults(ctx)
	return d.defaults.Load().Of(p.Config.ServerUser), nil
}

// askDefaults asks a connection for the defaults of all sessions.
func (p *Pools) askDefaults(ctx context.Context) func(*backend.Backend) error {
	return func(b *backend.Backend) error {
		found, err := b.AskDefaults(ctx, "")
		if err == nil {
			p.Database.learnDefaults(found)
		}
		return err
	}
}

// lookAtDefaults asks whether the defaults are still what is known, over an idle
// connection of the primary; without one a change is heard of when the catalog is read.
func (p *Pools) lookAtDefaults(ctx context.Context) {
	primary := p.Cluster.Topology().Primary
	if primary == nil {
		return
	}
	pl, user, d := p.Of(primary), p.Config.ServerUser, p.Database
	b := takeIdle(pl)
	if b == nil {
		return
	}
	now, err := b.AskDefaults(ctx, user)
	if err == nil && now.Of(user) != d.defaults.Load().Of(user) {
		err = p.askDefaults(ctx)(b)
	}
	if err != nil {
		pl.Discard(b)
		return
	}
	pl.Release(b)
}

// askStartup adopts the settings on a server connection, and tells what the server
// reports then.
func (p *Pools) askStartup(ctx context.Context, settings setting.Settings) (reported map[string]string, err error) {
	want := pool.Want{Settings: settings, Defined: settings.Custom()}
	err = p.onServer(ctx, want, func(b *backend.Backend) error {
		err := b.Adopt(ctx, settings, want.Defined)
		reported = maps.Clone(b.Parameters())
		return err
	})
	if _, ok := reported["in_hot_standby"]; ok {
		reported["in_hot_standby"] = "off" // one ordinary server is none
	}
	return reported, err
}

// onServer has something done on a connection of the primary, or of a replica while there
// is none.
func (p *Pools) onServer(ctx context.Context, want pool.Want, do func(*backend.Backend) error) error {
	waiting, cancel := context.WithTimeout(ctx, p.Database.directory.o.Load().Routing.PrimaryWait)
	defer cancel()
	for {
		server, err := AnyServer(waiting, p.Cluster)
		if err != nil {
			return err
		}
		pl := p.Of(server)
		b, err := pl.Acquire(want, patient{ctx})
		if Unreachable(err) && waiting.Err() == nil { // behind its deadline all fails at once
			p.Cluster.ReportUnreachable(server, err)
			continue
		}
		if err != nil {
			return err
		}
		if !b.Alive() {
			pl.Discard(b)
			continue
		}
		if err := do(b); err != nil {
			pl.Discard(b)
			if CutOff(err) && ctx.Err() == nil {
				p.Cluster.ReportLost(server)
				continue
			}
			return err
		}
		pl.Release(b)
		return nil
	}
}

// patient waits as long as a context lets it.
type patient struct{ ctx context.Context }

// SlowContext implements pool.SlowPath.
func (p patient) SlowContext() context.Context { return p.ctx }

// AnyServer is the primary, or a replica while there is none, as soon as there is either.
// The error says why there is none until ctx ends.
func AnyServer(ctx context.Context, cl *cluster.Cluster) (found *cluster.Server, err error) {
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

// takeIdle takes an idle connection to ask what the proxy wants to know; nil if there is none that
// tells and takes names as the server has them: its session may have chosen another encoding.
func takeIdle(pl *pool.Pool) *backend.Backend {
	b := pl.TakeIdle(time.Now().Add(time.Hour))
	if b != nil && b.Parameter("client_encoding") != b.Parameter("server_encoding") {
		pl.Release(b)
		return nil
	}
	return b
}
