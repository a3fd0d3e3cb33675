package backend

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/pgweir/pgweir/internal/wire"
)

// canceling counts cancel requests on their way to a backend, so that none can
// hit a later statement.
type canceling struct {
	sent atomic.Bool // a request was announced since the last CancelDone

	mu     sync.Mutex // protects the fields below
	n      int
	done   chan struct{} // closed when n returns to 0
	failed error         // of a request that may still arrive some time
}

// BeginCancel announces a cancel request while b is in use, and returns a function that
// sends it: on a connection of its own, returning once the server has sent the signal.
// It may be called from any goroutine, but not after b was given back: the caller
// sees to that.
func (b *Backend) BeginCancel() (send func(ctx context.Context) error) {
	c := &b.cancels
	c.mu.Lock()
	if c.n++; c.n == 1 {
		c.done = make(chan struct{})
	}
	c.sent.Store(true)
	c.mu.Unlock()
	return func(ctx context.Context) error {
		err := b.login.Cancel(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			c.failed = err
		}
		if c.n--; c.n == 0 {
			close(c.done)
		}
		return err
	}
}

// Canceled reports whether a cancel request was sent since the last CancelDone.
func (b *Backend) Canceled() bool { return b.cancels.sent.Load() }

// CancelDone waits until no cancel request is on its way and the server has
// dealt with the last one. Between statements only. It fails, and b must be closed,
// if a request was sent that nobody knows the fate of.
func (b *Backend) CancelDone(ctx context.Context) error {
	c := &b.cancels
	if !b.Canceled() {
		return nil // the usual case
	}
	for {
		c.mu.Lock()
		if !c.sent.Load() {
			c.mu.Unlock()
			return nil
		}
		if c.failed != nil {
			c.mu.Unlock()
			return c.failed
		}
		if c.n == 0 {
			c.sent.Store(false)
			c.mu.Unlock()
			break
		}
		done := c.done
		c.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// The signal was sent before the server closed the request's connection; a
	// round trip makes its process take it now, while no statement runs.
	_, err := b.RoundTrip(ctx, wire.AppendSync(nil))
	var refused *ServerError
	if errors.As(err, &refused) && !errors.Is(err, io.EOF) && refused.Code() == "57014" {
		return nil
	}
	return err
}
