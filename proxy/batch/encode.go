package batch

import (
	"encoding/binary"
	"strings"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// missingStatement is a name no server holds: binding it is how the proxy makes a
// server fail a batch, and with it the transaction.
const missingStatement = "pgweir: refused"

// sentinel is a prepared statement that is there only if the settings before it were
// taken over. It is bound, not run.
const sentinel = "pgweir: adopted"

// ownName names a portal of the proxy's own, and the statement by which one is prepared under
// its client's name.
const ownName = "pgweir: own"

// setQuery carries a setting to a server. Its parameters are name, value (NULL is the
// default) and whether it is for the transaction only.
const setQuery = "SELECT pg_catalog.set_config($1, $2, $3)"

var (
	noTypes      = []byte{0, 0}
	noParameters = []byte{0, 0, 0, 0, 0, 0}
	flushMessage = []byte{wire.Flush, 0, 0, 0, 4}
)

// Encoder writes what a server is sent for an attempt, and the queue of the answers to
// await. What it sends besides the client's messages has no Sync of its own, but for a
// set-up batch: if it fails, the server discards the client's messages too.
type Encoder struct {
	*Attempt
	Batch    *Batch
	Bytes    []byte // the client's messages
	State    *session.State
	Unnamed  *session.Unnamed      // the session's
	Held     *prepared.Held        // what the server connection holds
	Owed     []*prepared.Statement // to be closed there before anything else
	Registry *prepared.Registry
	// Definitions is how often the catalog is known to have changed.
	Definitions uint64
	// Unasked is that the server could not be asked of what it does not hold, in the midst of a batch.
	Unasked bool

	unnamed uint64 // the tag of the unnamed statement there, as of the message at hand
	at      place
}

// place is where an Encoder is in a batch.
type place uint8

const (
	ahead   place = iota // of the client's messages
	within               // them
	renamed              // and some before may change what names mean
)

// Encode returns the bytes for the server. They are valid until the client's next read.
// What need not be changed goes as it came:
//
//	BenchmarkEncode/query              16 ns/op    0 B/op  0 allocs/op
//	BenchmarkEncode/unnamed            35 ns/op    0 B/op  0 allocs/op
//	BenchmarkEncode/named              55 ns/op    0 B/op  0 allocs/op
//	BenchmarkEncode/settings_within   275 ns/op   56 B/op  2 allocs/op
//	BenchmarkEncode/opening           465 ns/op   64 B/op  3 allocs/op
func (e *Encoder) Encode() []byte {
	e.Queue, e.Head, e.Out, e.Tail = e.Queue[:0], 0, e.Out[:0], 0
	e.unnamed, e.at = e.Held.Unnamed, ahead
	e.before()
	e.at = within
	b := e.Batch
	if !b.Traits.Has(Rewritten) && e.RefuseAt == 0 && len(e.Out) == 0 && b.End != EndPart && !e.lacksUnnamed() {
		for i := range b.Messages {
			e.await(&b.Messages[i])
		}
		return e.Bytes
	}
	messages, renames := b.ForServer(), b.Renames(e.State)-b.Here
	for i := range messages {
		if refused := e.add(&messages[i], b.Here+i+1); refused {
			e.addRest(messages[i+1:])
			return e.Out
		}
		if i == renames {
			e.at = renamed
		}
	}
	if (b.End == EndFlush || b.End == EndPart) && e.Tail == 0 {
		e.Out = append(e.Out, flushMessage...)
	}
	return e.Out
}

// before writes what must come before the client's messages.
func (e *Encoder) before() {
	for _, st := range e.Owed {
		e.close(st)
	}
	if e.Takes.Ahead() {
		e.ahead()
	}
	implicit := e.Replays == ReplaysImplicit
	if implicit && e.State.Tx.Modes != (router.Modes{}) {
		e.runUnnamed(e.State.Tx.Modes.Set(), nil, Internal)
	}
	switch {
	case e.Opens():
		e.open()
	case e.Takes == TakesWithin:
		e.takeOver()
	}
	if implicit {
		e.replay(Internal)
	}
	refuses := e.Batch.Traits.Has(CommitsWithin) && e.State.Tx.Phase == session.Idle && e.Batch.RanHere()
	if implicit && e.State.Tx.Did.Has(session.DidRead) || refuses {
		e.run(queried, Internal) // behind which some statements are refused
	}
	if !e.Takes.Ahead() {
		e.drop(Internal)
	}
}

// queried stands for the queries that a transaction ran elsewhere, and for what the proxy executed.
const queried = "SELECT 1"

// drop has the server forget what other sessions left in it that does not tie them to it.
func (e *Encoder) drop(origin Origin) {
	if e.Drops&Plans != 0 {
		e.run("DISCARD PLANS", origin)
	}
	if e.Drops&Sequences != 0 {
		e.run("DISCARD SEQUENCES", origin)
	}
}

// ahead makes the connection carry the session's settings in the same write as the
// batch, but in a transaction of their own: they stay whatever becomes of the batch. If
// it fails there is no sentinel, and by its failure the server discards the batch too.
func (e *Encoder) ahead() {
	if e.Takes == TakesApart {
		e.run("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", Setup)
	}
	e.takeOver()
	e.drop(Setup)
	if e.Takes == TakesApart {
		e.run("COMMIT", Setup)
	}
	e.Out = wire.AppendParse(e.Out, sentinel, "BEGIN", nil)
	e.own(Parse, Setup)
	e.Out = wire.AppendSync(e.Out)
	e.own(Sync, Setup)
	portal := e.portal()
	e.Out = wire.AppendBind(e.Out, []byte(portal), sentinel, noParameters)
	e.own(Bind, Sentinel)
	e.Out = wire.AppendTarget(e.Out, wire.Close, 'S', sentinel)
	e.own(Close, Sentinel)
	e.closePortal(portal, Sentinel)
}

// open brings a server to where the open transaction is.
func (e *Encoder) open() {
	e.run(e.State.Tx.Begin(), Opening)
	for _, text := range e.State.Tx.Chained() {
		e.run(text, Opening)
	}
	if e.Takes == TakesNothing && e.Asserts != nil {
		e.assertBy(e.Asserts.comparing(e.Carries))
	}
	e.replay(Opening)
	if e.State.Tx.Did.Has(session.DidRead) && (e.Batch.SaysModes() || !e.Batch.TakesSnapshot()) {
		e.run(queried, Opening) // it has run a query, of which no server is to know less, now or behind this batch
	}
}

// replay repeats what the transaction has done to settings and savepoints.
func (e *Encoder) replay(origin Origin) {
	log := e.State.Settings.Log()
	for i := range log {
		switch s := &log[i]; s.Kind {
		case session.StepSavepoint:
			e.runUnnamed("SAVEPOINT "+setting.Identifier(s.Name), nil, origin)
		case session.StepText:
			e.runUnnamed(s.Text, nil, origin)
		case session.StepModes:
			e.runUnnamed(s.Modes.Set(), nil, origin)
		case session.StepSet:
			c := e.change(s.Set)
			if !e.Batch.TakesSnapshot() {
				e.runUnnamed(c.SQL(), nil, origin)
				continue
			}
			e.set([]setting.Change{c}, origin)
		}
	}
}

// change is what a server must set to do as the session did.
func (e *Encoder) change(s router.Set) setting.Change {
	s = e.State.Settings.Resolve(s)
	return setting.Change{Name: s.Name, Value: s.Value, Reset: s.Reset, Local: s.Local}
}

// Aborted returns a string that brings a server to where an aborted transaction is of
// which no server knows: what it says last fails, and the block with it.
func Aborted(s *session.State) string {
	return OpenBlock(s) + "; EXECUTE " + setting.Identifier(missingStatement)
}

// OpenBlock returns a string that brings a server to where the open transaction is.
func OpenBlock(s *session.State) string {
	var q strings.Builder
	q.WriteString(s.Tx.Begin())
	for _, text := range s.Tx.Chained() {
		q.WriteString("; " + text)
	}
	for _, step := range s.Settings.Log() {
		switch step.Kind {
		case session.StepSavepoint:
			q.WriteString("; SAVEPOINT " + setting.Identifier(step.Name))
		case session.StepText:
			q.WriteString("; " + step.Text)
		case session.StepModes:
			q.WriteString("; " + step.Modes.Set())
		case session.StepSet:
			q.WriteString("; " + (&Encoder{State: s}).change(step.Set).SQL())
		}
	}
	return q.String()
}

// set runs setQuery for each change.
func (e *Encoder) set(changes []setting.Change, origin Origin) {
	if len(changes) == 0 {
		return
	}
	st := e.Registry.Own(setQuery)
	e.prepareOwn(st, origin)
	var room [128]byte
	for _, c := range changes {
		e.execute(st.Name, appendSet(room[:0], c), Awaited{Kind: Execute, Origin: origin})
	}
}

// portal is the portal for a statement of the proxy's own: the unnamed one, but where the
// client's may be in it, or be asked for, or it would be left in the client's block.
func (e *Encoder) portal() string {
	b := e.Batch
	if e.at != ahead || b.End == EndPart || b.End == EndFlush || b.Traits.Has(Resumes) || e.State.Tx.Phase.InBlock() && !(e.Opens() && b.bindsUnnamed()) {
		return ownName
	}
	return ""
}

// execute binds and runs a prepared statement of the proxy's own.
func (e *Encoder) execute(statement string, parameters []byte, a Awaited) {
	portal := e.portal()
	e.Out = wire.AppendBind(e.Out, []byte(portal), statement, parameters)
	e.Out = wire.AppendExecute(e.Out, portal)
	e.own(Bind, a.Origin)
	e.Queue = append(e.Queue, a)
	e.closePortal(portal, a.Origin)
}

// closePortal makes room for the next one of the same name.
func (e *Encoder) closePortal(name string, origin Origin) {
	if name != "" {
		e.Out = wire.AppendTarget(e.Out, wire.Close, 'P', name)
		e.own(Close, origin)
	}
}

// appendSet adds the parameters of setQuery, as a Bind has them.
func appendSet(p []byte, c setting.Change) []byte {
	p = append(p, 0, 0, 0, 3)
	p = binary.BigEndian.AppendUint32(p, uint32(len(c.Name)))
	p = append(p, c.Name...)
	if c.Reset {
		p = append(p, 0xff, 0xff, 0xff, 0xff)
	} else {
		p = binary.BigEndian.AppendUint32(p, uint32(len(c.Value)))
		p = append(p, c.Value...)
	}
	flag := byte('f')
	if c.Local {
		flag = 't'
	}
	return append(p, 0, 0, 0, 1, flag, 0, 0)
}

// own awaits the answer to a message of the proxy's own.
func (e *Encoder) own(k Kind, origin Origin) {
	e.Queue = append(e.Queue, Awaited{Kind: k, Origin: origin})
}

// await awaits the answer to a message of the client's.
func (e *Encoder) await(m *Message) {
	w := Awaited{Kind: m.Kind, Message: m, Tag: m.Tag}
	switch {
	case m.Kind == Parse && m.Prepared != nil:
		w.Shared = m.Prepared.Statement
	case m.SQL != nil && m.SQL.Makes != nil && (m.Kind == Query || m.Kind == Execute):
		w.Shared = m.SQL.Makes.Statement
	}
	e.Queue = append(e.Queue, w)
}

// run runs a statement of the proxy's own before the client's, prepared like any other.
func (e *Encoder) run(text string, origin Origin) {
	st := e.Registry.Own(text)
	e.prepareOwn(st, origin)
	e.execute(st.Name, nil, Awaited{Kind: Execute, Origin: origin})
}

// prepareOwn prepares a statement of the proxy's own if the server does not hold it.
func (e *Encoder) prepareOwn(st *prepared.Statement, origin Origin) {
	if e.Held.Holds(st) {
		return
	}
	e.Held.Hold(st)
	e.Out = wire.AppendParse(e.Out, st.Name, st.Text, nil)
	e.Queue = append(e.Queue, Awaited{Kind: Parse, Origin: origin, Shared: st})
}

// runUnnamed runs a statement that cannot be shared under a name; makes is what it
// prepares by SQL, nil for nothing.
func (e *Encoder) runUnnamed(text string, makes *prepared.Statement, origin Origin) {
	e.unnamed, e.Held.Unnamed = 0, 0
	e.Out = wire.AppendParse(e.Out, "", text, nil)
	e.own(Parse, origin)
	e.execute("", nil, Awaited{Kind: Execute, Origin: origin, Shared: makes})
}

// addRest adds the Sync after a refused message; the rest would be discarded.
func (e *Encoder) addRest(messages []Message) {
	for i := range messages {
		if messages[i].Kind == Sync {
			e.Out = wire.AppendSync(e.Out)
			e.await(&messages[i])
			return
		}
	}
	e.Out = append(e.Out, flushMessage...)
}

// lacksUnnamed reports whether the batch uses an unnamed statement that the server does
// not hold.
func (e *Encoder) lacksUnnamed() bool {
	held := e.unnamed
	for i := range e.Batch.Messages {
		m := &e.Batch.Messages[i]
		switch {
		case m.Kind == Parse:
			held = uint64(m.Tag)
		case m.Tag != 0 && uint64(m.Tag) != held:
			return true
		}
	}
	return false
}

// add adds one message as the server is to see it, behind what it needs there. number
// counts it from 1. It reports whether it was refused.
func (e *Encoder) add(m *Message, number int) (refused bool) {
	if m.SQL != nil && m.SQL.Needs != nil {
		e.ensure(m.SQL.Needs)
	}
	for i := range m.Gives {
		e.give(&m.Gives[i])
	}
	if m.SQL != nil && m.SQL.Makes != nil && (m.Kind == Query || m.Kind == Bind) {
		// Another client's PREPARE may have made it here already.
		e.unprepare(m.SQL.Makes.Statement)
	}
	refusal := m.Refusal
	if e.RefuseAt == number {
		refusal = e.Refusal
	}
	if m.SQL != nil && m.SQL.Makes != nil && refusal == nil && !m.Here && (m.Kind == Query || m.Kind == Execute) {
		e.Held.Hold(m.SQL.Makes.Statement) // what comes behind it in the batch may execute it
	}
	switch {
	case m.Here:
		e.Queue = append(e.Queue, Awaited{Kind: m.Kind, Origin: Here, Message: m})
		return false
	case refusal != nil:
		e.Out = wire.AppendBind(e.Out, nil, missingStatement, nil)
		e.Queue = append(e.Queue, Awaited{Kind: Bind, Message: m, Refusal: refusal})
		return true
	case m.Kind == Parse && m.Prepared != nil:
		e.addParse(m)
		return false
	}
	e.addBytes(m)
	e.await(m)
	if m.Plan != nil && m.Kind.Executes() && m.Plan.Flags.Has(router.FlagForgets) {
		e.Renew = true // nothing is held behind it
	}
	return false
}

// addBytes adds the bytes of a message, with the server's names in place of the client's.
func (e *Encoder) addBytes(m *Message) {
	frame := e.Bytes[m.Off : m.Off+m.Size]
	e.Tail = e.Batch.Tail // of the only message, if it has one
	named := m.Prepared != nil || m.Tag != 0
	switch {
	case m.Kind == Parse && m.Tag != 0:
		e.unnamed = uint64(m.Tag)
		if m.Text == "" {
			e.Out = append(e.Out, frame...)
			return
		}
		_, _, types, _ := wire.ParseParts(frame)
		e.Out = wire.AppendParse(e.Out, "", m.Text, types)
	case m.Kind == Bind && named:
		portal, _, rest, _ := wire.BindParts(frame)
		name := e.ensureNamed(m)
		at := len(e.Out)
		e.Out = wire.AppendBind(e.Out, portal, name, rest)
		wire.Lengthen(e.Out[at:], e.Tail)
	case m.Kind == Describe && named:
		e.Out = wire.AppendTarget(e.Out, wire.Describe, 'S', e.ensureNamed(m))
	case m.Kind == Query && m.Text != "":
		e.Out = wire.AppendQuery(e.Out, m.Text)
	default:
		e.Out = append(e.Out, frame...)
	}
}

// ensureNamed makes sure the server holds the statement m uses and returns its name there.
func (e *Encoder) ensureNamed(m *Message) string {
	if m.Prepared != nil {
		e.ensure(m.Prepared)
		return m.Prepared.Name
	}
	if e.unnamed != uint64(m.Tag) {
		text, types := e.Batch.Unnamed(e.Bytes, e.Unnamed, m.Parse)
		e.Out = wire.AppendParse(e.Out, "", string(text), types)
		e.Queue = append(e.Queue, Awaited{Kind: Parse, Origin: Internal, Tag: m.Tag})
		e.unnamed = uint64(m.Tag)
	}
	return ""
}

// addParse adds a client's Parse of a named statement, which the server may hold already.
func (e *Encoder) addParse(m *Message) {
	st := m.Prepared.Statement
	if e.State.Tx.Phase.Failed() && (m.Prepared.Plan == nil || m.Prepared.Plan.Tx.Verb == router.TxNone) {
		// The server will refuse it, as it must; the name there stays what it is.
		e.Out = wire.AppendParse(e.Out, "", st.Text, []byte(st.Types))
		e.Queue = append(e.Queue, Awaited{Kind: Parse, Message: m})
		return
	}
	// In a part of a batch, its Describe could not be sent again if it has become something else.
	changed := e.Unasked && (e.at == renamed || e.State.NamesChanged())
	if e.Held.Holds(st) && !e.Renew && !changed {
		e.Queue = append(e.Queue, Awaited{Kind: Parse, Origin: Here, Message: m})
		return
	}
	e.unprepare(st)
	e.Held.Hold(st)
	e.Out = wire.AppendParse(e.Out, st.Name, st.Text, []byte(st.Types))
	e.await(m)
}

// ensure prepares a statement on the server if it is not there.
func (e *Encoder) ensure(p *session.Prepared) {
	if e.holds(p) {
		return
	}
	if p.SQL != nil && p.SQL.Needs != nil {
		e.ensure(p.SQL.Needs)
	}
	now := e.State.Meaning(e.Definitions)
	if e.at == renamed {
		now.Definitions = 0
	}
	if p.ParsedNow(now, e.Registry); e.holds(p) {
		return
	}
	st := p.Statement
	e.unprepare(st)
	e.Held.Hold(st)
	if !p.MeansSame(now) && (st.SQL != "" || now.Definitions == 0 && (e.at == renamed || e.Unasked || p.Told.Types == "")) {
		e.Held.Pass(st) // no other session is to take it for its own
	}
	if st.SQL != "" {
		e.runUnnamed(st.SQL, st, Internal)
		return
	}
	e.Out = wire.AppendParse(e.Out, st.Name, st.Text, []byte(st.Types))
	e.Queue = append(e.Queue, Awaited{Kind: Parse, Origin: Internal, Shared: st})
}

// holds reports whether the server has a statement, as it is to be.
func (e *Encoder) holds(p *session.Prepared) bool { return e.Held.Holds(p.Statement) && !e.Renew }

// give prepares a statement under its client's name. The client's unnamed statement and portal
// are left alone: what gives may be a portal's Execute.
func (e *Encoder) give(g *Given) {
	switch st := g.Statement.Statement; {
	case g.Statement.Naming == session.BothNames:
	case st.SQL == "":
		e.Out = wire.AppendTarget(e.Out, wire.Close, 'S', g.Name) // an earlier one
		e.own(Close, Internal)
		e.Out = wire.AppendParse(e.Out, g.Name, st.Text, []byte(st.Types))
		e.Queue = append(e.Queue, Awaited{Kind: Parse, Origin: Internal, Given: g})
	default:
		e.Out = wire.AppendTarget(e.Out, wire.Close, 'S', ownName) // left by one that failed
		e.own(Close, Internal)
		e.Out = wire.AppendParse(e.Out, ownName, st.Named(setting.Identifier(g.Name)), nil)
		e.Out = wire.AppendBind(e.Out, []byte(ownName), ownName, nil)
		e.Out = wire.AppendExecute(e.Out, ownName)
		e.Out = wire.AppendTarget(e.Out, wire.Close, 'P', ownName)
		e.Out = wire.AppendTarget(e.Out, wire.Close, 'S', ownName)
		e.own(Parse, Internal)
		e.own(Bind, Internal)
		e.Queue = append(e.Queue, Awaited{Kind: Execute, Origin: Internal, Given: g})
		e.own(Close, Internal)
		e.own(Close, Internal)
	}
}

// unprepare closes a statement on the server if it is held there.
func (e *Encoder) unprepare(st *prepared.Statement) {
	if e.Held.Holds(st) {
		e.Held.Drop(st)
		e.close(st)
	}
}

func (e *Encoder) close(st *prepared.Statement) {
	e.Out = wire.AppendTarget(e.Out, wire.Close, 'S', st.Name)
	e.Queue = append(e.Queue, Awaited{Kind: Close, Origin: Internal, Shared: st})
}
