package upstream

import (
	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool"
)

// Reload puts other options in force, and for each user and database with clients what
// resolve says of it. Pools of what is no longer there, or is somewhere else, are retired:
// who comes next gets new ones, and the old ones are dropped with their last client.
func (dir *Directory) Reload(o Options, resolve func(Key) (config.Effective, bool)) {
	o.declared = declaredNames(&o)
	var resized []*Pools
	dir.mu.Lock()
	dir.o.Store(&o)
	for key, p := range dir.pools {
		eff, ok := resolve(key)
		if was := p.Config; !ok || eff.Cluster != was.Cluster || eff.Database != was.Database || eff.ServerUser != was.ServerUser {
			eff = config.Effective{}
			delete(dir.pools, key)
			dir.retired = append(dir.retired, p)
		}
		p.terms.Store(newTerms(eff))
		resized = append(resized, p)
	}
	dir.mu.Unlock()
	for _, p := range resized {
		p.resize(o.Pool)
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
