package proxy

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/client"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// member is a session that is registered: cancel requests find it, and the end of the
// service.
type member struct {
	client *client.Client
	up     *upstream.Pools

	// What a client must show to cancel its statement.
	pid    uint32
	secret []byte
}

// register gives a session its number and secret.
func (s *Server) register(c *client.Client, up *upstream.Pools, secretSize int) (*member, error) {
	m := &member{client: c, up: up, secret: make([]byte, secretSize)}
	if _, err := rand.Read(m.secret); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, err
		}
		m.pid = binary.BigEndian.Uint32(b[:]) & 0x7fffffff
		if _, taken := s.members[m.pid]; m.pid != 0 && !taken {
			s.members[m.pid] = m
			return m, nil
		}
	}
}

func (s *Server) unregister(m *member) {
	s.mu.Lock()
	delete(s.members, m.pid)
	s.mu.Unlock()
}

// appendMembers lists all sessions there are.
func (s *Server) appendMembers(to []*member) []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		to = append(to, m)
	}
	return to
}

// find returns the session that a cancel request is for; nil if its key is wrong.
func (s *Server) find(pid uint32, secret []byte) *member {
	s.mu.Lock()
	m := s.members[pid]
	s.mu.Unlock()
	if m == nil || subtle.ConstantTimeCompare(m.secret, secret) != 1 {
		return nil
	}
	return m
}

// enter counts a session in, unless a limit is reached, and finds what it shares.
func (s *Server) enter(key upstream.Key, eff config.Effective, cred backend.Credentials) (*upstream.Pools, error) {
	n, limit := s.metrics.ClientEntered(), s.terms.Load().cfg.MaxClients
	up, d := s.upstream.Enter(key, eff, cred)
	u := s.countUser(up.Key.User, 1)
	over := ""
	switch {
	case limit > 0 && n > int64(limit):
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
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.clients[user] + more
	if s.clients[user] = n; n == 0 {
		delete(s.clients, user)
	}
	return n
}

// closeHeld closes the connections to a server that sessions hold: what runs on them
// fails, and so does what comes next in their transactions. The pools are told before,
// so that none is used again.
func (s *Server) closeHeld(server *cluster.Server) (n int) {
	var conns []*wire.Conn
	s.mu.Lock()
	for _, m := range s.members {
		if conn := m.client.Interrupt().HeldOn(server); conn != nil {
			conns = append(conns, conn)
		}
	}
	s.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
	return len(conns)
}
