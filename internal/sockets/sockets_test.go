package sockets

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBound(t *testing.T) {
	tcp := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	for _, c := range []struct {
		at              net.Addr
		network, target string
		is              bool
	}{
		{tcp("127.0.0.1", 6432), "tcp", "127.0.0.1:6432", true},
		{tcp("127.0.0.1", 6432), "tcp", "localhost:6432", true},
		{tcp("127.0.0.1", 6432), "tcp", "127.0.0.1:6433", false},
		{tcp("127.0.0.1", 6432), "tcp", "127.0.0.2:6432", false},
		{tcp("127.0.0.1", 6432), "tcp", ":6432", false},
		{tcp("::", 6432), "tcp", ":6432", true},
		{tcp("0.0.0.0", 6432), "tcp", ":6432", true},
		{tcp("0.0.0.0", 6432), "tcp", "0.0.0.0:6432", true},
		{tcp("::", 6432), "tcp", "0.0.0.0:6432", false},
		{tcp("127.0.0.1", 6432), "unix", "127.0.0.1:6432", false},
		{&net.UnixAddr{Name: "/run/s", Net: "unix"}, "unix", "/run/s", true},
		{&net.UnixAddr{Name: "/run/s", Net: "unix"}, "unix", "/run/t", false},
		{&net.UnixAddr{Name: "/run/s", Net: "unix"}, "tcp", "/run/s", false},
	} {
		require.Equal(t, c.is, Bound(c.at, c.network, c.target), "%s for %s", c.at, c.target)
	}
}

// TestInherit: what is inherited is used for its address, the first of two, and the rest closed.
func TestInherit(t *testing.T) {
	s, path := New(), filepath.Join(t.TempDir(), "socket")
	first, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.Inherit(first, unused)
	l, err := s.Listen("tcp", first.Addr().String())
	require.NoError(t, err)
	require.Same(t, first, l)
	_, err = s.Listen("tcp", l.Addr().String())
	require.ErrorContains(t, err, "another process listens there")
	u, err := s.Listen("unix", path)
	require.NoError(t, err)
	s.CloseRest()
	_, err = unused.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.Equal(t, []net.Listener{l, u}, s.Used())
	s.HandOver()
	_, _ = l.Close(), u.Close()
	_, err = os.Stat(path)
	require.NoError(t, err, "another process listens there")
}

// TestPending: who was accepted by the kernel is not cut off.
func TestPending(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var clients []net.Conn
	for range 5 {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		clients = append(clients, c)
	}
	pending := Pending(l)
	_ = l.Close()
	require.Len(t, pending, 5)
	for _, c := range pending {
		_, err := c.Write([]byte("hello"))
		require.NoError(t, err)
		_ = c.Close()
	}
	for _, c := range clients {
		b := make([]byte, 5)
		_, err := c.Read(b)
		require.NoError(t, err)
		require.Equal(t, "hello", string(b))
	}
}

// TestShare: two sockets on one address, if both want it.
func TestShare(t *testing.T) {
	a, b := New(), New()
	a.Share()
	b.Share()
	l, err := a.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	m, err := b.Listen("tcp", l.Addr().String())
	require.NoError(t, err)
	defer m.Close()
}
