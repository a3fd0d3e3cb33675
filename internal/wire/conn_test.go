package wire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transports are the kinds of connection a Conn may stand on: ours and the peer's end.
var transports = map[string]func(t testing.TB) (ours, peer net.Conn){
	"tcp":  func(t testing.TB) (ours, peer net.Conn) { return connected(t, "tcp", "127.0.0.1:0") },
	"unix": func(t testing.TB) (ours, peer net.Conn) { return connected(t, "unix", filepath.Join(t.TempDir(), "s")) },
	"tls":  encrypted,
	"pipe": func(t testing.TB) (ours, peer net.Conn) {
		ours, peer = net.Pipe()
		closeBoth(t, ours, peer)
		return ours, peer
	},
}

func connected(t testing.TB, network, address string) (ours, peer net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if peer, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	closeBoth(t, ours, peer)
	return ours, peer
}

func closeBoth(t testing.TB, a, b net.Conn) {
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
}

// encrypted is a TLS connection.
func encrypted(t testing.TB) (ours, peer net.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a, b := connected(t, "tcp", "127.0.0.1:0")
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}})
	client := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := errors.Join(server.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	closeBoth(t, server, client)
	return server, client
}

// overAll runs a test over every transport and both sizes of buffer.
func overAll(t *testing.T, f func(t *testing.T, c *Conn, peer net.Conn)) {
	for name, open := range transports {
		t.Run(name, func(t *testing.T) {
			ours, peer := open(t)
			c := NewConn(ours, SmallBuffer)
			defer c.Free()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			f(t, c, peer)
		})
	}
}

// someFrames are frames of sizes about those of buffers and TLS records.
func someFrames(n int) (all []byte, sizes []int) {
	rnd := mathrand.New(mathrand.NewPCG(1, 2))
	for i := range n {
		size := []int{0, 1, 4, 100, SmallBuffer - 5, SmallBuffer - 4, 1 << 14, LargeBuffer - 5, LargeBuffer, 3 * LargeBuffer}[i%10]
		if i%3 == 0 {
			size = rnd.IntN(300)
		}
		body := bytes.Repeat([]byte{byte(i)}, size)
		all = AppendFrame(all, 'd', body)
		sizes = append(sizes, size)
	}
	return all, sizes
}

// readFrames reads frames and checks that they are the ones of someFrames.
func readFrames(t *testing.T, c *Conn, sizes []int) {
	t.Helper()
	for i, want := range sizes {
		typ, size, err := c.Header()
		if err != nil || typ != 'd' || size != want+HeaderSize {
			t.Fatalf("frame %d: type %c, size %d, %v; want d, %d", i, typ, size, err, want+HeaderSize)
		}
		frame, err := c.Frame(size)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(frame[HeaderSize:], bytes.Repeat([]byte{byte(i)}, want)) {
			t.Fatalf("frame %d has another body", i)
		}
		c.Discard(size)
	}
	if c.buf != nil {
		t.Error("a buffer is held while nothing is buffered")
	}
}

// pieces writes p in pieces of up to n bytes.
func pieces(w io.Writer, p []byte, n int) error {
	rnd := mathrand.New(mathrand.NewPCG(3, uint64(n)))
	for len(p) > 0 {
		k := min(1+rnd.IntN(n), len(p))
		if _, err := w.Write(p[:k]); err != nil {
			return err
		}
		p = p[k:]
	}
	return nil
}

