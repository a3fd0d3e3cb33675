package proxy

import (
	"sync/atomic"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// enter counts a session in, unless a limit is reached, and finds what it shares.
func (s *Server) enter(key upstream.Key, eff config.Effective, cred backend.Credentials) (*upstream.Pools, error) {
	n := s.metrics.ClientEntered()
	up, d := s.upstream.Enter(key, eff, cred)
	u := int64(0)
	if eff.UserClients > 0 {
		u = s.clientsOf(up.Key.User).Add(1)
	}
	over := ""
	most := s.cfg.MaxClients
	if !eff.Privileged {
		most -= s.cfg.Pool.Reserve.Clients
	}
	switch {
	case s.cfg.MaxClients > 0 && n > int64(most):
		over = "max_clients"
	case eff.DatabaseClients > 0 && d > int64(eff.DatabaseClients):
		over = "max_clients of database \"" + up.Key.Database + "\""
	case eff.UserClients > 0 && u > int64(eff.UserClients):
		over = "max_clients of user \"" + up.Key.User + "\""
	default:
		return up, nil
	}
	s.leave(up)
	return nil, wire.Fatalf("53300", "sorry, too many clients already: %s is reached", over)
}

// leave counts a session out.
func (s *Server) leave(up *upstream.Pools) {
	s.metrics.ClientLeft()
	up.Leave()
	if up.Config.UserClients > 0 {
		s.clientsOf(up.Key.User).Add(-1)
	}
}

func (s *Server) clientsOf(user string) *atomic.Int64 {
	if n, ok := s.userClients.Load(user); ok {
		return n.(*atomic.Int64)
	}
	n, _ := s.userClients.LoadOrStore(user, new(atomic.Int64))
	return n.(*atomic.Int64)
}
