package proxy

import (
	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// enter counts a session in, unless a limit is reached, and finds what it shares. What is in force
// then counts, not what was when its login began.
func (s *Server) enter(as auth.Identity, database string) (*upstream.Pools, error) {
	var cfg *config.Config
	up, d, err := s.upstream.Enter(upstream.Key{User: as.User, Database: database}, func() (config.Effective, backend.Credentials, error) {
		cfg = &s.terms.Load().cfg
		eff, ok := cfg.Resolve(as.User, database)
		if !ok {
			return eff, backend.Credentials{}, noDatabase(database)
		}
		return eff, credentials(as, eff), nil
	})
	if err != nil {
		return nil, err
	}
	n, u, eff := int(s.metrics.ClientEntered()), s.countUser(up.Key.User, 1), up.Terms()
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

// noDatabase is what PostgreSQL says of a database that is not there.
func noDatabase(name string) error {
	return wire.Fatalf("3D000", "database \"%s\" does not exist", name)
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
