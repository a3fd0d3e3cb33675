// Package timeouts ends sessions and statements that take too long: by the configuration
// (config.Timeouts), and by PostgreSQL's own idle timeouts where no server counts them. A
// session has a Clock. What is exceeded while the session waits for its client it asks
// Silence for; what is exceeded while a server works, a timer finds.
package timeouts

import (
	"context"
	"sync"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/session"
)

// A server ends a session whose client is silent for too long; it cannot where it holds
// nothing of the session, or has not heard of its BEGIN.
// https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-IDLE-SESSION-TIMEOUT
var (
	errIdle              = wire.Fatalf("57P05", "terminating connection due to idle-session timeout")
	errIdleInTransaction = wire.Fatalf("25P03", "terminating connection due to idle-in-transaction timeout")
	errTransaction       = wire.Fatalf("25P04", "terminating connection due to transaction timeout")
	errStatement         = wire.Errorf("57014", "canceling statement due to statement timeout")
)

// Of are whose the timeouts of a session are, and how it is reached.
type Of struct {
	Limits    func() config.Timeouts // those in force
	Front     *wire.Conn
	Interrupt *interrupt.Interrupt
	Metrics   *metrics.Metrics
}

// Clock is one session's, and ends it. End and Abort may be called from any goroutine; the
// other methods are the session's own.
type Clock struct {
	of    *Of
	end   context.CancelCauseFunc
	fires sync.WaitGroup

	mu      sync.Mutex // protects expired, and what is watched
	expired bool       // the statement's time has run out

	farewell sync.Mutex // protects leaving, and the deadline with it; taken under mu, never the other way
	leaving  bool       // the session says why it ends
}

// New makes the Clock of a session that ends with the returned context: because of ctx, End,
// Abort or a timeout, which is its cause then. of is complete before anything else is called.
func New(ctx context.Context, of *Of) (*Clock, context.Context) {
	ctx, end := context.WithCancelCause(ctx)
	return &Clock{of: of, end: end}, ctx
}

// End ends the session's context.
func (k *Clock) End() { k.end(nil) }

// Close ends it too, and returns when nothing is done for the session any more.
func (k *Clock) Close() {
	k.end(nil)
	k.fires.Wait()
}

// Abort ends the session wherever it is. It may have to be called again: a session sets
// deadlines of its own.
func (k *Clock) Abort() {
	k.end(nil)
	k.of.Interrupt.End()
	k.farewell.Lock()
	if !k.leaving {
		_ = k.of.Front.SetDeadline(time.Unix(1, 0))
	}
	k.farewell.Unlock()
	k.of.Interrupt.Wake()
}

// Leave gives the session some time to tell its client why it ends, which Abort leaves to it.
func (k *Clock) Leave(within time.Duration) {
	k.farewell.Lock()
	defer k.farewell.Unlock()
	k.leaving = true
	_ = k.of.Front.SetDeadline(time.Now().Add(within))
}

// Why is the error that a session ends with because of its context: a timeout's, or err.
func Why(ctx context.Context, err error) error {
	if cause, ok := context.Cause(ctx).(*wire.Error); ok {
		return cause
	}
	return err
}

// Silence is until when the client may say nothing, zero being for ever, and the error its
// session ends with then. midBatch is that what it has asked is not answered to its end yet;
// ofServer tells what the server has for a setting.
func (k *Clock) Silence(s *session.State, midBatch bool, ofServer func(name string) string) (until time.Time, err *wire.Error) {
	now := time.Now()
	earliest := func(t time.Time, e *wire.Error) {
		if until.IsZero() || t.Before(until) {
			until, err = t, e
		}
	}
	limits := k.of.Limits()
	name, limit, e := "idle_session_timeout", limits.ClientIdle, errIdle
	if s.Tx.Phase.InBlock() || midBatch {
		name, limit, e = "idle_in_transaction_session_timeout", limits.IdleTransaction, errIdleInTransaction
	}
	if limit > 0 {
		earliest(now.Add(limit), e)
	}
	if since := k.of.Interrupt.Opened(); limits.Transaction > 0 && !since.IsZero() {
		earliest(since.Add(limits.Transaction), errTransaction)
	}
	if s.InForceKnown() && (s.Tx.Phase.InBlock() || !midBatch) { // else its server knows
		value, set := s.Settings.Now().Value(name)
		if !set {
			value = ofServer(name)
		}
		if limit := setting.Milliseconds(value); limit > 0 {
			earliest(now.Add(limit), e)
		}
	}
	return until, err
}

// Exceeded notes that the session ends with an error of Silence.
func (k *Clock) Exceeded(e *wire.Error) {
	switch e {
	case errIdle:
		k.of.Metrics.TimedOut(metrics.TimeoutIdle)
	case errIdleInTransaction:
		k.of.Metrics.TimedOut(metrics.TimeoutIdleTransaction)
	case errTransaction:
		k.of.Metrics.TimedOut(metrics.TimeoutTransaction)
	}
}
