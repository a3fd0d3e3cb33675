// Package slots is how the pools to one server, and the proxy itself, share the connections
// that the server lets in: in all, of each database, of each of its roles, and of each of the
// proxy's users. What the configuration bounds is not tried; of the rest a server says itself
// that there is no more (package pool).
package slots

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Servers are the slots of each server of a cluster, while servers come and go. Safe for
// concurrent use.
type Servers struct {
	mu     sync.Mutex // protects the fields below
	listed []config.Server
	pool   config.Pool
	all    map[*cluster.Server]*Server
}

// NewServers makes what is to be known of the servers of a cluster. Of those that are found, not
// listed, p bounds the connections.
func NewServers(listed []config.Server, p config.Pool) *Servers {
	return &Servers{listed: listed, pool: p, all: map[*cluster.Server]*Server{}}
}

// Of is what there is of one server.
func (ss *Servers) Of(server *cluster.Server) *Server {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s := ss.all[server]; s != nil {
		return s
	}
	s := newServer(ss.configOfLocked(server), ss.pool)
	ss.all[server] = s
	return s
}

func (ss *Servers) configOfLocked(server *cluster.Server) config.Server {
	if i := slices.IndexFunc(ss.listed, func(l config.Server) bool { return l.Address == server.Address }); i >= 0 {
		return ss.listed[i]
	}
	return config.Server{Address: server.Address}
}

// Configure has the servers' bounds be others.
func (ss *Servers) Configure(listed []config.Server, p config.Pool) {
	now := map[*Server]config.Server{}
	ss.mu.Lock()
	ss.listed, ss.pool = listed, p
	for server, s := range ss.all {
		now[s] = ss.configOfLocked(server)
	}
	ss.mu.Unlock()
	for s, c := range now {
		s.configure(c, p)
	}
}

// Forget drops what there is of a server that is none of the cluster's any more.
func (ss *Servers) Forget(server *cluster.Server) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.all, server)
}

// ForgetUnused drops what bounds no pool any more.
func (ss *Servers) ForgetUnused() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.all {
		s.forgetUnused()
	}
}

// Server is what there is to share of one server. Safe for concurrent use.
type Server struct {
	all *pool.Limit

	mu     sync.Mutex // protects the fields below
	config config.Server
	pool   config.Pool
	of     map[key]*pool.Limit
}

// key is whose connections are bounded.
type key struct {
	kind kind
	name string
}

type kind uint8

const (
	database kind = iota // of the server
	role                 // of the server, whatever user of the proxy it stands for
	user                 // of the proxy
)

func newServer(c config.Server, p config.Pool) *Server {
	return &Server{all: pool.NewLimit(c.Bound(p), p.Reserve.Connections), config: c, pool: p, of: map[key]*pool.Limit{}}
}

func (s *Server) configure(c config.Server, p config.Pool) {
	s.mu.Lock()
	s.config, s.pool = c, p
	s.mu.Unlock()
	s.all.Set(c.Bound(p), p.Reserve.Connections)
}

// Follow has what bounds the pools of a user follow other terms, and so what bounds those of
// the database, if its bound is among them.
func (s *Server) Follow(name string, eff config.Effective, ofDatabase bool) {
	s.mu.Lock()
	of := map[*pool.Limit]int{s.limitLocked(key{user, name}, eff.UserConnections): eff.UserConnections}
	if ofDatabase {
		of[s.limitLocked(key{database, eff.Database}, eff.DatabaseConnections)] = eff.DatabaseConnections
	}
	s.mu.Unlock()
	for l, most := range of {
		l.Set(most, 0)
	}
}

// Own opens a connection of the proxy's own, for which pools make way.
func (s *Server) Own(ctx context.Context, dial func(context.Context) (*backend.Backend, error)) (b *backend.Backend, err error) {
	err = s.all.Claim(ctx, func() (err error) {
		b, err = dial(ctx)
		return err
	}, func(err error) bool { return backend.FullBy(err) == backend.FullServer })
	if err != nil {
		return nil, err
	}
	backend.OnClose(b, s.all.Give)
	return b, nil
}

// NewPool makes a pool of a user, bounded by what it shares with others.
func (s *Server) NewPool(o pool.Options, name string, eff config.Effective) *pool.Pool {
	s.mu.Lock() // until the limits know the pool, and are kept
	defer s.mu.Unlock()
	ofDatabase := s.limitLocked(key{database, eff.Database}, eff.DatabaseConnections)
	ofRole := s.limitLocked(key{role, eff.ServerUser}, 0)
	o.Limits = []*pool.Limit{s.all, ofDatabase, ofRole, s.limitLocked(key{user, name}, eff.UserConnections)}
	o.Privileged = eff.Privileged
	o.Full = func(err error) *pool.Limit {
		switch backend.FullBy(err) {
		case backend.FullServer:
			return s.all
		case backend.FullDatabase:
			return ofDatabase
		case backend.FullRole:
			return ofRole
		case backend.FullNot:
		}
		return nil
	}
	return pool.New(o)
}

func (s *Server) limitLocked(k key, most int) *pool.Limit {
	l := s.of[k]
	if l == nil {
		l = pool.NewLimit(most, 0)
		s.of[k] = l
	}
	return l
}

func (s *Server) forgetUnused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, l := range s.of {
		if !l.Used() {
			delete(s.of, k)
		}
	}
}

// State returns how many connections there are and may be.
func (s *Server) State() pool.Slots { return s.all.Slots() }

// Compare asks over b how many sessions of ordinary roles the server lets in, and tells the
// log whether pools may want more.
func (s *Server) Compare(ctx context.Context, b *backend.Backend, log *zap.Logger) {
	free, reserved, err := backend.AskSlots(ctx, b)
	s.mu.Lock()
	c, p := s.config, s.pool
	s.mu.Unlock()
	fields := []zap.Field{zap.String("server", c.Address), zap.Int("slots", free), zap.Int("reserved", reserved)}
	if err != nil || free <= 0 {
		log.Debug("it is not known how many connections a server lets in", append(fields, zap.Error(err))...)
		return
	}
	words, fits := p.Demand(c, free)
	if fits {
		log.Info("connections: "+words, fields...)
	} else {
		log.Warn("connections: "+words, fields...)
	}
}
