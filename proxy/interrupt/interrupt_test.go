package interrupt

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is an Interrupt whose client is connected by TCP.
func pair(t *testing.T) (i *Interrupt, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	conn, err := l.Accept()
	require.NoError(t, err)
	front := wire.NewConn(conn, wire.SmallBuffer)
	t.Cleanup(func() { _ = client.Close(); _ = front.Close(); front.Free() })
	return New(t.Context(), front), client
}

// TestEnd: what runs goes on, and nothing is sent from then on.
func TestEnd(t *testing.T) {
	i, _ := pair(t)
	require.False(t, i.End())
	i.Begin()
	require.ErrorIs(t, i.Run(&backend.Backend{}, nil), ErrEnded)
	i, _ = pair(t)
	i.Begin()
	require.NoError(t, i.Run(&backend.Backend{}, nil))
	require.True(t, i.End())
	i.Done(false)
	require.False(t, i.End())
	i.Begin()
	require.ErrorIs(t, i.Run(&backend.Backend{}, nil), ErrEnded)
}

// A cancel request counts for the batch that is under way, and for no other.
func TestCancelBeforeSending(t *testing.T) {
	i, client := pair(t)
	requireCancel(t, i, false)
	i.Begin()
	require.NoError(t, i.Run(nil, nil), "a request before the batch is not its")
	i.Pause()
	requireCancel(t, i, true)
	require.ErrorIs(t, i.Run(nil, nil), ErrCanceled)
	i.Done(false)
	i.Begin()
	require.NoError(t, i.Run(nil, nil))
	require.Nil(t, i.BeginCancel(), "nothing runs on a server")
	i.Done(true)
	requireCancel(t, i, true) // for the batch that is in the session's buffer
	i.Begin()
	require.ErrorIs(t, i.Run(nil, nil), ErrCanceled)
	i.Done(false)
	_, err := client.Write([]byte("Q"))
	require.NoError(t, err)
	require.Eventually(t, i.front.Readable, time.Second, time.Millisecond)
	requireCancel(t, i, true) // for one that has arrived
	i.Begin()
	require.ErrorIs(t, i.Run(nil, nil), ErrCanceled)
	i.Done(false)
	i.Begin()
	require.NoError(t, i.Run(nil, nil))
}

// While a message is on its way to a server there is nothing to cancel.
func TestCancelWhileArriving(t *testing.T) {
	i, client := pair(t)
	i.Begin()
	require.NoError(t, i.Run(nil, nil))
	i.Arriving()
	_, err := client.Write([]byte("x"))
	require.NoError(t, err)
	require.Eventually(t, i.front.Readable, time.Second, time.Millisecond)
	requireCancel(t, i, false)
	require.NoError(t, client.Close())
	require.Nil(t, i.LookAtClient())
	require.Nil(t, i.LookAtClient())
	require.False(t, i.Vanished(), "who reads from it finds that out")
	i.Begin()
	require.NoError(t, i.Run(nil, nil))
	requireCancel(t, i, true)
}

func TestCancelEndsAWait(t *testing.T) {
	i, _ := pair(t)
	i.Begin()
	ctx := i.SlowContext()
	require.NoError(t, ctx.Err())
	requireCancel(t, i, true)
	<-ctx.Done()
	require.Equal(t, error(ErrCanceled), context.Cause(ctx))
	require.True(t, i.EndWait())
	again := i.SlowContext() // it is still canceled
	require.Error(t, again.Err())
	require.True(t, i.EndWait())
	i.Done(false)
	require.False(t, i.EndWait())
}

// A client that closes is found gone if its batch lasts from one look to the next, and
// ends its wait.
func TestAWaitEndsWithItsClient(t *testing.T) {
	i, client := pair(t)
	require.Nil(t, i.LookAtClient())
	i.Begin()
	ctx := i.SlowContext()
	require.Nil(t, i.LookAtClient())
	require.Nil(t, i.LookAtClient())
	require.False(t, i.Vanished(), "it is there")
	require.NoError(t, client.Close())
	require.Eventually(t, func() bool { i.LookAtClient(); return i.Vanished() }, 10*time.Second, time.Millisecond)
	<-ctx.Done()
	var gone *ClientGone
	require.ErrorAs(t, context.Cause(ctx), &gone)
	require.True(t, i.EndWait(), "nothing is sent any more")
}

// A look at one batch says nothing of the next.
func TestLooksAreOfOneBatch(t *testing.T) {
	i, client := pair(t)
	require.NoError(t, client.Close())
	for range 10 {
		i.Begin()
		require.Nil(t, i.LookAtClient())
		require.False(t, i.Vanished())
		i.Done(false)
	}
}

func TestHeldOn(t *testing.T) {
	i, here, there := New(t.Context(), nil), cluster.NewServer("a", 1), cluster.NewServer("b", 1)
	require.Nil(t, i.HeldOn(here))
	i.Hold(nil, here)
	require.Nil(t, i.HeldOn(there))
	i.Release()
	require.Nil(t, i.HeldOn(here))
}

// requireCancel sends a cancel request, which finds a batch or none.
func requireCancel(t *testing.T, i *Interrupt, batch bool) {
	t.Helper()
	found, err := i.Cancel(t.Context())
	require.NoError(t, err)
	require.Equal(t, batch, found != 0)
}
