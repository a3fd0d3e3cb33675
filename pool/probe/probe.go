// Package probe asks servers what package cluster decides by: a Prober asks for role,
// timeline and identity, a Sampler for LSNs. Both keep a connection to each server. They
// send SQL of their own and parse none.
package probe

import (
	"context"
	"sync"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Open opens a connection to a server, logged in to a database of its own choice. Its
// error is cluster.ErrNoLogin as long as nobody's login is known. It must honour ctx and
// may be called concurrently.
type Open func(ctx context.Context, s *cluster.Server) (*backend.Backend, error)

// call calls o. A standby takes no question in a transaction that is SERIALIZABLE by default.
func (o Open) call(ctx context.Context, s *cluster.Server) (*backend.Backend, error) {
	b, err := o(ctx, s)
	if err != nil {
		return nil, err
	}
	if _, err = b.RoundTrip(ctx, wire.AppendQuery(nil, "SET default_transaction_isolation = 'read committed'")); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// keeper keeps one connection to each server, for whoever asks next. Safe for concurrent
// use: a connection is taken out while it is used.
type keeper[C interface{ Close() }] struct {
	mu   sync.Mutex // protects the fields below
	kept map[*cluster.Server]C
	era  uint64 // calls of Close
}

// take returns the connection kept to a server, if there is one, and keeps it no more. era is
// to be given to keep, with that connection or one opened in place of it.
func (k *keeper[C]) take(s *cluster.Server) (c C, era uint64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok = k.kept[s]
	delete(k.kept, s)
	return c, k.era, ok
}

// keep keeps a connection, or closes it if all were closed since its era.
func (k *keeper[C]) keep(s *cluster.Server, c C, era uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if era != k.era {
		c.Close()
		return
	}
	if k.kept == nil {
		k.kept = map[*cluster.Server]C{}
	}
	k.kept[s] = c
}

// Forget closes the connection that is kept to a server.
func (k *keeper[C]) Forget(s *cluster.Server) {
	if c, _, ok := k.take(s); ok {
		c.Close()
	}
}

// Close closes the connections that are not in use, and has those in use closed after it.
func (k *keeper[C]) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.era++
	for _, c := range k.kept {
		c.Close()
	}
	clear(k.kept)
}
