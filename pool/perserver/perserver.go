// Package perserver holds a pool for each server of a cluster while servers come and go.
package perserver

import (
	"iter"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Pools are a pool for each server, made when it is first asked for. Safe for concurrent
// use; the zero value has none.
type Pools struct {
	pools atomic.Pointer[map[*cluster.Server]*Pool] // replaced, not changed

	mu     sync.Mutex // held while pools is replaced; protects closed
	closed bool
}

// Pool is the pool of one server.
type Pool struct {
	*pool.Pool
	// Failed is why it could not be maintained; it is whoever maintains the pools' own.
	Failed string
}

// Of is the pool of a server, made by open if there is none.
func (ps *Pools) Of(s *cluster.Server, open func() *pool.Pool) *Pool {
	if pl := ps.Known(s); pl != nil { // the usual case, which takes no lock
		return pl
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	next := ps.copyLocked()
	if pl := next[s]; pl != nil {
		return pl
	}
	pl := &Pool{Pool: open()}
	if ps.closed {
		pl.Close()
	}
	next[s] = pl
	ps.pools.Store(&next)
	return pl
}

// Known is the pool of a server; nil if nobody asked for it yet.
func (ps *Pools) Known(s *cluster.Server) *Pool {
	if all := ps.pools.Load(); all != nil {
		return (*all)[s]
	}
	return nil
}

func (ps *Pools) copyLocked() map[*cluster.Server]*Pool {
	if all := ps.pools.Load(); all != nil {
		return maps.Clone(*all)
	}
	return map[*cluster.Server]*Pool{}
}

// All are the pools there are: all that were asked for before are made.
func (ps *Pools) All() iter.Seq2[*cluster.Server, *Pool] {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if all := ps.pools.Load(); all != nil {
		return maps.All(*all)
	}
	return maps.All(map[*cluster.Server]*Pool{})
}

// Retire gives up the pools of servers that are not of the cluster any more.
func (ps *Pools) Retire(t *cluster.Topology) {
	var gone []*Pool
	ps.mu.Lock()
	next := ps.copyLocked()
	for s, pl := range next {
		if !t.Has(s) {
			gone = append(gone, pl)
			delete(next, s)
		}
	}
	if len(gone) > 0 {
		ps.pools.Store(&next)
	}
	ps.mu.Unlock()
	for _, pl := range gone {
		pl.Retire()
	}
}

// Close closes all pools, and those asked for later.
func (ps *Pools) Close() {
	ps.mu.Lock()
	ps.closed = true
	ps.mu.Unlock()
	for _, pl := range ps.All() {
		pl.Close()
	}
}
