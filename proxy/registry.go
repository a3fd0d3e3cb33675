package proxy

import (
	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// enter counts a session in, unless a limit is reached, and finds what it shares.
func (s *Server) enter(key upstream.Key, eff config.Effective, cred backend.Credentials) (*upstream.Pools, error) {
	n, cfg := int(s.metrics.ClientEntered()), &s.terms.Load().cfg
	up, d := s.upstream.Enter(key, eff, cred)
	u := s.countUser(up.Key.User, 1)
	over := ""
	most := cfg.MaxClients
	if !eff.Privileged {
		most -= cfg.Pool.Reserve.Clients
	}
	switch {
	case cfg.MaxClients > 0 && n > most:
		over = "max_clients"
	case eff.DatabaseClients > 0 && d > int64(eff.DatabaseClients):
		over = "max_clients of database \"" + up.Key.Database + "\""
	case eff.UserClients > 0 && u > eff.UserClients:
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
	s.countUser(up.Key.User, -1)
}

// countUser counts a user's sessions, by more than there were, and returns how many there are.
func (s *Server) countUser(user string, more int) int {
	s.userClients.Lock()
	defer s.userClients.Unlock()
	n := s.userClients.of[user] + more
	if s.userClients.of[user] = n; n == 0 {
		delete(s.userClients.of, user)
	}
	return n
}
