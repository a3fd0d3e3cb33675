package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
)

// Addrs are the addresses listened on.
func (s *Server) Addrs() (addrs []net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// listenOn opens a TCP address, or a socket named as PostgreSQL names its own in a
// directory. A socket file nobody answers at is left over, and replaced.
func (s *Server) listenOn(address string) (net.Listener, error) {
	network, target, err := config.SplitAddress(address, config.ListenPort)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if conn, err := net.Dial(network, target); err == nil {
			_ = conn.Close()
		} else if info, err := os.Lstat(target); err == nil && info.Mode()&os.ModeSocket != 0 {
			_ = os.Remove(target)
		}
	}
	l, err := s.network.Listen(network, target)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	if network == "unix" {
		if err := os.Chmod(filepath.Clean(target), 0o777); err != nil {
			_ = l.Close()
			return nil, err
		}
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

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// remoteHost is the client's address without the port, for limits and logs.
func remoteHost(conn net.Conn) string {
	a := conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(a); err == nil {
		return host
	}
	return strings.TrimSpace(a)
}
