package client

import (
	"context"
	"errors"
	"sync"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// interrupt is how other goroutines reach a session: a cancel request, the end of its
// server, the end of the service. From when a batch is to be answered by a server to
// when it is answered, no cancel request is lost: it ends the wait, or keeps the batch
// from being sent, or is sent to the server that runs it.
type interrupt struct {
	unwatch func() // ends the watch over the client; the session's own

	mu        sync.Mutex              // protects the fields below
	running   *backend.Backend        // what a cancel request may reach
	exposed   *backend.Backend        // what may be closed at any time because of its server,
	exposedOn *cluster.Server         // which is this
	pending   bool                    // a batch is on its way to a server:
	canceled  bool                    // a cancel request is noted,
	waiting   context.CancelCauseFunc // and ends a long wait by this
}

var errCanceled = wire.Errorf("57014", "canceling statement due to user request")

// cancel carries out a cancel request: what runs is canceled on its server, what waits
// does not run.
func (i *interrupt) cancel(ctx context.Context) error {
	i.mu.Lock()
	var send func(context.Context) error
	switch {
	case i.running != nil:
		send = i.running.BeginCancel()
	case i.pending:
		i.canceled = true
		if i.waiting != nil {
			i.waiting(errCanceled)
		}
	}
	i.mu.Unlock()
	if send == nil {
		return nil
	}
	return send(ctx)
}

// begin says that a batch is on its way to a server.
func (i *interrupt) begin() {
	i.mu.Lock()
	i.pending, i.canceled = true, false
	i.mu.Unlock()
}

// done says that the batch is answered.
func (i *interrupt) done() {
	i.mu.Lock()
	i.pending, i.canceled, i.running = false, false, nil
	i.mu.Unlock()
}

// run says that the batch is sent over b next, unless a cancel request has come before.
func (i *interrupt) run(b *backend.Backend) (canceled bool) {
	i.mu.Lock()
	if canceled = i.canceled; !canceled {
		i.running = b
	}
	i.mu.Unlock()
	return canceled
}

// pause says that nothing runs on the server for the moment, though the batch is not
// answered.
func (i *interrupt) pause() {
	i.mu.Lock()
	i.running = nil
	i.mu.Unlock()
}

// wait makes cancel end a long wait.
func (i *interrupt) wait(end context.CancelCauseFunc) {
	i.mu.Lock()
	i.waiting = end
	if i.canceled {
		end(errCanceled)
	}
	i.mu.Unlock()
}

// endWait ends what wait began.
func (i *interrupt) endWait() (canceled bool) {
	i.mu.Lock()
	if i.waiting != nil {
		i.waiting(nil)
	}
	i.waiting = nil
	canceled = i.canceled
	i.mu.Unlock()
	return canceled
}

func (i *interrupt) expose(b *backend.Backend, s *cluster.Server) {
	i.mu.Lock()
	i.exposed, i.exposedOn = b, s
	i.mu.Unlock()
}

func (i *interrupt) conceal() {
	i.mu.Lock()
	i.running, i.exposed, i.exposedOn = nil, nil, nil
	i.mu.Unlock()
}

// on returns the connection in use to a server, nil if there is none.
func (i *interrupt) on(s *cluster.Server) *backend.Backend {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.exposed != nil && i.exposedOn == s {
		return i.exposed
	}
	return nil
}

// beginCancel prepares a cancel request for what runs; nil if nothing does.
func (i *interrupt) beginCancel() func(context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running == nil {
		return nil
	}
	return i.running.BeginCancel()
}

// wake ends a read from the server.
func (i *interrupt) wake() {
	i.mu.Lock()
	if i.running != nil {
		i.running.Conn.Wake()
	}
	i.mu.Unlock()
}

// Cancel carries out a cancel request for the session's statement. It may be called from
// another goroutine.
func (c *Client) Cancel(ctx context.Context) error { return c.interrupt.cancel(ctx) }

// BeginCancel prepares a cancel request for what runs on a server now; nil if nothing
// does. It may be called from another goroutine.
func (c *Client) BeginCancel() (send func(context.Context) error) { return c.interrupt.beginCancel() }

// HeldOn returns the connection to a server that the session uses, to be closed because of
// its server; nil if there is none. It may be called from another goroutine.
func (c *Client) HeldOn(s *cluster.Server) *wire.Conn {
	if b := c.interrupt.on(s); b != nil {
		return b.Conn
	}
	return nil
}

// SlowContext implements pool.SlowPath: from now on the wait ends if the client sends a cancel
// request or vanishes. endWait must follow.
func (c *Client) SlowContext() context.Context {
	ctx, cancel := context.WithCancelCause(c.ctx)
	c.interrupt.wait(cancel)
	c.interrupt.unwatch = c.front.WatchClose(func() { cancel(&lostError{errors.New("closed while waiting")}) })
	return ctx
}

// endWait ends what SlowContext began, and reports whether a cancel request came.
func (c *Client) endWait() (canceled bool) {
	i := &c.interrupt
	if i.unwatch != nil {
		i.unwatch()
		i.unwatch = nil
	}
	return i.endWait()
}
