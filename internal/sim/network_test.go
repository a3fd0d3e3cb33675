package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
)

// overNetwork runs f in a bubble with the two ends of a connection.
func overNetwork(t *testing.T, faults []Fault, f func(t *testing.T, n *Network, client, server *Conn)) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1, delays{least: time.Millisecond, most: 2 * time.Millisecond}, faults, func(string) {})
		defer n.Close()
		l, err := n.Listen("tcp", "10.0.0.1:5432")
		if err != nil {
			t.Fatal(err)
		}
		n.Name("db:5432", "10.0.0.1:5432")
		client, err := n.Dialer("c")(context.Background(), "tcp", "db:5432")
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		f(t, n, client.(*Conn), server.(*Conn))
	})
}

// What is written arrives in order and as a whole, however it is cut, and takes time.
func TestBytesArrive(t *testing.T) {
	overNetwork(t, nil, func(t *testing.T, _ *Network, client, server *Conn) {
		began := time.Now()
		sent := make([]byte, 3*window)
		for i := range sent {
			sent[i] = byte(i * 7)
		}
		go func() {
			if _, err := client.Write(sent); err != nil {
				t.Error(err)
			}
			_ = client.Close()
		}()
		got, err := io.ReadAll(server)
		if err != nil || string(got) != string(sent) {
			t.Errorf("%d bytes of %d, or others: %v", len(got), len(sent), err)
		}
		if d := time.Since(began); d < 3*time.Millisecond || d > time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// A writer waits while the window is full, and no longer than its deadline.
func TestWindow(t *testing.T) {
	overNetwork(t, nil, func(t *testing.T, _ *Network, client, server *Conn) {
		_ = client.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := client.Write(make([]byte, window+1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != window {
			t.Errorf("%d bytes, %v", n, err)
		}
		if _, err := io.ReadFull(server, make([]byte, window)); err != nil {
			t.Error(err)
		}
	})
}

// A connection is cut at its byte, in either direction; what arrived before can be read.
func TestCutAtByte(t *testing.T) {
	for _, back := range []bool{false, true} {
		faults := []Fault{{From: "c", To: "db:5432", Back: back, Byte: 5, Kind: Cut}}
		overNetwork(t, faults, func(t *testing.T, _ *Network, client, server *Conn) {
			from, to := client, server
			if back {
				from, to = server, client
			}
			if _, err := from.Write([]byte("1234567")); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(to)
			if string(got) != "12345" || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q, %v", got, err)
			}
			if n, err := from.Write([]byte("8")); n != 0 || !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%d written, %v", n, err)
			}
		})
	}
}

// A connection that fell silent can be left by a deadline, until the kernel gives it up.
func TestSilence(t *testing.T) {
	overNetwork(t, []Fault{{From: "c", To: "db:5432", Byte: 2, Kind: Silence}}, func(t *testing.T, _ *Network, client, server *Conn) {
		if _, err := client.Write([]byte("123")); err != nil {
			t.Fatal(err)
		}
		_ = server.SetReadDeadline(time.Now().Add(time.Second))
		got, err := io.ReadAll(server)
		if string(got) != "12" || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v", got, err)
		}
		_ = server.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := io.ReadAll(server); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

// Dialling fails as it does over a real network.
func TestDialling(t *testing.T) {
	faults := []Fault{{From: "c", To: "db:5432", Nth: 1, Kind: Refused}, {From: "c", To: "db:5432", Nth: 2, Kind: Hang}}
	overNetwork(t, faults, func(t *testing.T, n *Network, _, _ *Conn) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		dial := n.Dialer("c")
		if _, err := dial(ctx, "tcp", "db:5432"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		if _, err := dial(ctx, "tcp", "db:5432"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		var dns *net.DNSError
		if _, err := dial(context.Background(), "tcp", "nobody:5432"); !errors.As(err, &dns) {
			t.Error(err)
		}
		if _, err := dial(context.Background(), "tcp", "10.0.0.9:5432"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	})
}

// Package wire looks at such a connection as it does at a socket.
func TestWireLooks(t *testing.T) {
	overNetwork(t, nil, func(t *testing.T, n *Network, client, server *Conn) {
		c := wire.NewConn(client, wire.SmallBuffer)
		if !c.Quiet() {
			t.Error("nothing was said")
		}
		if _, err := server.Write([]byte("bye")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if c.Gone() {
			t.Error("bytes are no end")
		}
		if c.Quiet() {
			t.Error("something was said")
		}
		_ = server.Close()
		time.Sleep(time.Second)
		if !c.Gone() {
			t.Error("the end is one")
		}
		n.Reset("c")
		if err := c.Exchange([]byte("late")); !errors.Is(err, wire.ErrNotSent) {
			t.Error(err)
		}
		if b, err := c.Need(3); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}
