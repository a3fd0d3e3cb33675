package tail

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connected is one end of a TCP connection as the proxy has it, and the other.
func connected(t *testing.T) (conn *wire.Conn, peer *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err := l.Accept()
	require.NoError(t, err)
	conn = wire.NewConn(near, wire.SmallBuffer)
	t.Cleanup(func() { _ = conn.Close(); conn.Free(); _ = far.Close() })
	return conn, far.(*net.TCPConn)
}

// feed is one of a message of which the head has been read, between a client and a server.
func feed(t *testing.T, size int) (f *Feed, client, server *net.TCPConn) {
	t.Helper()
	f = &Feed{Head: []byte("head"), Rest: size, Behind: []byte("behind")}
	f.From, client = connected(t)
	f.To, server = connected(t)
	return f, client, server
}

// said relays what the server says until its connection ends or is woken.
func said(f *Feed, into *bytes.Buffer) func() error {
	return func() error {
		for {
			into.Write(f.To.Buffered())
			f.To.Discard(len(f.To.Buffered()))
			if err := f.To.Fill(); err != nil {
				return err
			}
		}
	}
}

func TestAllOfItPasses(t *testing.T) {
	f, client, server := feed(t, 10<<20)
	content := bytes.Repeat([]byte("0123456789abcde\n"), f.Rest/16)
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(append(content, "next"...))
		sent <- err
	}()
	got := make(chan []byte, 1)
	go func() {
		_, _ = server.Write([]byte("a notice"))
		all := make([]byte, len("head")+len(content)+len("behind"))
		_, _ = io.ReadFull(server, all)
		got <- all
	}()
	var relayed bytes.Buffer
	require.NoError(t, f.Run(said(f, &relayed)))
	require.True(t, bytes.Equal(append(append([]byte("head"), content...), "behind"...), <-got))
	require.NoError(t, <-sent)
	require.Zero(t, f.Rest)
	next, err := f.From.Need(4)
	require.NoError(t, err, "no deadline is left")
	require.Equal(t, "next", string(next))
	if relayed.Len() == 0 { // it came late
		_, err = f.To.Need(len("a notice"))
		require.NoError(t, err, "no deadline is left")
		relayed.Write(f.To.Buffered())
	}
	require.Equal(t, "a notice", relayed.String())
}

// A server that has answered before it had all gets the rest.
func TestAnAnswerComesEarly(t *testing.T) {
	f, client, server := feed(t, 1<<20)
	go func() { _, _ = client.Write(make([]byte, 1<<20)) }()
	all := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, server)
		all <- n
	}()
	require.NoError(t, f.Run(func() error { return nil }))
	require.Zero(t, f.Rest)
	require.NoError(t, f.To.Close())
	require.EqualValues(t, len("head")+1<<20+len("behind"), <-all)
}

// A client that goes leaves the server with a part, and without its connection.
func TestTheClientGoes(t *testing.T) {
	f, client, server := feed(t, 1<<20)
	_, err := client.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, client.Close())
	var relayed bytes.Buffer
	err = f.Run(said(f, &relayed))
	var gone *interrupt.ClientGone
	require.ErrorAs(t, err, &gone)
	n, _ := io.Copy(io.Discard, server)
	require.EqualValues(t, len("head")+1000, n)
	require.Equal(t, 1<<20-1000, f.Rest)
}

// A server that ends the connection ends the wait for the client.
func TestTheServerEnds(t *testing.T) {
	f, client, server := feed(t, 1<<20)
	_, err := client.Write(make([]byte, 1000))
	require.NoError(t, err)
	go func() {
		_, _ = io.ReadFull(server, make([]byte, len("head")+1000))
		_ = server.Close()
	}()
	var relayed bytes.Buffer
	err = f.Run(said(f, &relayed))
	require.ErrorIs(t, err, io.EOF)
	require.ErrorIs(t, err, ErrStopped)
	go func() { _, _ = client.Write(append(make([]byte, 1<<20-1000), "next"...)) }()
	require.NoError(t, Drop(f.From, f.Rest))
	next, err := f.From.Need(4)
	require.NoError(t, err)
	require.Equal(t, "next", string(next))
}

func TestWritingFails(t *testing.T) {
	f, client, _ := feed(t, 1<<20)
	_, err := client.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, f.To.Close())
	var relayed bytes.Buffer
	require.ErrorIs(t, f.Run(said(f, &relayed)), upstream.ErrServerLost)
}

func TestTheClientIsSilent(t *testing.T) {
	f, _, _ := feed(t, 1000)
	f.Silence = 50 * time.Millisecond
	began := time.Now()
	var relayed bytes.Buffer
	require.ErrorIs(t, f.Run(said(f, &relayed)), ErrSilent)
	require.GreaterOrEqual(t, time.Since(began), f.Silence)
}

func TestTheSessionEnds(t *testing.T) {
	f, client, server := feed(t, 1000)
	_, err := client.Write(make([]byte, 500))
	require.NoError(t, err)
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		_, _ = io.ReadFull(server, make([]byte, len("head")+500))
		f.From.Wake()
	}()
	var relayed bytes.Buffer
	require.ErrorIs(t, f.Run(said(f, &relayed)), ErrStopped)
	<-woken
}
