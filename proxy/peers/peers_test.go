package peers

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer answers requests until the test ends, each after a while and with one byte.
func peer(t *testing.T, after time.Duration, answer byte, got func([]byte)) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				var head [8]byte
				if _, err := io.ReadFull(conn, head[:]); err != nil {
					return
				}
				if code := binary.BigEndian.Uint32(head[4:]); code != Code {
					t.Errorf("code %x", code)
				}
				key := make([]byte, binary.BigEndian.Uint32(head[:])-8)
				if _, err := io.ReadFull(conn, key); err != nil {
					t.Error(err)
				}
				got(key)
				select {
				case <-time.After(after):
				case <-t.Context().Done():
				}
				_, _ = conn.Write([]byte{answer})
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

// A request goes to all peers, as it came; the first that knows its key is enough.
func TestCancel(t *testing.T) {
	var asked atomic.Int32
	key := append([]byte{0, 0, 0, 7}, make([]byte, 256)...)
	note := func(got []byte) {
		asked.Add(1)
		require.Equal(t, key, got)
	}
	no, yes := peer(t, 0, Unknown, note), peer(t, 0, Met, note)
	dead := "127.0.0.1:1"
	require.False(t, New(nil, nil).Cancel(t.Context(), key))
	require.False(t, New([]string{no, dead, "no.invalid:1"}, nil).Cancel(t.Context(), key))
	require.EqualValues(t, 1, asked.Load())
	slow := peer(t, time.Minute, Met, func([]byte) {})
	began := time.Now()
	require.True(t, New([]string{slow, no, yes, dead}, nil).Cancel(t.Context(), key))
	require.Less(t, time.Since(began), timeout, "it waits for a peer that has nothing to say")
}

// However many requests come, a peer gets a few at a time, and all of them in the end.
func TestManyRequests(t *testing.T) {
	var now, peak, all atomic.Int32
	address := peer(t, 0, Unknown, func([]byte) {
		n := now.Add(1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		all.Add(1)
	})
	p := New([]string{address}, nil)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { p.Cancel(t.Context(), binary.BigEndian.AppendUint64(nil, uint64(i))) })
	}
	wg.Wait()
	require.EqualValues(t, 100, all.Load())
	// One may be done with as its answer is on its way.
	require.LessOrEqual(t, peak.Load(), int32(2*most))
}

// A request ends with its client's patience.
func TestCancelEnds(t *testing.T) {
	p := New([]string{peer(t, time.Minute, Met, func([]byte) {})}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.False(t, p.Cancel(ctx, []byte("12345678")))
}
