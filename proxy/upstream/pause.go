package upstream

import (
	"context"
	"iter"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Paused reports whether a database is paused, or all are, which an empty name stands for.
func (dir *Directory) Paused(database string) bool {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	return dir.paused.has(database)
}

// Pause has no batch of a database's clients, or of any with an empty name, get a server connection
// until Resume: it waits. What holds one keeps it until it gives it back.
func (dir *Directory) Pause(database string) {
	dir.mu.Lock()
	if database == "" {
		dir.paused.all = true
	} else {
		dir.paused.of[database] = true
	}
	dir.mu.Unlock()
	dir.followPauses(database)
}

// Resume ends what Pause began; with an empty name all of it. It reports whether the database is not
// paused any more, which it is as long as all are.
func (dir *Directory) Resume(database string) bool {
	dir.mu.Lock()
	if database == "" {
		dir.paused.all = false
		clear(dir.paused.of)
	} else {
		delete(dir.paused.of, database)
	}
	resumed := !dir.paused.has(database)
	dir.mu.Unlock()
	dir.followPauses(database)
	return resumed
}

// followPauses has the pools of a database, or all, be paused or not.
func (dir *Directory) followPauses(database string) {
	dir.paused.following.Lock()
	defer dir.paused.following.Unlock()
	for _, p := range dir.all() {
		if database != "" && p.Key.Database != database {
			continue
		}
		paused := dir.Paused(p.Key.Database)
		if p.paused.Swap(paused) == paused {
			continue
		}
		for _, pl := range p.servers.All() { // those that are made after this see paused
			pl.Pause(paused)
		}
	}
}

// releasedInterval is how often it is looked whether connections are closed.
const releasedInterval = 5 * time.Millisecond

// AwaitClosed waits until clients of a database, or of all, have no connection to a server any more,
// or ctx ends, whose error it returns. Nothing opens others while they are paused.
func (dir *Directory) AwaitClosed(ctx context.Context, database string) error {
	ticker := time.NewTicker(releasedInterval)
	defer ticker.Stop()
	for dir.open(database) > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (dir *Directory) open(database string) (n int) {
	for _, p := range dir.all() {
		if database == "" || p.Key.Database == database {
			for _, pl := range p.Servers() {
				n += pl.Stats().Open
			}
		}
	}
	return n
}

// Reconnect has the connections for a database's clients to a server replaced as they become free. An
// empty name is all databases, and an empty address all servers.
func (dir *Directory) Reconnect(database, address string) {
	for _, p := range dir.all() {
		if database != "" && p.Key.Database != database {
			continue
		}
		for s, pl := range p.Servers() {
			if address == "" || s.Address == address {
				pl.Expire()
			}
		}
	}
}

// Servers are the pools there are, by server.
func (p *Pools) Servers() iter.Seq2[*cluster.Server, *pool.Pool] {
	return func(yield func(*cluster.Server, *pool.Pool) bool) {
		for s, pl := range p.servers.All() {
			if !yield(s, pl.Pool) {
				return
			}
		}
	}
}

// Clients is how many sessions use p.
func (p *Pools) Clients() int64 { return p.clients.Load() }
