// Package interrupt is how other goroutines reach a session: a cancel request, the end
// of its client, of its server, of the service.
package interrupt

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// Interrupt is one session's. From when a batch has arrived to when it is answered, no cancel
// request is lost: it ends the wait, or keeps the batch from being sent (again), or is sent
// to the server that runs it. Cancel, Insist, BeginCancel, End, HeldOn, Vanished and Wake may be
// called from any goroutine, LookAtClient from one; the other methods are the session's own.
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
	batch   uint64           // counts them
	phase   phase
	ended   error                   // why no batch is sent any more; nil: they are
	waiting context.CancelCauseFunc // by which a cancel request ends a long wait
	began   time.Time               // the batch
	opened  time.Time               // the transaction that was open when the last batch was answered, zero without one
	first   *router.Plan            // what a server was sent first of it, or of the batch outside one; nil for nothing
}

// phase is how far a batch is.
type phase uint8

const (
	none     phase = iota // the session waits for its client, or has not come to look at what it sent
	arriving              // some of a message was sent to a server, and the rest is yet to come from the client
	telling               // the client is being told the last of its answer, or the session tidies up behind it
	buffered              // the session has some of the next batch in its buffer
	early                 // a cancel request is noted for the next batch, which has arrived
	underWay              // the batch is looked at, on its way to a server, or runs there
	canceled              // so it is, and a cancel request is noted
)

// New makes the Interrupt of a session that ends with ctx.
func New(ctx context.Context, front *wire.Conn) *Interrupt { return &Interrupt{ctx: ctx, front: front} }

// Context ends when the session does.
func (i *Interrupt) Context() context.Context { return i.ctx }

// ErrCanceled is that a cancel request came before a batch was sent.
var ErrCanceled = wire.Errorf("57014", "canceling statement due to user request")

// ErrEnded is that the session was ended.
var ErrEnded = wire.Fatalf("57P01", "terminating connection due to administrator command")

// ClientGone is that the client can no longer be reached.
type ClientGone struct{ Err error }

func (e *ClientGone) Error() string { return "client is gone: " + e.Err.Error() }
func (e *ClientGone) Unwrap() error { return e.Err }

// Cancel carries out a cancel request: what runs is canceled on its server, what waits
// does not run. It returns the number of the batch that was to be canceled, 0 if there was
// none.
func (i *Interrupt) Cancel(ctx context.Context) (batch uint64, err error) {
	var send func(context.Context) error
	i.mu.Lock()
	switch batch = i.batch; {
	case i.phase == arriving:
		batch = 0
	case i.phase == buffered || i.phase == early || i.phase < underWay && i.front.Readable():
		i.phase = early
		batch++
	case i.phase < underWay:
		batch = 0
	default:
		send = i.stopLocked(ErrCanceled)
	}
	i.mu.Unlock()
	if send == nil {
		return batch, nil
	}
	return batch, send(ctx)
}

// stopLocked ends a wait because of something, or keeps the batch from being sent; what runs is
// canceled by send, nil if nothing does.
func (i *Interrupt) stopLocked(because error) (send func(context.Context) error) {
	i.phase = canceled
	switch {
	case i.running != nil:
		return i.running.BeginCancel()
	case i.waiting != nil:
		i.waiting(because)
	}
	return nil
}

// insistence are the pauses before a cancel request is sent once more.
var insistence = [...]time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 800 * time.Millisecond}

