package upstream

import (
	"reflect"
	"slices"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
)

// Reload is other options, ready to be put in force.
type Reload struct {
	dir    *Directory
	o      Options
	access map[string]*access
}

// Prepare reads the files that options and clusters name. It changes nothing.
func (dir *Directory) Prepare(o Options, clusters map[string]config.Cluster) (*Reload, error) {
	o.declared = declaredNames(&o)
	r := &Reload{dir, o, map[string]*access{}}
	for name := range dir.clusters {
		now, err := newAccess(name, clusters[name], o.Pool)
		if err != nil {
			return nil, err
		}
		r.access[name] = now
	}
	return r, nil
}

// Apply puts the options in force, and for each user and database with clients what
// resolve says of it. Pools of what is no longer there, or is somewhere else, are retired:
// who comes next gets new ones, and the old ones are dropped with their last client.
func (r *Reload) Apply(resolve func(Key) (config.Effective, bool)) {
	dir := r.dir
	var pools []*Pools
	dir.mu.Lock()
	before := dir.o.Swap(&r.o)
	for name, c := range dir.clusters {
		c.Account.access.Store(r.access[name])
	}
	for key, p := range dir.pools {
		eff, ok := resolve(key)
		if was := p.Config; !ok || eff.Cluster != was.Cluster || eff.Database != was.Database || eff.ServerUser != was.ServerUser {
			eff = config.Effective{}
			delete(dir.pools, key)
			dir.retired = append(dir.retired, p)
		}
		p.adopt(newTerms(eff))
		pools = append(pools, p)
	}
	for _, d := range dir.databases {
		d.reload(before, &r.o)
	}
	dir.mu.Unlock()
	for _, p := range pools {
		p.resize(r.o.Pool)
	}
	dir.limit(pools)
}

// adopt puts terms in force. Connections log in by their password from now on, if there is one.
func (p *Pools) adopt(t *Terms) {
	p.terms.Store(t)
	if cred := p.Credentials(); t.ServerPassword != "" && cred.Password != t.ServerPassword {
		p.cred.Store(&backend.Credentials{User: t.ServerUser, Password: t.ServerPassword})
	}
}

// resize has the pools follow the terms in force. What is retired keeps nothing open that is
// not in use.
func (p *Pools) resize(c config.Pool) {
	t := p.Terms()
	size := t.PoolSize
	if p.Retired() {
		size = p.Config.PoolSize
	}
	for _, pl := range p.pools {
		pl.Resize(pool.Options{
			Size: size, MinIdle: t.MinIdle,
			AcquireTimeout: c.AcquireTimeout, IdleTimeout: c.IdleTimeout, MaxLifetime: c.MaxLifetime,
		})
		if p.Retired() {
			pl.Expire()
		}
	}
}

// limit has what bounds several pools together follow the terms in force.
func (dir *Directory) limit(pools []*Pools) {
	for _, p := range pools {
		t := p.Terms()
		if p.Retired() {
			continue
		}
		for i, l := range p.Database.limits {
			if p.Key.Database == p.Database.catalog.asked {
				l.Set(t.DatabaseConnections)
			}
			dir.mu.Lock()
			of := dir.userLimitLocked(p.Key.User, t.Effective, i)
			dir.mu.Unlock()
			of.Set(t.UserConnections)
		}
	}
}

// reload has the database follow other options.
func (d *Database) reload(before, now *Options) {
	if wishes := d.plansOptions(now); !reflect.DeepEqual(wishes, d.catalog.wishes) {
		d.catalog.wishes = wishes
		d.Plans.Configure(wishes)
		d.catalog.found.Add(1) // what is prepared may be something else now
	}
	if before.Routing.CatalogInterval != now.Routing.CatalogInterval {
		d.catalog.SetInterval(now.Routing.CatalogInterval)
	}
	if !slices.Equal(before.Tenants, now.Tenants) {
		// Whose commits are whose is told by other settings now.
		d.Commits.WhileTablesChange(func() bool { return true })
	}
}
