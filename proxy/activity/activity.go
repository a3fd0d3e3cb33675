// Package activity is what clients do, for people to look at: of each session how far it is (Activity),
// and of all that share pools what was done for them (Traffic). Sessions write it as they go, by a few
// additions for each batch.
package activity

import (
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/router"
)

// Activity is how far a session is. The session alone writes it; View and Pins may be called from any
// goroutine.
type Activity struct {
	connected time.Time            // it never changes
	pins      atomic.Pointer[Pins] // nil for none ever
	written   uint64               // to the client when its last batch was over; the session's own
}

// Begin says that the session begins, of whose client some bytes were written before.
func (a *Activity) Begin(written uint64) { a.connected, a.written = time.Now(), written }

// Batch is a batch that is over.
type Batch struct {
	Started    time.Time
	Took       time.Duration // until it was answered
	Opened     time.Time     // the transaction that was open before; zero for none
	Statements uint64        // that ran
	Received   uint64        // bytes
	Written    uint64        // to the client since it connected
}

// Over says that a batch is over, and counts it in t. open is that it leaves a transaction open.
func (a *Activity) Over(b Batch, open bool, t *Traffic) {
	transaction := time.Duration(-1)
	sent := b.Written - a.written
	a.written = b.Written
	switch {
	case open:
	case !b.Opened.IsZero():
		transaction = b.Started.Sub(b.Opened) + b.Took
	case b.Statements > 0:
		transaction = b.Took
	}
	t.answered(b, sent, transaction)
}

// Pins are why and since when a session is tied to its server connection.
type Pins struct {
	Set   router.PinSet
	Since time.Time
}

// Pin says what ties the session from now on; the zero value is nothing.
func (a *Activity) Pin(now Pins) { a.pins.Store(&now) }

// Pins may be called from any goroutine.
func (a *Activity) Pins() Pins {
	if p := a.pins.Load(); p != nil {
		return *p
	}
	return Pins{}
}

// View is how far a session is at one moment.
type View struct {
	Connected time.Time
	Pins      Pins
}

// View returns what is known at the moment.
func (a *Activity) View() View { return View{a.connected, a.Pins()} }
