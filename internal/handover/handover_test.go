package handover

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is one process of a test, all of which are this one.
type member struct {
	*Process
	listeners []net.Listener
	beside    atomic.Bool
	retired   atomic.Bool
	knows     string
	met       atomic.Int64
}

func open(t *testing.T, path, knows string, listeners ...net.Listener) *member {
	t.Helper()
	m := &member{listeners: listeners, knows: knows}
	p, err := Open(Options{
		Path: path, Listeners: func() []net.Listener { return m.listeners },
		Beside: m.beside.Store, Retire: func(int) { m.retired.Store(true) },
		Cancel: func(_ context.Context, request []byte) bool {
			if string(request) != m.knows {
				return false
			}
			m.met.Add(1)
			return true
		},
	})
	require.NoError(t, err)
	m.Process = p
	t.Cleanup(p.Close)
	return m
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestTakeOver: one process at a time gets the listeners of the one that serves, which goes on if
// nothing comes of it.
func TestTakeOver(t *testing.T) {
	ctx, path := bounded(t), filepath.Join(t.TempDir(), "up")
	none, err := Find(ctx, path)
	require.NoError(t, err)
	require.Nil(t, none)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	require.NoError(t, err)
	defer u.Close()
	old := open(t, path, "", l, u)
	_, err = Find(ctx, path)
	require.ErrorIs(t, err, ErrBusy, "it has not begun to serve")
	old.Serve()

	for _, retires := range []bool{false, true} {
		before, err := Find(ctx, path)
		require.NoError(t, err)
		require.Equal(t, os.Getpid(), before.PID)
		require.Len(t, before.Listeners, 2)
		require.Equal(t, l.Addr(), before.Listeners[0].Addr())
		require.Equal(t, u.Addr(), before.Listeners[1].Addr())
		_, err = Find(ctx, path)
		require.ErrorIs(t, err, ErrBusy)
		if retires {
			require.NoError(t, before.Retire(ctx))
			_ = l.Close() // who comes now is accepted by the other
			conn, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			accepted, err := before.Listeners[0].Accept()
			require.NoError(t, err)
			_, _ = conn.Close(), accepted.Close()
		}
		before.Leave()
		for _, l := range before.Listeners {
			_ = l.Close()
		}
		require.Equal(t, retires, old.retired.Load())
		require.Eventually(t, func() bool { // it notices that nobody takes over any more
			defer old.successor.Unlock()
			old.successor.Lock()
			return true
		}, 10*time.Second, time.Millisecond)
	}
	none, err = Find(ctx, path)
	require.NoError(t, err)
	require.Nil(t, none, "it has retired")
}

// TestCancel: a request goes to the one process that knows its key.
func TestCancel(t *testing.T) {
	ctx, path := bounded(t), filepath.Join(t.TempDir(), "up")
	a, b, c := open(t, path, "1 a"), open(t, path, "2 b"), open(t, path, "3 c")
	require.True(t, a.Process.Cancel(ctx, []byte("2 b")))
	require.True(t, a.Process.Cancel(ctx, []byte("3 c")))
	require.True(t, c.Process.Cancel(ctx, []byte("1 a")))
	require.False(t, c.Process.Cancel(ctx, []byte("3 c")), "its own it knows itself")
	require.False(t, b.Process.Cancel(ctx, []byte("4 d")))
	require.False(t, b.Process.Cancel(ctx, make([]byte, maxRequest+1)))
	require.Equal(t, []int64{1, 1, 1}, []int64{a.met.Load(), b.met.Load(), c.met.Load()})
}

// TestBeside: processes know of each other before they serve, and of each other's end.
func TestBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "up")
	require.NoError(t, os.WriteFile(path+".log", nil, 0o600)) // not one of them
	// What a killed process leaves.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + ".0123abcd", Net: "unix"})
	require.NoError(t, err)
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	a := open(t, path, "")
	require.False(t, a.beside.Load())
	b := open(t, path, "")
	require.True(t, a.beside.Load())
	require.True(t, b.beside.Load())
	b.Close()
	require.Eventually(t, func() bool { return !a.beside.Load() }, 20*time.Second, 10*time.Millisecond)
	left, err := filepath.Glob(path + ".*")
	require.NoError(t, err)
	slices.Sort(left)
	require.Len(t, left, 2, "of a, and what is none: %v", left)
}
