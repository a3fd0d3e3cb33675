// Package slots is how the pools to one server, and the proxy itself, share the connections
// that the server lets in: in all, of each database, of each of its roles, and of each of the
// proxy's users. What the configuration bounds is not tried; of the rest a server says itself
// that there is no more (package pool).
package slots

import (
	"context"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
)

// Server is what there is to share of one server. Safe for concurrent use.
type Server struct {
	all    *pool.Limit
	config config.Server
	pool   config.Pool

	mu sync.Mutex // protects of
	of map[key]*pool.Limit
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

// New makes the slots of a server.
func New(c config.Server, p config.Pool) *Server {
	return &Server{all: pool.NewLimit(c.Bound(p), p.Reserve.Connections), config: c, pool: p, of: map[key]*pool.Limit{}}
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

// Share gives the options of a pool of a user what bounds it.
func (s *Server) Share(o *pool.Options, name string, eff config.Effective) {
	ofDatabase := s.limit(key{database, eff.Database}, eff.DatabaseConnections)
	ofRole := s.limit(key{role, eff.ServerUser}, 0)
	o.Limits = []*pool.Limit{s.all, ofDatabase, ofRole}
	if eff.UserConnections > 0 {
		o.Limits = append(o.Limits, s.limit(key{user, name}, eff.UserConnections))
	}
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
}

func (s *Server) limit(k key, most int) *pool.Limit {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.of[k]
	if l == nil {
		l = pool.NewLimit(most, 0)
		s.of[k] = l
	}
	return l
}

// Forget drops what bounds no pool any more. No pool may be made meanwhile.
func (s *Server) Forget() {
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

// query asks how many sessions a server lets in, and how many of these are for superusers, or
// for roles with pg_use_reserved_connections.
const query = `SELECT name, setting FROM pg_catalog.pg_settings
 WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')`

// Compare asks over b how many sessions of ordinary roles the server lets in, and tells the
// log whether pools may want more.
func (s *Server) Compare(ctx context.Context, b *backend.Backend, log *zap.Logger) {
	free, reserved := 0, 0
	err := b.Query(ctx, query, func(v [][]byte) error {
		n, err := strconv.Atoi(string(v[1]))
		if string(v[0]) == "max_connections" {
			free += n
		} else {
			free, reserved = free-n, reserved+n
		}
		return err
	})
	fields := []zap.Field{zap.String("server", s.config.Address), zap.Int("slots", free), zap.Int("reserved", reserved)}
	if err != nil || free <= 0 {
		log.Debug("it is not known how many connections a server lets in", append(fields, zap.Error(err))...)
		return
	}
	words, fits := s.pool.Demand(s.config, free)
	if fits {
		log.Info("connections: "+words, fields...)
	} else {
		log.Warn("connections: "+words, fields...)
	}
}