func TestFraming(t *testing.T) {
	for name, piece := range map[string]int{"whole": 1 << 30, "some": 5000, "byte": 1} {
		t.Run(name, func(t *testing.T) {
			overAll(t, func(t *testing.T, c *Conn, peer net.Conn) {
				n := 200
				if piece == 1 {
					n = 4 // each byte is a packet
				}
				all, sizes := someFrames(n)
				wrote := make(chan error, 1)
				go func() { wrote <- pieces(peer, all, piece) }()
				readFrames(t, c, sizes)
				if err := <-wrote; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A last byte that comes alone, in a TLS record of its own too, is not waited behind.
func TestLastByteAlone(t *testing.T) {
	overAll(t, func(t *testing.T, c *Conn, peer net.Conn) {
		frame := AppendQuery(nil, "select 1")
		for range 3 {
			wrote := make(chan error, 1)
			go func() {
				_, err := peer.Write(frame[:len(frame)-1])
				_, err2 := peer.Write(frame[len(frame)-1:])
				wrote <- errors.Join(err, err2)
			}()
			if got, err := c.Frame(len(frame)); err != nil || !bytes.Equal(got, frame) {
				t.Fatalf("%q, %v", got, err)
			}
			c.Discard(len(frame))
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestWrite(t *testing.T) {
	overAll(t, func(t *testing.T, c *Conn, peer net.Conn) {
		all, _ := someFrames(300)
		got := make(chan []byte, 1)
		go func() {
			b := make([]byte, len(all))
			_, _ = io.ReadFull(peer, b)
			got <- b
		}()
		if n, err := c.Write(nil); n != 0 || err != nil {
			t.Errorf("nothing written: %d, %v", n, err)
		}
		if n, err := c.Write(all); n != len(all) || err != nil {
			t.Fatalf("%d of %d, %v", n, len(all), err)
		}
		if !bytes.Equal(<-got, all) {
			t.Error("the peer got something else")
		}
	})
}

// echo answers every byte with itself until the end.
func echo(peer net.Conn, wg *sync.WaitGroup) {
	defer wg.Done()
	b := make([]byte, LargeBuffer)
	for {
		n, err := peer.Read(b)
		if err != nil {
			return
		}
		if _, err := peer.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestExchange(t *testing.T) {
	overAll(t, func(t *testing.T, c *Conn, peer net.Conn) {
		var wg sync.WaitGroup
		wg.Add(1)
		go echo(peer, &wg)
		for i := range 200 {
			frame := AppendFrame(nil, 'd', bytes.Repeat([]byte{byte(i)}, i*37))
			if err := c.Exchange(frame); err != nil {
				t.Fatal(err)
			}
			got, err := c.Frame(len(frame))
			if err != nil || !bytes.Equal(got, frame) {
				t.Fatalf("exchange %d: %v", i, err)
			}
			c.Discard(len(frame))
		}
		_ = peer.Close()
		wg.Wait()
		// However it goes, it must be an error and not a wait.
		if err := c.Exchange([]byte("Sxxxx")); err == nil {
			t.Error("an exchange with nobody succeeded")
		}
	})
}

// An exchange larger than the socket takes at once goes on when the peer reads.
func TestExchangeLarge(t *testing.T) {
	overAll(t, func(t *testing.T, c *Conn, peer net.Conn) {
		request := bytes.Repeat([]byte("x"), 8<<20)
		done := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.Discard, peer, int64(len(request)))
			if err == nil {
				_, err = peer.Write(AppendReady(nil, TxIdle))
			}
			done <- err
		}()
		if err := c.Exchange(request); err != nil {
			t.Fatal(err)
		}
		if typ, _, err := c.Header(); typ != ReadyForQuery || err != nil {
			t.Errorf("%c, %v", typ, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestEnds(t *testing.T) {
	overAll(t, func(t *testing.T, c *Conn, peer net.Conn) {
		wrote := make(chan error, 1)
		go func() { _, err := peer.Write([]byte("Q\x00\x00")); wrote <- err; _ = peer.Close() }()
		if _, _, err := c.Header(); err != io.ErrUnexpectedEOF {
			t.Errorf("the end within a frame: %v", err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		c.Discard(len(c.Buffered()))
		if err := c.Fill(); err != io.EOF {
			t.Errorf("the end between frames: %v", err)
		}
	})
}

func TestHeaderLength(t *testing.T) {
	for _, try := range []struct {
		length []byte
		size   int
		err    error
	}{
		{[]byte{0, 0, 0, 0}, 0, ErrFrameLength},
		{[]byte{0, 0, 0, 3}, 0, ErrFrameLength},
		{[]byte{0, 0, 0, 4}, 5, nil},
		{[]byte{0x3f, 0xff, 0xff, 0xff}, 0x40000000, nil},
		{[]byte{0x40, 0, 0, 2}, 0x40000003, nil},
		{[]byte{0x40, 0, 0, 3}, 0, ErrFrameLength},
		{[]byte{0xff, 0xff, 0xff, 0xff}, 0, ErrFrameLength},
	} {
		typ, size, err := PeekHeader(append([]byte{'Q'}, try.length...))
		if typ != 'Q' || size != try.size || !errors.Is(err, try.err) {
			t.Errorf("%x: %c, %d, %v", try.length, typ, size, err)
		}
	}
}

// Memory grows with what arrives, not with what is announced.
func TestClaimedLength(t *testing.T) {
	overAll(t, func(t *testing.T, c *Conn, peer net.Conn) {
		wrote := make(chan error, 1)
		go func() {
			_, err := peer.Write([]byte("Q\x3f\xff\xff\xff and no more"))
			wrote <- err
			_ = peer.Close()
		}()
		_, size, err := c.Header()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Frame(size); err != io.ErrUnexpectedEOF {
			t.Errorf("%v", err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		if len(c.buf.b) > LargeBuffer {
			t.Errorf("a buffer of %d bytes for a few bytes", len(c.buf.b))
		}
	})
}

func TestWake(t *testing.T) {
	overAll(t, func(t *testing.T, c *Conn, peer net.Conn) {
		for _, waiting := range []bool{true, false} {
			failed := make(chan error, 1)
			if !waiting {
				c.Wake()
			}
			go func() { failed <- c.Fill() }()
			if waiting {
				time.Sleep(10 * time.Millisecond) // most likely it waits by now; it is right if not, too
				c.Wake()
			}
			if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("woken: %v", err)
			}
			_ = c.SetReadDeadline(time.Time{})
		}
		// It is as usable as before.
		wrote := make(chan error, 1)
		go func() { _, err := peer.Write(AppendSync(nil)); wrote <- err }()
		if typ, _, err := c.Header(); typ != Sync || err != nil {
			t.Errorf("after being woken: %c, %v", typ, err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}

func TestQuiet(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		ours, peer := transports[network](t)
		c := NewConn(ours, SmallBuffer)
		if !c.Quiet() {
			t.Errorf("%s: not quiet at first", network)
		}
		_, _ = peer.Write(AppendSync(nil))
		waitFor(t, func() bool { return !c.Quiet() })
		if _, _, err := c.Header(); err != nil || c.Quiet() {
			t.Errorf("%s: quiet with something buffered, %v", network, err)
		}
		c.Discard(HeaderSize)
		if !c.Quiet() {
			t.Errorf("%s: not quiet when all is read", network)
		}
		_ = peer.Close()
		waitFor(t, func() bool { return !c.Quiet() })
		_ = c.Close()
		if c.Quiet() {
			t.Errorf("%s: quiet when closed", network)
		}
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within ten seconds")
		}
	}
}

// Gone sees the peer close, even behind a goodbye that nobody has read, and not that it
// says something.
func TestGone(t *testing.T) {
	for _, name := range []string{"tcp", "unix", "tls"} {
		for what, leave := range map[string]func(peer net.Conn){
			"closes":       func(peer net.Conn) { _ = peer.Close() },
			"says goodbye": func(peer net.Conn) { _, _ = peer.Write([]byte{Terminate, 0, 0, 0, 4}); _ = peer.Close() },
			"resets": func(peer net.Conn) {
				if tcp, ok := peer.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
				}
				_ = peer.Close()
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				ours, peer := transports[name](t)
				c := NewConn(ours, SmallBuffer)
				if _, err := peer.Write(AppendSync(nil)); err != nil {
					t.Fatal(err)
				}
				if c.Gone() {
					t.Error("gone while the peer is there")
				}
				leave(peer)
				waitFor(t, c.Gone)
				_ = c.Close()
				if c.Gone() {
					t.Error("nothing is known of a connection that we closed")
				}
			})
		}
	}
}

func TestCloseEndsAll(t *testing.T) {
	overAll(t, func(t *testing.T, c *Conn, _ net.Conn) {
		read := make(chan error, 1)
		go func() { read <- c.Fill() }()
		time.Sleep(5 * time.Millisecond)
		_ = c.Close()
		_ = c.Close()
		if err := <-read; err == nil {
			t.Error("a read of a closed connection succeeded")
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("a write to a closed connection succeeded")
		}
	})
}

// BenchmarkExchange is a round trip of small frames over loopback, one end echoing.
func BenchmarkExchange(b *testing.B) {
	for _, name := range []string{"tcp", "unix"} {
		b.Run(name, func(b *testing.B) {
			ours, peer := transports[name](b)
			var wg sync.WaitGroup
			wg.Add(1)
			go echo(peer, &wg)
			c := NewConn(ours, LargeBuffer)
			frame := AppendQuery(nil, "select 1")
			b.ReportAllocs()
			for b.Loop() {
				if err := exchangeOnce(c, frame); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.Close()
			wg.Wait()
		})
	}
}

func exchangeOnce(c *Conn, frame []byte) error {
	if err := c.Exchange(frame); err != nil {
		return err
	}
	if _, err := c.Frame(len(frame)); err != nil {
		return err
	}
	c.Discard(len(frame))
	return nil
}

// A round trip, reading a frame and looking whether there is one allocate nothing.
func TestNoAllocation(t *testing.T) {
	ours, peer := transports["tcp"](t)
	var wg sync.WaitGroup
	wg.Add(1)
	go echo(peer, &wg)
	c := NewConn(ours, LargeBuffer)
	frame := AppendQuery(nil, "select 1")
	n := testing.AllocsPerRun(500, func() {
		if err := exchangeOnce(c, frame); err != nil {
			t.Fatal(err)
		}
		if !c.Quiet() {
			t.Fatal("the peer says more than it was asked")
		}
	})
	if n >= 1 {
		t.Errorf("%.1f allocations a round trip", n)
	}
	_ = c.Close()
	wg.Wait()
}
