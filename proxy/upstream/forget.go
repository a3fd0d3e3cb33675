package upstream

import (
	"context"
	"time"
)

// What nobody uses is forgotten: after a while, or at once if a server never let anybody in, if the database
// is gone, or if somebody wants it for himself.

// Forget drops Pools that never let a client in, unless another client tries.
func (dir *Directory) Forget(p *Pools) {
	dir.forget(func(other *Pools) bool { return other == p && p.clients.Load() == 1 && !p.proven() && !p.Terms().Warm })
}

// forgetUnused drops Pools that have had no client for as long as the configuration says.
func (dir *Directory) forgetUnused(now time.Time) {
	if dir.o.Load().Pool.ForgetAfter > 0 {
		before := now.Add(-dir.o.Load().Pool.ForgetAfter).UnixNano()
		dir.forget(func(p *Pools) bool { return p.clients.Load() == 0 && p.left.Load() < before && !p.Terms().Warm })
	}
}

// forgetDatabase drops what is left of a database, if it has no clients, and reports whether
// it had none.
func (dir *Directory) forgetDatabase(d *Database) bool {
	dir.forget(func(p *Pools) bool { return p.Database == d && d.clients.Load() == 0 })
	return d.clients.Load() == 0
}

// forget drops and closes Pools, and ends what their databases keep running if nobody else
// uses them. Clients enter under the same lock, so none gets what is being dropped. which is
// called with that lock held.
func (dir *Directory) forget(which func(*Pools) bool) {
	var gone []*Pools
	dir.mu.Lock()
	for key, p := range dir.pools {
		if which(p) {
			gone = append(gone, p)
			delete(dir.pools, key)
		}
	}
	for _, p := range gone {
		dir.dropLocked(p)
	}
	dir.mu.Unlock()
	dir.closeAll(gone)
}

// dropLocked gives up Pools that are in no list any more.
func (dir *Directory) dropLocked(p *Pools) {
	dir.pastLocked(p)
	dir.dropUnusedLocked(p.Database)
}

// closeAll closes Pools that nobody can find any more.
func (dir *Directory) closeAll(gone []*Pools) {
	if len(gone) == 0 {
		return
	}
	for _, p := range gone {
		p.servers.Close()
	}
	for _, c := range dir.clusters {
		c.Account.slots.ForgetUnused()
	}
}

// dropRetired closes what was retired and has no client left.
func (dir *Directory) dropRetired() {
	var gone []*Pools
	dir.mu.Lock()
	kept := dir.retired[:0]
	for _, p := range dir.retired {
		if p.clients.Load() > 0 {
			kept = append(kept, p)
			continue
		}
		gone = append(gone, p)
	}
	clear(dir.retired[len(kept):])
	dir.retired = kept
	for _, p := range gone {
		dir.dropLocked(p)
	}
	dir.mu.Unlock()
	dir.closeAll(gone)
}

// dropUnusedLocked ends what a database keeps running if there are no Pools left that
// use it: any name can be asked for, and most do not exist.
func (dir *Directory) dropUnusedLocked(d *Database) {
	for _, p := range dir.retired {
		if p.Database == d {
			return
		}
	}
	for _, p := range dir.pools {
		if p.Database == d {
			return
		}
	}
	d.end()
	dir.hubs.closeIf(func(key hubKey, _ *hub) bool { return key.database == d })
	if dir.databases[d.label] == d {
		delete(dir.databases, d.label)
		dir.dropped = true
	}
}

// vacateInterval is how often it is tried to vacate a database whose clients are leaving.
const vacateInterval = 50 * time.Millisecond

// Vacate closes what is kept open to a database of the same cluster, for a statement that
// needs it for itself; an empty name is none. As long as there are clients in it that is
// theirs, and it is tried again until done is called: the server waits a while, too.
func (p *Pools) Vacate(ctx context.Context, name string) (done func()) {
	if name == "" {
		return func() {}
	}
	a := p.Database.account
	before := a.fallback.Load()
	back := func() { a.fallback.CompareAndSwap(nil, before) } // who has nowhere else to go comes back
	if p.vacate(name) {
		return back
	}
	ctx, done = context.WithCancel(ctx)
	p.Database.directory.background.Go(func() {
		defer back()
		ticker := time.NewTicker(vacateInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				p.vacate(name)
			}
		}
	})
	return done
}

// vacate tries once, and reports whether nothing is kept open any more.
func (p *Pools) vacate(name string) bool {
	dir := p.Database.directory
	dir.clusters[p.Config.Cluster].leave(name)
	if p.Config.Database == name {
		p.Database.expire(1) // who asks
		return false
	}
	dir.mu.Lock()
	d := dir.databases[label(p.Config.Cluster, name)]
	dir.mu.Unlock()
	return d == nil || dir.forgetDatabase(d)
}

// expire closes the connections at rest to a database that has no more than some clients.
func (d *Database) expire(clients int64) {
	for _, p := range d.directory.Pools() {
		if p.Database == d && d.clients.Load() <= clients {
			p.expire()
		}
	}
}
