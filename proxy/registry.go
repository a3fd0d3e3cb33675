package proxy

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync/atomic"

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