// Insist sends the cancel request for a batch again, a few times, as long as the batch runs:
// a server process ignores one that comes before it has read the statement, and the
// statement may have been sent just before.
func (i *Interrupt) Insist(ctx context.Context, batch uint64) error {
	for _, pause := range insistence {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		i.mu.Lock()
		if i.batch != batch || i.running == nil {
			i.mu.Unlock()
			return nil
		}
		send := i.running.BeginCancel()
		i.mu.Unlock()
		if err := send(ctx); err != nil {
			return err
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
	lasts := i.phase > arriving && i.batch == i.looked
	i.looked = i.batch
	i.mu.Unlock()
	if !lasts || !i.Vanished() && !i.front.Gone() {
		return nil
	}
	i.Vanish()
	i.front.WakeWriter()
	if i.asked++; i.asked&(i.asked-1) != 0 {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.phase < underWay {
		return nil
	}
	return i.stopLocked(&ClientGone{errors.New("closed while its statement was under way")})
}

// Vanish says that the client is gone. A batch that is under way is canceled if it lasts.
func (i *Interrupt) Vanish() { i.vanished.Store(true) }

// Vanished reports whether the client is known to be gone.
func (i *Interrupt) Vanished() bool { return i.vanished.Load() }

// Begin says that a batch, or a further part of one, is there, and since when.
func (i *Interrupt) Begin() time.Time {
	now := time.Now()
	i.mu.Lock()
	i.began = now
	i.batch++
	if i.opened.IsZero() {
		i.first = nil
	}
	if i.phase == early {
		i.phase = canceled
	} else {
		i.phase = underWay
	}
	i.mu.Unlock()
	return now
}

// Opened is when the transaction began that was open when the last batch was answered; zero is
// that none was.
func (i *Interrupt) Opened() time.Time { return i.opened } // nobody else writes it

// Follow says that a batch was answered that began at a time, and whether it leaves a transaction
// open. was is what Opened was before.
func (i *Interrupt) Follow(open bool, began time.Time) (was time.Time) {
	if was = i.opened; open == !was.IsZero() {
		return was
	}
	if !open {
		began = time.Time{}
	}
	i.mu.Lock()
	i.opened = began
	i.mu.Unlock()
	return was
}

// Tell says that the client is told the last of its answer next: from now on a cancel
// request is for the next batch. more is whether some of that is in the session's buffer.
func (i *Interrupt) Tell(more bool) { i.over(telling, more) }

// Done says that nothing of the batch is left to do, or that the session waits for more of
// it. more is as for Tell.
func (i *Interrupt) Done(more bool) { i.over(none, more) }

func (i *Interrupt) over(p phase, more bool) {
	i.mu.Lock()
	i.running = nil
	switch {
	case i.phase == early: // it came since Tell
	case more:
		i.phase = buffered
	default:
		i.phase = p
	}
	i.mu.Unlock()
}

// Arriving says that the batch's last message is sent to a server as it comes from the client.
// As with PostgreSQL, a cancel request counts for nothing until Begin says that all of it is there.
func (i *Interrupt) Arriving() {
	i.mu.Lock()
	i.phase, i.running = arriving, nil
	i.mu.Unlock()
}

// Run says that the batch, of a plan, is sent over b next. It fails, and the batch must not be sent, if a cancel request
// has come before, with ErrCanceled, or End, with ErrEnded.
func (i *Interrupt) Run(b *backend.Backend, p *router.Plan) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.first == nil {
		i.first = p
	}
	switch {
	case i.ended != nil:
		return i.ended
	case i.phase == canceled:
		return ErrCanceled
	}
	i.running = b
	return nil
}

// End keeps the session from sending another batch, and reports whether one runs.
func (i *Interrupt) End() (runs bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = ErrEnded
	return i.running != nil
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

// Held returns the connection that the session holds, of which only what never changes may be looked at,
// and when its last batch came, zero being never. It may be called from any goroutine.
func (i *Interrupt) Held() (b *backend.Backend, on *cluster.Server, asked time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.held, i.on, i.began
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

// Activity is what a session is doing.
type Activity uint8

// What there is to do. PostgreSQL's words, as far as it has any (pg_stat_activity).
const (
	Idle              Activity = iota // outside a transaction block, and nothing is asked
	Active                            // a batch is under way
	Waiting                           // so it is, and it waits for a server or a connection
	IdleInTransaction                 // nothing is asked, within a transaction block

	Activities = iota // how many there are
)

var activityNames = [Activities]string{"idle", "active", "waiting", "idle_in_transaction"}

// String is the label of the activity.
func (a Activity) String() string { return activityNames[a] }

// Activity tells what the session is doing, and of its transaction, or of the batch outside one,
// since when it lasts and what a server was sent first of it. It may be called from any goroutine.
func (i *Interrupt) Activity() (a Activity, since time.Time, first *router.Plan) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.phase >= underWay && i.waiting != nil:
		a = Waiting
	case i.phase >= underWay || i.phase == arriving:
		a = Active
	case !i.opened.IsZero():
		a = IdleInTransaction
	default:
		return Idle, time.Time{}, nil
	}
	if i.opened.IsZero() {
		return a, i.began, i.first
	}
	return a, i.opened, i.first
}

// Wake ends a read from the server.
func (i *Interrupt) Wake() {
	i.mu.Lock()
	if i.running != nil {
		i.running.Conn.Wake()
	}
	i.mu.Unlock()
}
