// Package interrupt is how other goroutines reach a session: a cancel request, the end
// of its server, the end of the service.
package interrupt

import (
	"context"
	"errors"
	"sync"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Interrupt is one session's. From when a batch is to be answered by a server to when it
// is answered, no cancel request is lost: it ends the wait, or keeps the batch from being
// sent, or is sent to the server that runs it. Cancel, BeginCancel, HeldOn and Wake may be
// called from any goroutine; the other methods are the session's own.
type Interrupt struct {
	front   *wire.Conn
	ctx     context.Context // of the session
	unwatch func()          // ends the watch over the client

	mu      sync.Mutex       // protects the fields below
	running *backend.Backend // what a cancel request may reach
	held    *backend.Backend // what may be closed at any time because of its server,
	on      *cluster.Server  // which is this
	phase   phase
	waiting context.CancelCauseFunc // by which a cancel request ends a long wait
}

// phase is how far a batch is that a server is to answer.
type phase uint8

const (
	none     phase = iota
	underWay       // it is on its way to a server, or runs there
	canceled       // so it is, and a cancel request is noted
)

// New makes the Interrupt of a session that ends with ctx.
func New(ctx context.Context, front *wire.Conn) *Interrupt { return &Interrupt{ctx: ctx, front: front} }

// Context ends when the session does.
func (i *Interrupt) Context() context.Context { return i.ctx }

// ErrCanceled is that a cancel request came before a batch was sent.
var ErrCanceled = wire.Errorf("57014", "canceling statement due to user request")

// ClientGone is that the client can no longer be reached.
type ClientGone struct{ Err error }

func (e *ClientGone) Error() string { return "client is gone: " + e.Err.Error() }
func (e *ClientGone) Unwrap() error { return e.Err }

// Cancel carries out a cancel request: what runs is canceled on its server, what waits
// does not run.
func (i *Interrupt) Cancel(ctx context.Context) error {
	i.mu.Lock()
	var send func(context.Context) error
	switch {
	case i.running != nil:
		send = i.running.BeginCancel()
	case i.phase != none:
		i.phase = canceled
		if i.waiting != nil {
			i.waiting(ErrCanceled)
		}
	}
	i.mu.Unlock()
	if send == nil {
		return nil
	}
	return send(ctx)
}

// Begin says that a batch is on its way to a server.
func (i *Interrupt) Begin() {
	i.mu.Lock()
	i.phase = underWay
	i.mu.Unlock()
}

// Done says that the batch is answered.
func (i *Interrupt) Done() {
	i.mu.Lock()
	i.phase, i.running = none, nil
	i.mu.Unlock()
}

// Run says that the batch is sent over b next, unless a cancel request has come before.
func (i *Interrupt) Run(b *backend.Backend) (wasCanceled bool) {
	i.mu.Lock()
	if wasCanceled = i.phase == canceled; !wasCanceled {
		i.running = b
	}
	i.mu.Unlock()
	return wasCanceled
}

// Pause says that nothing runs on the server for the moment, though the batch is not
// answered.
func (i *Interrupt) Pause() {
	i.mu.Lock()
	i.running = nil
	i.mu.Unlock()
}

// SlowContext implements pool.SlowPath: from now on the wait ends if the client sends a
// cancel request or vanishes. EndWait must follow.
func (i *Interrupt) SlowContext() context.Context {
	ctx, cancel := context.WithCancelCause(i.ctx)
	i.mu.Lock()
	i.waiting = cancel
	if i.phase == canceled {
		cancel(ErrCanceled)
	}
	i.mu.Unlock()
	i.unwatch = i.front.WatchClose(func() { cancel(&ClientGone{errors.New("closed while waiting")}) })
	return ctx
}

// EndWait ends what SlowContext began, and reports whether a cancel request came.
func (i *Interrupt) EndWait() (wasCanceled bool) {
	if i.unwatch != nil {
		i.unwatch()
		i.unwatch = nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.waiting != nil {
		i.waiting(nil)
	}
	i.waiting = nil
	return i.phase == canceled
}

// Hold says which connection the session holds from now on.
func (i *Interrupt) Hold(b *backend.Backend, s *cluster.Server) {
	i.mu.Lock()
	i.held, i.on = b, s
	i.mu.Unlock()
}

// Release says that the session holds none any more.
func (i *Interrupt) Release() {
	i.mu.Lock()
	i.running, i.held, i.on = nil, nil, nil
	i.mu.Unlock()
}

// HeldOn returns the connection to a server that the session holds, to be closed because
// of its server; nil if there is none.
func (i *Interrupt) HeldOn(s *cluster.Server) *wire.Conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.held != nil && i.on == s {
		return i.held.Conn
	}
	return nil
}

// BeginCancel prepares a cancel request for what runs; nil if nothing does.
func (i *Interrupt) BeginCancel() func(context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running == nil {
		return nil
	}
	return i.running.BeginCancel()
}

// Wake ends a read from the server.
func (i *Interrupt) Wake() {
	i.mu.Lock()
	if i.running != nil {
		i.running.Conn.Wake()
	}
	i.mu.Unlock()
}
