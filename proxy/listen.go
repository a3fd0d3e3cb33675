package proxy

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/sockets"
)

// Addrs are the addresses listened on.
func (s *Server) Addrs() (addrs []net.Addr) {
	s.listeners.Lock()
	defer s.listeners.Unlock()
	for _, l := range s.listeners.all {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// listenOn opens a TCP address, or a socket named as PostgreSQL names its own in a directory.
func (s *Server) listenOn(address string) (net.Listener, error) {
	network, target, err := config.SplitAddress(address, config.ListenPort)
	if err != nil {
		return nil, err
	}
	l, err := s.network.Listen(network, target)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

func (s *Server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: clients wait in the backlog.
			s.log.Warn("a client could not be accepted", zap.Error(err))
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-s.ctx.Done():
				return
			}
		}
		s.sessions.Go(func() { s.serveConn(conn) })
	}
}

// Retire ends accepting. Clients that are there, and those that the kernel has accepted by then, whom
// it would cut off, are served on; all of them are among the sessions when it returns.
func (s *Server) Retire() {
	s.closeListeners()
	s.accepting.Wait()
}

func (s *Server) closeListeners() {
	s.listeners.Lock()
	defer s.listeners.Unlock()
	for _, l := range s.listeners.all {
		for _, conn := range sockets.Pending(l) {
			s.sessions.Go(func() { s.serveConn(conn) })
		}
		_ = l.Close()
	}
	s.listeners.all = nil
}

// remoteHost is the client's address without the port, for limits and logs.
func remoteHost(conn net.Conn) string {
	a := conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(a); err == nil {
		return host
	}
	return strings.TrimSpace(a)
}
