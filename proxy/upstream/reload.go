package upstream

import (
	"maps"
	"reflect"
	"slices"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
)

// Reload is other options, ready to be put in force.
type Reload struct {
	dir      *Directory
	o        Options
	clusters map[string]config.Cluster
	access   map[string]*access
}

// Prepare reads the files that options and clusters name. It changes nothing.
func (dir *Directory) Prepare(o Options, clusters map[string]config.Cluster) (*Reload, error) {
	o.declared = declaredNames(&o)
	r := &Reload{dir, o, clusters, map[string]*access{}}
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
// resolve says of it, and by what they log in from now on, nil for what they do; adopt has
// Enter's callers say so, too, from the same moment on. Pools of what is no longer there, or is somewhere else, are retired:
// who comes next gets new ones, and the old ones are dropped with their last client.
func (r *Reload) Apply(adopt func(), resolve func(Key) (config.Effective, *backend.Credentials, bool)) {
	dir := r.dir
	dir.mu.Lock()
	adopt()
	before := dir.o.Swap(&r.o)
	pools := slices.Collect(maps.Values(dir.pools))
	for _, p := range pools {
		if eff, cred, ok := resolve(p.Key); ok && p.serves(&eff) {
			p.adopt(newTerms(eff), cred)
			continue
		}
		p.retire()
		delete(dir.pools, p.Key)
		dir.retired = append(dir.retired, p)
	}
	for _, d := range dir.databases {
		d.reload(before, &r.o)
	}
	dir.mu.Unlock()
	for name, c := range dir.clusters {
		c.logInBy(r.access[name])
		c.follow(r.clusters[name], r.o.Pool)
	}
	for _, p := range pools {
		p.resize(r.o.Pool)
	}
}

// adopt puts terms in force. Connections log in by cred from now on, if it is not nil.
func (p *Pools) adopt(t *Terms, cred *backend.Credentials) {
	p.terms.Store(t)
	if cred != nil {
		p.cred.Store(cred)
	}
}

// resize has the pools, and what bounds several of them, follow the terms in force. What is
// retired keeps nothing open that is not in use.
func (p *Pools) resize(c config.Pool) {
	for s, pl := range p.servers.All() {
		pl.Resize(p.size(c))
		if p.Retired() {
			pl.Expire()
			continue
		}
		p.Database.account.slots.Of(s).Follow(p.Key.User, p.Terms().Effective, p.Key.Database == p.Database.catalog.asked)
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
