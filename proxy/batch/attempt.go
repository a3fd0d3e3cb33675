package batch

import (
	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/session"
)

// Origin says whose message an awaited answer is to.
type Origin uint8

// The origins.
const (
	Client   Origin = iota
	Here            // the client's, and the proxy gives the answer
	Internal        // the proxy's own: its answer is dropped
	Opening         // the proxy's own, to open the transaction on its server
	Setup           // of the set-up batch, which makes the connection carry the settings
	Sentinel        // has the batch fail if the set-up batch did
)

// Awaited is one answer that an Attempt waits for, in order.
type Awaited struct {
	Kind    Kind
	Origin  Origin
	Outcome session.Outcome // once it is answered
	Parts   int             // how many statements of a string were answered
	Message *Message        // the client's; nil for the proxy's own
	Shared  *prepared.Statement
	Given   *Given // what the server has under the client's name then
	Tag     session.Tag
	Refusal *wire.Error // what the client gets in place of the server's error
}

// Internal reports whether the client did not ask for it.
func (a *Awaited) Internal() bool { return a.Origin > Here }

// Runs reports whether it is the answer to a statement of the client's that a server runs.
func (a *Awaited) Runs() bool { return a.Message != nil && a.Origin != Here && a.Kind.Executes() }

// Takes says how a connection comes to carry the session's settings for an attempt.
type Takes uint8

// How settings are taken over.
const (
	// TakesNothing: it carries them, or they were set in a round trip before.
	TakesNothing Takes = iota
	// TakesWithin: inside the batch's implicit transaction; its failure undoes both.
	TakesWithin
	// TakesAhead: in a set-up batch of its own before it, in the same write.
	TakesAhead
	// TakesApart: ahead, in a transaction block, for a standby that takes no transaction without.
	TakesApart
)

// Ahead reports whether it is in a set-up batch.
func (t Takes) Ahead() bool { return t >= TakesAhead }

// Replay says what of the transaction under way is done again on the server.
type Replay uint8

// What may be done again.
const (
	ReplaysNothing Replay = iota
	// ReplaysBlock: it opens the transaction block, with what the block has done so far.
	ReplaysBlock
	// ReplaysImplicit: what the implicit transaction has set is set again, its modes and that it ran a query.
	ReplaysImplicit
)

// Dropped is what other sessions left in a server process that does not tie them to it.
type Dropped uint8

// What a server may be told to drop.
const (
	Sequences Dropped = 1 << iota // which values sequences gave
	Plans                         // made under other settings
)

// Attempt is one try to have a server answer a Batch.
type Attempt struct {
	// What the server is sent besides the client's messages.
	Takes   Takes
	Changes []setting.Change // what it takes over
	Asserts *Assertion       // what it makes sure of; nil for nothing
	Carries setting.Settings // what the connection carries then
	User    string           // as whom the connection logged in
	Replays Replay
	Drops   Dropped
	Renew   bool // prepared statements are prepared anew
	// RefuseAt is 1 + the message that is refused although the batch was analysed without
	// a refusal, with Refusal; 0 is none.
	RefuseAt int
	Refusal  *wire.Error

	Queue []Awaited
	Head  int // of Queue: what is awaited next
	Out   []byte
	// Tail is how many bytes of the last message are to be sent behind the others, as they come
	// from the client.
	Tail int
}

// Opens reports whether the attempt opens the transaction block on its server.
func (a *Attempt) Opens() bool { return a.Replays == ReplaysBlock }

// Reset makes a the zero value of an attempt; its memory is used again.
func (a *Attempt) Reset() {
	queue, out := a.Queue, a.Out
	clear(queue)
	if cap(queue) > 1024 {
		queue = nil
	}
	if cap(out) > Keep {
		out = nil
	}
	*a = Attempt{Queue: queue[:0], Out: out[:0]}
}

// Awaits returns what is awaited next; nil if all is answered.
func (a *Attempt) Awaits() *Awaited {
	if a.Head == len(a.Queue) {
		return nil
	}
	return &a.Queue[a.Head]
}

// Ready returns how many ReadyForQuery are still to come.
func (a *Attempt) Ready() (n int) {
	for i := a.Head; i < len(a.Queue); i++ {
		if w := &a.Queue[i]; w.Origin != Here && w.Kind.Ends(wire.ReadyForQuery) {
			n++
		}
	}
	return n
}

// AsksServer reports whether any awaited answer is a server's.
func (a *Attempt) AsksServer() bool {
	for i := range a.Queue {
		if a.Queue[i].Origin != Here {
			return true
		}
	}
	return false
}

// MayCommit reports whether the attempt may end its transaction.
func (a *Attempt) MayCommit() bool {
	for i := range a.Queue {
		if w := &a.Queue[i]; w.Runs() && (w.Message.Plan == nil || commits(w.Message)) {
			return true
		}
	}
	return false
}
