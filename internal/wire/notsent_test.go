package wire

import (
	"errors"
	"net"
	"testing"
)

// An exchange over a connection that was reset says that nothing was sent; one whose
// peer ends it after the first bytes does not.
func TestNotSent(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		ours, peer := transports[network](t)
		c := NewConn(ours, SmallBuffer)
		if tcp, ok := peer.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // closing resets
		}
		_ = peer.Close()
		if network == "tcp" {
			if err := c.Fill(); err == nil {
				t.Fatal("the reset did not come")
			}
		}
		if err := c.Exchange([]byte("a statement")); !errors.Is(err, ErrNotSent) {
			t.Errorf("%s, reset before: %v", network, err)
		}

		ours, peer = transports[network](t)
		c = NewConn(ours, SmallBuffer)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = peer.Read(make([]byte, 5))
			_ = peer.Close()
		}()
		if err := c.Exchange([]byte("a statement")); err == nil || errors.Is(err, ErrNotSent) {
			t.Errorf("%s, ended after: %v", network, err)
		}
		<-done
	}
}
