// Package interrupt is how other goroutines reach a session: a cancel request, the end
// of its client, of its server, of the service.
package interrupt

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Interrupt is one session's. From when a batch is to be answered by a server to when it
// is answered, no cancel request is lost: it ends the wait, or keeps the batch from being
// sent, or is sent to the server that runs it. Cancel, BeginCancel, HeldOn, Vanished and Wake
// may be called from any goroutine, LookAtClient from one; the other methods are the
// session's own.
type Interrupt struct {
	front *wire.Conn
	ctx   context.Context // of the session

	// vanished: the client is known to be gone.
	vanished atomic.Bool

	// LookAtClient's own: the batch it found last, and how often it asked to cancel.
	looked, asked uint64

	mu      sync.Mutex       // protects the fields below
	running *backend.Backend // what a cancel request may reach
	held    *backend.Backend // what may be closed at any time because of its server,
	on      *cluster.Server  // which is this
	phase   phase
	begun   uint64                  // batches
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
	if send := i.stop(ErrCanceled); send != nil {
		return send(ctx)
	}
	return nil
}

// stop ends a wait because of something, or keeps the batch from being sent; what runs is
// canceled by send, nil if nothing does.
func (i *Interrupt) stop(because error) (send func(context.Context) error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.running != nil:
		return i.running.BeginCancel()
	case i.phase != none:
		i.phase = canceled
		if i.waiting != nil {
			i.waiting(because)
		}
	}
	return nil
}

// LookAtClient is called every so often: it looks whether the client has closed its
// connection, if the batch under way is the one it was at the last call. If it has, a wait
// ends, and what runs is to be canceled by send, nil if nothing does: nobody is there for
// its answer. Canceling is asked for again and again, ever more rarely, as long as the batch
// lasts.
func (i *Interrupt) LookAtClient() (send func(context.Context) error) {
	i.mu.Lock()
	lasts := i.phase != none && i.begun == i.looked
	i.looked = i.begun
	i.mu.Unlock()
	if !lasts || !i.Vanished() && !i.front.Gone() {
		return nil
	}
	i.Vanish()
	i.front.WakeWriter()
	if i.asked++; i.asked&(i.asked-1) != 0 {
		return nil
	}
	return i.stop(&ClientGone{errors.New("closed while its statement was under way")})
}

// Vanish says that the client is gone. A batch that is under way is canceled if it lasts.
func (i *Interrupt) Vanish() { i.vanished.Store(true) }

// Vanished reports whether the client is known to be gone.
func (i *Interrupt) Vanished() bool { return i.vanished.Load() }

// Begin says that a batch is on its way to a server.
func (i *Interrupt) Begin() {
	i.mu.Lock()
	i.phase = underWay
	i.begun++
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
	return ctx
}

// EndWait ends what SlowContext began, and reports whether a cancel request came.
func (i *Interrupt) EndWait() (wasCanceled bool) {
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
