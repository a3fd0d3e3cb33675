// Package sockets is where listeners come from: inherited, from systemd or from the
// process before, or opened here. An inherited one is used for the address that it is
// bound to, so that the configuration alone says what is listened on.
package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Set is the listeners of one process. Safe for concurrent use.
type Set struct {
	config net.ListenConfig

	mu        sync.Mutex // protects the fields below
	inherited []net.Listener
	used      []net.Listener
}

// New makes a Set that opens sockets of its own; none is inherited yet.
func New() *Set { return &Set{} }

// Share has the sockets that are opened from now on share their addresses with those of
// other processes that do the same (SO_REUSEPORT).
// https://www.man7.org/linux/man-pages/man7/socket.7.html
func (s *Set) Share() {
	s.config.Control = func(network, _ string, c syscall.RawConn) error {
		if strings.HasPrefix(network, "unix") {
			return nil
		}
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
			return e
		}
		return err
	}
}

// Inherit offers listeners for addresses that are listened on later. Of two for one address the
// first counts.
func (s *Set) Inherit(listeners ...net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited = append(s.inherited, listeners...)
}

// Listen does what net.Listen does, with an inherited listener if there is one. A Unix-domain
// socket can be connected to by everybody, as PostgreSQL's can; a file in its place where nobody answers
// is left over, and replaced.
func (s *Set) Listen(network, target string) (net.Listener, error) {
	if l := s.take(network, target); l != nil {
		return l, nil
	}
	if network == "unix" {
		removeLeftOver(target)
	}
	l, err := s.config.Listen(context.Background(), network, target)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w; another process listens there", err)
	}
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if err := os.Chmod(filepath.Clean(target), 0o777); err != nil {
			_ = l.Close()
			return nil, err
		}
	}
	s.mu.Lock()
	s.used = append(s.used, l)
	s.mu.Unlock()
	return l, nil
}

func removeLeftOver(path string) {
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
	} else if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path)
	}
}

// take returns the inherited listener of an address, nil if there is none.
func (s *Set) take(network, target string) net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.inherited {
		if Bound(l.Addr(), network, target) {
			s.inherited = append(s.inherited[:i:i], s.inherited[i+1:]...)
			s.used = append(s.used, l)
			return l
		}
	}
	return nil
}

// Bound reports whether a listener on an address is one on a target.
func Bound(at net.Addr, network, target string) bool {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || network == "unix" {
		return at.Network() == network && at.String() == target
	}
	want, err := net.ResolveTCPAddr(network, target)
	if err != nil || want.Port != tcp.Port {
		return false
	}
	return want.IP == nil && tcp.IP.IsUnspecified() || want.IP.Equal(tcp.IP)
}

// CloseRest closes the inherited listeners that are not used.
func (s *Set) CloseRest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.inherited {
		_ = l.Close()
	}
	s.inherited = nil
}

// Used are the listeners in use, for a process to inherit.
func (s *Set) Used() []net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]net.Listener(nil), s.used...)
}

// HandOver says that another process goes on with the listeners: the file of a Unix-domain
// socket stays when it is closed here.
func (s *Set) HandOver() {
	for _, l := range s.Used() {
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
	}
}

// mostPending is how many connections Pending takes at most: more than most kernels let wait.
const mostPending = 1 << 14

// Pending takes the connections that the kernel has accepted for a listener and that nobody
// has taken yet. They would be reset if it were closed.
func Pending(l net.Listener) (conns []net.Conn) {
	s, ok := l.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) {
		for len(conns) < mostPending {
			accepted, _, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
				continue
			}
			if err != nil {
				return
			}
			f := os.NewFile(uintptr(accepted), "accepted")
			if conn, err := net.FileConn(f); err == nil {
				conns = append(conns, conn)
			}
			_ = f.Close()
		}
	})
	return conns
}
