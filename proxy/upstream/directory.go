// Package upstream is what clients share on their way to the servers. A Directory has,
// for each user and database, Pools: a pool of connections for each server of the
// database's cluster, and how to log in. All users of a database share a Database: the
// plans of its statements, what was committed in it, and the reader of its catalog. A
// Cluster is the servers with an Account, by which the proxy itself asks them things,
// and what is done as they come, go and change their roles.
//
// All of it is made when first asked for and safe for concurrent use.
package upstream

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/pool/perserver"
	"github.com/pgweir/pgweir/proxy/activity"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/router/tenant"
)

// Options are what a Directory works with. All but Rules' result and Dial must be set.
type Options struct {
	Pool     config.Pool
	Routing  config.Routing
	Settings config.Settings
	Tenants  []string                            // settings that name the tenant
	Rules    func(database string) []config.Rule // of routing, for a database as clients name it
	Audit    *audit.Auditor
	Insight  *insight.Book // of statements; nil if they are not counted
	Log      *zap.Logger
	// CloseHeld closes the connections to a server that clients hold, so that what runs
	// on them fails, and tells how many there were.
	CloseHeld func(*cluster.Server) int
	// LoginsChanged is called when who may log in to a cluster, and by what, may have changed.
	LoginsChanged func()
	Dial          backend.Dial // how servers are reached; nil is package net's

	declared setting.Names // settings that every connection is asked for
}

// Key is whose statements Pools serve: names as clients give them.
type Key struct{ User, Database string }

// Directory finds what clients share. Pools and databases stay for a while once they have
// let a client in: see forget.go.
type Directory struct {
	o          atomic.Pointer[Options] // in force
	ctx        context.Context         // of everything in the background
	background sync.WaitGroup
	clusters   map[string]*Cluster // all are added before anything is looked for

	verified, differing atomic.Uint64 // connections

	hubs hubs // by which sessions listen

	mu        sync.Mutex // protects the fields below
	pools     map[Key]*Pools
	retired   []*Pools             // that the configuration no longer knows, with clients yet
	databases map[string]*Database // by cluster and name
	dropped   bool                 // some database was
	paused    pauses
	past      map[string]activity.Totals // traffic of Pools that were dropped, by database as clients name it
}

// New makes a Directory. What it does in the background ends with ctx.
func New(ctx context.Context, o Options) *Directory {
	dir := &Directory{
		ctx:      ctx,
		clusters: map[string]*Cluster{}, pools: map[Key]*Pools{}, databases: map[string]*Database{},
		past: map[string]activity.Totals{}, paused: pauses{of: map[string]bool{}},
	}
	o.declared = declaredNames(&o)
	dir.o.Store(&o)
	return dir
}

// Pools lists all there are.
func (dir *Directory) Pools() []*Pools {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	return slices.Collect(maps.Values(dir.pools))
}

// all lists those that the configuration no longer knows, too.
func (dir *Directory) all() []*Pools {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	return append(slices.Collect(maps.Values(dir.pools)), dir.retired...)
}

// Databases lists all there are.
func (dir *Directory) Databases() []*Database {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	return slices.Collect(maps.Values(dir.databases))
}

// Clusters are all that were added, by name.
func (dir *Directory) Clusters() map[string]*Cluster { return dir.clusters }

// Protections calls each with what every database does itself to keep tenants apart, as
// far as that is known.
func (dir *Directory) Protections(each func(label string, found *tenant.Inspection)) {
	for _, d := range dir.Databases() {
		if found := d.Protection(); found != nil {
			each(d.Label(), found)
		}
	}
}

// Enter finds what a user and database share, made if need be, and counts a client in; it
// tells how many the database has with it. resolve says what is in force for them, and how
// connections log in from now on; until Enter has returned nothing else comes in force
// (Reload.Apply). Its error is Enter's; without one Pools.Leave must follow.
func (dir *Directory) Enter(key Key, resolve func() (config.Effective, backend.Credentials, error)) (p *Pools, inDatabase int64, err error) {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	eff, cred, err := resolve()
	if err != nil {
		return nil, 0, err
	}
	if p = dir.pools[key]; p == nil {
		p = dir.poolsLocked(key, eff)
		p.cred.Store(&cred)
		dir.pools[key] = p
	} else if !p.cred.Load().Equal(cred) {
		p.cred.Store(&cred)
	}
	p.clients.Add(1)
	return p, p.Database.clients.Add(1), nil
}

// Maintain forgets what nobody uses, and lets all pools close what is old and open what they
// should keep. It is to be called every second or so.
func (dir *Directory) Maintain(now time.Time) {
	dir.hubs.maintain(now)
	dir.forgetUnused(now)
	dir.dropRetired()
	for _, p := range dir.Pools() {
		t := p.Cluster.Topology()
		p.servers.Retire(t)
		for i := range t.States {
			if s := t.States[i].Server; t.States[i].Status.Usable() {
				dir.verifyIdle(p, s, now)
				pl := p.of(s)
				dir.report(p, pl, pl.Maintain(dir.ctx, now))
			}
		}
	}
}

// report tells why a pool could not be maintained, unless it told so the last time, or its
// database is gone and nobody there to miss it.
func (dir *Directory) report(p *Pools, pl *perserver.Pool, err error) {
	switch {
	case err == nil:
		pl.Failed = ""
	case dir.ctx.Err() != nil, pl.Failed == err.Error():
	case noDatabase(err) && dir.forgetDatabase(p.Database):
	default:
		pl.Failed = err.Error()
		dir.o.Load().Log.Warn("pool", zap.String("user", p.Key.User), zap.String("database", p.Key.Database), zap.Error(err))
	}
}

// Close closes all pools and waits for what runs in the background, whose context must
// have ended.
func (dir *Directory) Close() {
	for _, p := range dir.all() { // nobody adds to them any more
		p.servers.Close()
	}
	dir.hubs.closeIf(func(hubKey, *hub) bool { return true })
	dir.background.Wait()
	for _, c := range dir.clusters {
		c.Account.asker.Close()
	}
}

// logins are the names under which sessions of a database log in to its servers.
func (dir *Directory) logins(d *Database) (names []string) {
	for _, p := range dir.Pools() {
		if p.Database == d && !slices.Contains(names, p.Config.ServerUser) {
			names = append(names, p.Config.ServerUser)
		}
	}
	slices.Sort(names)
	return names
}
