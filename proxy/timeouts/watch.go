package timeouts

import (
	"context"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/metrics"
)

const (
	// firstAgain is when a server is asked once more to cancel what takes too long: one that
	// has not read it yet takes no notice. The pauses grow.
	firstAgain = 50 * time.Millisecond
	// abortAgain is how often a session is ended that may have set a deadline meanwhile.
	abortAgain    = 20 * time.Millisecond
	cancelTimeout = 2 * time.Second
)

func nothing() {}

// WatchStatement has what is sent to a server next canceled when it takes too long. stop must
// be called before the session gives its server connection back.
func (k *Clock) WatchStatement() (stop func()) {
	limit := k.of.Limits().Statement
	if limit <= 0 {
		return nothing
	}
	k.mu.Lock()
	k.expired = false
	k.mu.Unlock()
	pause := firstAgain
	return k.watch(limit, func() time.Duration {
		if !k.expired {
			k.of.Metrics.TimedOut(metrics.TimeoutStatement)
		}
		k.expired = true
		k.cancel()
		pause *= 2
		return pause
	})
}

// WatchTransaction has the session ended when its transaction, or what is about to be done
// outside one since began, takes too long. stop must be called when that is done.
func (k *Clock) WatchTransaction(began time.Time) (stop func()) {
	limit := k.of.Limits().Transaction
	if limit <= 0 {
		return nothing
	}
	if since := k.of.Interrupt.Opened(); !since.IsZero() {
		began = since
	}
	first := true
	return k.watch(limit-time.Since(began), func() time.Duration {
		if first {
			first = false
			k.of.Metrics.TimedOut(metrics.TimeoutTransaction)
			k.cancel() // or it would run to its end for nobody
			k.end(errTransaction)
		}
		k.Abort()
		return abortAgain
	})
}

// watch has something done after a while, and after each pause it returns, until stop.
func (k *Clock) watch(after time.Duration, do func() time.Duration) (stop func()) {
	over := false // protected by mu
	var timer *time.Timer
	k.mu.Lock()
	defer k.mu.Unlock()
	timer = time.AfterFunc(max(after, 0), func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !over {
			timer.Reset(do())
		}
	})
	return func() {
		timer.Stop()
		k.mu.Lock()
		over = true
		k.mu.Unlock()
	}
}

// cancel has what runs on a server canceled. While mu is held nothing else is sent.
func (k *Clock) cancel() {
	send := k.of.Interrupt.BeginCancel()
	if send == nil {
		return
	}
	k.fires.Go(func() {
		ctx, done := context.WithTimeout(context.Background(), cancelTimeout)
		defer done()
		_ = send(ctx) // the connection knows if it failed
	})
}

// Reword returns an ErrorResponse as the client is to see it: a server that was asked to
// cancel does not know why.
func (k *Clock) Reword(frame []byte) []byte {
	if k.of.Limits().Statement <= 0 || string(wire.ErrorField(frame, 'C')) != errStatement.Code {
		return frame
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.expired {
		return frame
	}
	return errStatement.Append(nil)
}
