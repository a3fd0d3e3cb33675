package batch

import (
	"iter"
	"slices"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// MaxBytes bounds the messages of a pipeline that are gathered before they are sent on. A single
// message that is longer is not gathered at all: its head is analysed, its tail passes.
const MaxBytes = 256 << 10

// End is how a batch ends.
type End uint8

// The ends of a batch.
const (
	EndSync  End = iota
	EndFlush     // the client wants answers and goes on
	EndPart      // the batch is too long to be gathered, or a COPY begins; more follows
	EndQuery     // a simple query or a function call
)

// Batch is what the client asked at once. Its bytes stay in the client's buffer until
// it is answered, so that it can be sent again.
type Batch struct {
	Messages []Message
	Size     int // bytes of the client's messages
	Tail     int // bytes of the last message that are yet to come from the client
	End      End
	Traits   Traits
	Plan     *router.Plan // the strictest; nil without one
	Notices  []byte       // of the proxy's own, to go before the answers
	Started  time.Time    // when its last byte had arrived

	// Here counts the leading messages that the proxy answers before a server is needed.
	Here int
}

// Keep is the most memory that a Batch or Attempt which is used again may hold on to.
const Keep = 64 << 10

// Reset makes b empty; its memory is used again.
func (b *Batch) Reset() {
	m := b.Messages
	clear(m)
	if cap(m) > 1024 {
		m = nil
	}
	*b = Batch{Messages: m[:0]}
}

// Passes reports whether a message of a type passes in pieces, if it is long: nothing behind its
// head is looked at. The texts of Query and Parse decide where they run, so they are gathered.
func (b *Batch) Passes(typ byte) bool {
	return typ == wire.Bind || typ == wire.FunctionCall || b.Ignores(typ)
}

// Ignores reports whether a message of a type is passed over, as PostgreSQL does up to a Sync
// behind an error, and with what is left of a COPY that failed.
func (b *Batch) Ignores(typ byte) bool {
	return b.Traits&(Skipped|Refused) != 0 || typ == wire.CopyData
}

// Vacates is the database that nobody else may be connected to while b runs; empty is none.
func (b *Batch) Vacates() string {
	if b.Plan == nil {
		return ""
	}
	return b.Plan.Vacates
}

// Add appends a copy of a message, and returns that. It is not inlined, as is nothing here that
// makes one: each place would have room for a message, which is large, on the stack of every
// session.
//
//go:noinline
func (b *Batch) Add(m *Message) *Message {
	b.Messages = append(b.Messages, *m)
	return &b.Messages[len(b.Messages)-1]
}

// AnswerHere appends a message that the proxy answers.
func (b *Batch) AnswerHere(m *Message) *Message {
	m.Here = true
	b.Traits |= Rewritten
	return b.Add(m)
}

// Refuse makes the next answer an error of the proxy's own.
//
//go:noinline
func (b *Batch) Refuse(e *wire.Error) {
	b.Traits |= Rewritten | Refused
	b.Add(&Message{Kind: Bind, Refusal: e})
}

// RefuseQuery is Refuse for a simple query, which ends in ReadyForQuery.
//
//go:noinline
func (b *Batch) RefuseQuery(e *wire.Error) {
	b.Refuse(e)
	b.Traits |= HasSync
	b.Add(&Message{Kind: Sync})
}

// ForServer are the messages that an attempt sends: those behind what is answered here first.
func (b *Batch) ForServer() []Message { return b.Messages[b.Here:] }

// Unnamed returns the text and the parameter types of the unnamed statement that the message
// parse (counted from 1) of the batch's bytes defines; 0 is the session's. They are valid
// as long as both are.
func (b *Batch) Unnamed(bytes []byte, of *session.Unnamed, parse int) (text, types []byte) {
	if parse == 0 {
		return of.Text, of.Types
	}
	return b.Messages[parse-1].Statement(bytes)
}

// Text returns the text that a message runs, as far as it is at hand: bytes are the
// batch's, and empty once a COPY has followed.
func (b *Batch) Text(m *Message, bytes []byte, of *session.Unnamed) []byte {
	switch {
	case m.Text != "":
		return []byte(m.Text)
	case m.Kind == Query:
		if len(bytes) == 0 {
			return nil
		}
		text, _ := wire.QueryText(bytes[m.Off : m.Off+m.Size])
		return text
	case m.Prepared != nil:
		return []byte(m.Prepared.Text)
	case m.Parse > 0 && len(bytes) == 0:
		return nil
	}
	text, _ := b.Unnamed(bytes, of, m.Parse)
	return text
}

// nearBind is how far before it the Bind of an Execute is looked for.
const nearBind = 4

// BindOf returns the Bind whose portal m, one of the batch's, executes; nil if it does not
// stand right before it but for a Describe or the like.
func (b *Batch) BindOf(m *Message) *Message {
	at, _ := slices.BinarySearchFunc(b.Messages, m.Off, func(x Message, off int) int { return x.Off - off })
	for i := at - 1; i >= max(at-nearBind, 0); i-- {
		if x := &b.Messages[i]; x.Kind == Bind && x.Name == m.Name {
			return x
		}
	}
	return nil
}

// GoesOn reports whether a batch that meets an aborted transaction may run something
// behind what ends it, or returns to a savepoint.
func (b *Batch) GoesOn() bool {
	open := false
	for p := range b.statements() {
		tx := &p.Tx
		if open || tx.Verb == router.TxPrepare || p.Statements > 1 && p.Flags.Has(router.FlagTxControl) {
			return true
		}
		if open = tx.Ends() || tx.Verb == router.TxRollbackTo; !open && p.Class != router.ClassEmpty {
			return false // it is refused, and with it what is behind
		}
	}
	return false
}

// Leaves reports whether the batch ends the transaction block it meets, and runs more
// behind that; atOnce is that it runs nothing in the block before.
func (b *Batch) Leaves() (leaves, atOnce bool) {
	ended, first := false, true
	for p := range b.statements() {
		if ended {
			return true, atOnce
		}
		if ended = p.Tx.Ends(); ended {
			atOnce = first
		}
		first = false
	}
	return false, false
}

// Repeats reports whether the batch begins a transaction that is, or may be, REPEATABLE READ.
func (b *Batch) Repeats() bool {
	for p := range b.statements() {
		if p.Tx.Modes.Isolation == router.RepeatableRead || p.Statements > 1 && p.Flags.Has(router.FlagTxControl) {
			return true
		}
	}
	return false
}

// statements are the plans of what the batch runs, in order: of each statement of a string, if
// they can be told apart.
func (b *Batch) statements() iter.Seq[*router.Plan] {
	return func(yield func(*router.Plan) bool) {
		for i := range b.Messages {
			m := &b.Messages[i]
			if !m.Kind.Executes() || m.Plan == nil {
				continue
			}
			if m.Plan.Parts == nil && !yield(m.Plan) {
				return
			}
			for _, p := range m.Plan.Parts {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// Chains reports whether the batch has a COMMIT AND CHAIN.
func (b *Batch) Chains() bool {
	return slices.ContainsFunc(b.Messages, func(m Message) bool {
		return m.Kind.Executes() && m.Plan != nil && m.Plan.Tx.Chain && m.Plan.Tx.Verb == router.TxCommit
	})
}

// EndsFailed reports whether the batch has what leads out of an aborted transaction.
func (b *Batch) EndsFailed() bool {
	return slices.ContainsFunc(b.Messages, func(m Message) bool {
		return m.Kind.Executes() && m.Plan != nil && m.Plan.Tx.Verb != router.TxNone
	})
}

// RefusedByAll reports whether every server would refuse the batch in an aborted
// transaction, before it looks at anything else: it begins with one statement that
// parses and does not end the transaction.
// https://www.postgresql.org/docs/current/protocol-flow.html
func (b *Batch) RefusedByAll() bool {
	first := b.ForServer()
	if len(first) == 0 {
		return false
	}
	p := first[0].Plan
	switch first[0].Kind {
	case Parse:
		p = first[0].Defines
	case Query:
	default:
		return false
	}
	return p != nil && p.Statements == 1 && p.Tx.Verb == router.TxNone && p.Class != router.ClassEmpty && p.Reason != router.ReasonUnparsed
}

// Reads reports whether running the batch twice does no harm.
func (b *Batch) Reads() bool {
	for i := range b.Messages {
		m := &b.Messages[i]
		if m.Kind.Executes() && !m.Here && (m.Plan == nil || m.Plan.Class != router.ClassRead) {
			return false
		}
	}
	return true
}

// UsesPrepared reports whether a named statement runs, which may have to be prepared anew.
func (b *Batch) UsesPrepared() bool {
	for i := range b.Messages {
		if b.Messages[i].Kind == Bind && b.Messages[i].Prepared != nil {
			return true
		}
	}
	return false
}

// Describes reports whether the client is told of the rows it gets: one that was told
// earlier would read new rows by the old description.
func (b *Batch) Describes() bool {
	for i := range b.Messages {
		if k := b.Messages[i].Kind; k == Describe || k == Query {
			return true
		}
	}
	return false
}

// DescribesOf reports whether the client is told of the columns of a prepared statement.
func (b *Batch) DescribesOf(p *session.Prepared) bool {
	for i := range b.Messages {
		if m := &b.Messages[i]; m.Kind == Describe && m.Described == p {
			return true
		}
	}
	return false
}

// Renames returns the first message that may change what names in texts behind it mean, or how
// many messages there are.
func (b *Batch) Renames(s *session.State) int {
	if b.Traits&(Renames|ChangesCatalog|EndsTx|Resumes) == 0 {
		return len(b.Messages)
	}
	i := slices.IndexFunc(b.Messages, func(m Message) bool {
		return !m.Here && m.Kind.Executes() && (m.Plan == nil || m.renames() ||
			m.Plan.Flags&(router.FlagDDL|router.FlagTemporary) != 0 || ends(m.Plan) && s.NamesChanged())
	})
	if i < 0 {
		return len(b.Messages)
	}
	return i
}

// OnlySync reports whether a server is asked for nothing but the end of what was asked before.
func (b *Batch) OnlySync() bool {
	return len(b.Messages) == b.Here+1 && b.Messages[b.Here].Kind == Sync
}

// Touches reports whether some message may set a custom setting, the tenant's perhaps.
func (b *Batch) Touches() bool {
	for i := range b.Messages {
		if p := b.Messages[i].Plan; p != nil && len(p.Touches)+len(p.Sets) > 0 {
			return true
		}
	}
	return b.Traits.Has(ChangesSettings)
}

// SetsFirst returns the custom settings a batch sets before it could read them, or fail.
func (b *Batch) SetsFirst() (names []string) {
	for i := range b.Messages {
		m := &b.Messages[i]
		if !m.Kind.Executes() {
			if m.Kind == Parse && m.Defines != nil && len(m.Defines.Sets) == 0 {
				break // what is behind it in its transaction may read them
			}
			continue
		}
		if m.Plan != nil && len(m.Plan.Parts) > 0 {
			return append(names, setsFirst(m.Plan.Parts)...)
		}
		if m.Plan == nil || len(m.Plan.Sets) == 0 || m.Plan.Statements > 1 && !m.Plan.SetOnly {
			break
		}
		names = append(names, m.Touches()...)
	}
	return names
}

// setsFirst is SetsFirst for the parts of a text.
func setsFirst(parts []*router.Plan) (names []string) {
	for _, p := range parts {
		if p.Tx.Verb != router.TxBegin && len(p.Sets) == 0 {
			break
		}
		names = append(names, p.Touches...)
	}
	return names
}

// Undoable reports whether all that the batch does is undone if its server ends the
// session before it has said that a statement was done.
func (b *Batch) Undoable() bool {
	for i := range b.Messages {
		m := &b.Messages[i]
		if !m.Kind.Executes() || m.Here {
			continue
		}
		p := m.Plan
		if p == nil || p.CommitsWithin() || p.Pins != 0 || p.Flags&notUndone != 0 || p.Class != router.ClassRead && p.Class != router.ClassWrite {
			return false
		}
	}
	return true
}

// notUndone are the flags of what may commit by itself, or must not be seen twice.
const notUndone = router.FlagDDL | router.FlagTemporary | router.FlagStays | router.FlagTxControl | router.FlagCopyIn | router.FlagDirty

// bindsUnnamed reports whether the server makes a portal without a name for it.
func (b *Batch) bindsUnnamed() bool {
	return slices.ContainsFunc(b.Messages, func(m Message) bool { return !m.Here && (m.Kind == Query || m.Kind == Bind && m.Name == "") })
}

// TakesSnapshot reports whether the first statement that a server runs may take its
// transaction's snapshot. Before one that does not, nothing else may: what comes next may
// have to be the first query of the transaction.
func (b *Batch) TakesSnapshot() bool {
	for i := range b.Messages {
		if m := &b.Messages[i]; m.Kind.Executes() && !m.Here {
			return m.Plan.TakesSnapshot()
		}
	}
	return false
}

// Draws returns the plan of a statement that a server runs and that may draw from a sequence, or
// ask what one gave, the last that may ask if any may; nil if there is none.
func (b *Batch) Draws() (p *router.Plan) {
	for i := range b.Messages {
		if m := &b.Messages[i]; m.Kind.Executes() && !m.Here && (m.Plan == nil || m.Plan.MayDraw()) {
			switch {
			case m.Plan == nil:
				return unknownPlan
			case p == nil || !p.MayAsk() || m.Plan.MayAsk():
				p = m.Plan
			}
		}
	}
	return p
}

// unknownPlan is the plan of a message of which nobody knows what it runs.
var unknownPlan = &router.Plan{Class: router.ClassUnknown, Target: router.TargetPrimary, Pins: router.PinOpaque}

// Runs reports whether a server runs any statement of the batch.
func (b *Batch) Runs() bool {
	for i := range b.Messages {
		if m := &b.Messages[i]; m.Kind.Executes() && !m.Here {
			return true
		}
	}
	return false
}

// RanHere reports whether an implicit transaction has begun by what the proxy executes itself, so
// that a server would refuse behind it what cannot be part of one.
func (b *Batch) RanHere() bool {
	for i := range slices.Backward(b.Messages) {
		if m := &b.Messages[i]; m.Here && m.Kind.Executes() {
			return m.Plan.Tx.Verb == router.TxNone && !m.Plan.Flags.Has(router.FlagStays) // which end it
		}
	}
	return false
}

// AsksForSequences reports whether the batch reads what a sequence gave to its session.
func (b *Batch) AsksForSequences() bool {
	for i := range b.Messages {
		if p := b.Messages[i].Plan; p != nil && p.Flags.Has(router.FlagSequence) {
			return true
		}
	}
	return false
}

// Removes reports whether the batch may take away what statements before it have used.
func (b *Batch) Removes() bool {
	for i := range b.Messages {
		if p := b.Messages[i].Plan; p != nil && (p.Flags&(router.FlagRemoves|router.FlagForgets) != 0 || p.Unpins&router.PinTemp != 0) {
			return true
		}
	}
	return false
}

// LeavesBlock reports whether a server of a version may make what was executed since the last
// Sync a block, which a simple query behind it does not end: 18 does, 15 does not.
func LeavesBlock(version string) bool { return version >= "16" }

// Several reports whether a server does more than run one statement of the batch: it runs
// another, or reads, binds or describes one behind it.
func (b *Batch) Several() bool {
	ran := false
	for i := range b.Messages {
		switch m := &b.Messages[i]; {
		case m.Here || m.Kind == Sync || m.Kind == Close:
		case ran:
			return true
		default:
			ran = m.Kind.Executes()
		}
	}
	return false
}

// ErrNoLock is the error of an advisory lock on a replica, which would exclude nobody elsewhere.
var ErrNoLock = wire.Errorf("25006", "cannot take an advisory lock in a read-only transaction that goes on on a replica").
	WithHint("Say SET LOCAL pgweir.route = 'primary' first in the transaction, or begin it READ WRITE.")

// Locks returns 1 + the message that takes an advisory lock, and is for the primary; 0 for none.
func (b *Batch) Locks() int {
	locks := func(p *router.Plan) bool {
		return p.Reason == router.ReasonLock && p.Target == router.TargetPrimary && p.Unpins == 0 && !p.Flags.Has(router.FlagNoSnapshot)
	}
	for i := range b.Messages {
		if m := &b.Messages[i]; m.Plan != nil && !m.Here && m.Kind.Executes() && (locks(m.Plan) || slices.ContainsFunc(m.Plan.Parts, locks)) {
			return i + 1
		}
	}
	return 0
}

// Continues reports whether more may follow before the Sync that ends it.
func (b *Batch) Continues() bool { return b.End == EndFlush || b.End == EndPart }

// OpensPortal reports whether the batch opens what ties its transaction to a server: a cursor, or a
// portal that is to run, or to go on, in a later one.
func (b *Batch) OpensPortal() bool {
	if b.Traits.Has(OpensCursor) || !b.Continues() {
		return b.Traits.Has(OpensCursor)
	}
	for i := range slices.Backward(b.Messages) {
		switch m := &b.Messages[i]; {
		case m.Kind.Executes():
			return false
		case m.Kind == Bind && !m.Here:
			return true
		}
	}
	return false
}

// SaysModes reports whether some message may say transaction modes, which a server takes
// or refuses by whether a query ran before.
func (b *Batch) SaysModes() bool {
	for i := range b.Messages {
		if p := b.Messages[i].Plan; p != nil && !b.Messages[i].Here && saysModes(p) {
			return true
		}
	}
	return false
}

func saysModes(p *router.Plan) bool {
	return p.Tx.Verb == router.TxSet || p.Tx.Verb == router.TxBegin || p.Flags.Has(router.FlagTxControl) || slices.ContainsFunc(p.Parts, saysModes)
}

// SendFirst has the server run what the proxy would have executed itself, if a message
// behind it sets modes of the implicit transaction (what the proxy would say there in its
// place would be a query, and too early), or is refused behind another.
func (b *Batch) SendFirst() {
	if !b.Traits.Has(NeedsServer) || !b.SaysModes() && !b.Traits.Has(CommitsWithin) {
		return
	}
	first := 0
	for ; first < len(b.Messages) && b.Messages[first].Here; first++ {
		if m := &b.Messages[first]; m.Kind.Executes() && (!m.Plan.SetOnly || m.Kind == Execute && b.BindOf(m) == nil) {
			return // or no server has its portal
		}
	}
	for i := range b.Messages[:first] {
		m := &b.Messages[i]
		if m.Here, m.Portal.Here = m.Kind == Close, false; m.Kind.Executes() {
			b.Note(m.Plan)
		}
	}
}

// Plain reports whether the batch only reads, writes, or sets what the session carries:
// it does not end its implicit transaction itself.
func (b *Batch) Plain() bool {
	for i := range b.Messages {
		if m := &b.Messages[i]; m.Kind.Executes() && !m.Here && !plain(m.Plan) {
			return false
		}
	}
	return true
}

func plain(p *router.Plan) bool {
	if p == nil || p.Pins|p.Unpins != 0 || saysModes(p) || p.Tx.Verb != router.TxNone ||
		p.Flags&(router.FlagStays|router.FlagForgets|router.FlagDirty|router.FlagDDL|router.FlagTemporary) != 0 {
		return false
	}
	switch p.Class {
	case router.ClassRead, router.ClassSetting, router.ClassEmpty:
		return true
	case router.ClassWrite, router.ClassTx, router.ClassUnknown:
	}
	return p.Reason == router.ReasonWrite || p.Reason == router.ReasonRowLock
}
