// Package analysis finds out what a client's messages are and need: the plans of their
// statements, what names mean, what the tenant audit says, and which of them the proxy
// answers itself. It executes nothing.
package analysis

import (
	"encoding/binary"
	"errors"
	"weak"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/interrupt"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// Session is what analysis looks at of a client's session.
type Session struct {
	ID, Batch   uint64 // the session's number, and its batch's
	Application string
	Service     *upstream.Service
	Up          *upstream.Pools
	State       *session.State
	Names       *session.Names
	Lease       Lease
	Front       *wire.Conn // the batch's bytes are in its buffer
	Interrupt   *interrupt.Interrupt
	Hints       *int // that were misspelt in the session so far
}

// Lease says whether the session holds a server connection.
type Lease uint8

// What a session may hold.
const (
	NotHeld  Lease = iota
	Held           // one that is at rest or in a transaction
	MidBatch       // one that has messages since the last Sync
)

// Analysis finds out what the messages of a batch are and need. It changes nothing of the
// session: what the batch does to names is in its overlay, what it does to the session's
// state before a server is needed, in preview.
type Analysis struct {
	Session
	b     *batch.Batch
	names *session.Overlay
	room  *session.State // for preview
	// preview is the session's state once the messages so far are answered; nil as long as
	// that is what it is now.
	preview *session.State

	said  []tenantSaid // by the first heard messages of the batch; see hearTenants
	heard int
}

// New begins the analysis of a batch, which is empty. room is memory to be used until it
// is complete.
func New(s Session, b *batch.Batch, names *session.Overlay, room *session.State) Analysis {
	return Analysis{Session: s, b: b, names: names, room: room}
}

// state is the session's as the next message will find it.
func (a *Analysis) state() *session.State {
	if a.preview != nil {
		return a.preview
	}
	return a.State
}

// Message adds one message to the batch and reports whether it is the last.
func (a *Analysis) Message(typ byte, frame []byte, off int) (done bool, err error) {
	if typ == wire.Terminate {
		return true, ErrTerminate
	}
	m := &batch.Message{Off: off, Size: len(frame)}
	if a.b.Traits&(batch.Skipped|batch.Refused) != 0 {
		return a.skip(typ, m, frame), nil
	}
	switch typ {
	case wire.Query:
		m.Kind, a.b.End = batch.Query, batch.EndQuery
		a.query(m, frame)
		return true, nil
	case wire.FunctionCall:
		m.Kind, m.Plan, a.b.End = batch.FunctionCall, functionCallPlan, batch.EndQuery
		a.forServer(m)
		return true, nil
	case wire.Parse:
		m.Kind = batch.Parse
		a.parse(m, frame)
	case wire.Bind:
		m.Kind = batch.Bind
		a.bind(m, frame)
	case wire.Describe:
		m.Kind = batch.Describe
		a.describe(m, frame)
	case wire.Execute:
		m.Kind = batch.Execute
		a.execute(m, frame)
		if a.b.Traits.Has(batch.CopiesIn) {
			// What follows is for the COPY, or for nobody if it is refused.
			a.b.End = batch.EndPart
			return true, nil
		}
	case wire.Close:
		m.Kind = batch.Close
		a.close(m, frame)
	case wire.Sync:
		a.sync(m, frame)
		return true, nil
	case wire.Flush:
		a.flush(m, frame)
		return true, nil
	default: // copy messages after a failed COPY are ignored, as PostgreSQL does
		a.b.Traits |= batch.Rewritten
	}
	return false, nil
}

// skip passes over a message that the server would discard, up to Sync.
func (a *Analysis) skip(typ byte, m *batch.Message, frame []byte) (done bool) {
	a.b.Traits |= batch.Rewritten
	switch {
	case typ == wire.Sync:
		a.sync(m, frame)
	case typ == wire.Flush && a.b.Traits.Has(batch.Refused):
		a.b.End = batch.EndFlush // the client awaits the refusal
	default:
		return false
	}
	return true
}

func (a *Analysis) sync(m *batch.Message, frame []byte) {
	m.Kind, a.b.End = batch.Sync, batch.EndSync
	a.b.Traits |= batch.HasSync
	if len(frame) > wire.HeaderSize {
		a.b.Note(malformedPlan) // the server's error comes before its ReadyForQuery
	}
	a.b.Add(m)
}

func (a *Analysis) flush(m *batch.Message, frame []byte) {
	if a.b.End = batch.EndFlush; len(frame) > wire.HeaderSize {
		a.malformed(m)
	}
}

// forServer adds a message that a server must answer, with its plan.
func (a *Analysis) forServer(m *batch.Message) {
	a.b.Note(m.Plan)
	a.b.Add(m)
}

// malformed adds a message that only a server can reject.
func (a *Analysis) malformed(m *batch.Message) {
	a.b.Note(malformedPlan)
	a.b.Add(m)
}

// functionCallPlan is the plan of a function called by number, which is not looked up:
// it may leave anything behind.
var functionCallPlan = &router.Plan{
	Class: router.ClassUnknown, Target: router.TargetPrimary, Reason: router.ReasonFunctionCall,
	Pins: router.PinOpaque, Statements: 1,
}

// malformedPlan is the plan of a message that only a server can reject.
var malformedPlan = &router.Plan{Class: router.ClassUnknown, Target: router.TargetPrimary, Reason: router.ReasonUnparsed}

// ErrTerminate is the client's orderly end.
var ErrTerminate = errors.New("terminate")

// awaits reports whether the batch waits for a server already.
func (a *Analysis) awaits() bool { return a.b.Traits.Has(batch.NeedsServer) || (a.Lease == MidBatch) }

// executable reports whether the proxy itself executes a statement.
func (a *Analysis) executable(p *router.Plan) bool {
	if p.SQL.Verb >= router.PreparedDeallocate && p.Own.Verb == router.OwnNone {
		s := a.state()
		st := a.names.Statement([]byte(p.SQL.Name))
		named := p.SQL.Verb == router.PreparedDeallocateAll || st != nil && st.Naming != session.BothNames
		if (s.Tx.Phase.InBlock() || a.b.Traits.Has(batch.Begins)) && !s.Tx.Did.Has(session.DidQuery) {
			return false // a server takes a snapshot for it, behind which modes are refused
		}
		return !s.Tx.Phase.Failed() && (named || s.Pins&mayPrepare == 0) // only its server may know the name
	}
	if p.Flags.Has(router.FlagStays) && a.b.RanHere() {
		return false // a server refuses it behind another statement
	}
	held, awaits, known := a.Lease != NotHeld, a.awaits(), a.Up.Database.Customs.Known
	if len(p.Parts) == 0 || p.SetOnly {
		return a.state().Executable(p, held, awaits, known)
	}
	if p.Target != router.TargetAny || held || awaits {
		return false
	}
	return a.executableParts(p, known)
}

// executableParts is executable of a string of several statements, each of which finds the
// session as those before it leave it.
func (a *Analysis) executableParts(p *router.Plan, known func(name string) bool) bool {
	var s session.State
	a.state().CopyTo(&s)
	for _, part := range p.Parts {
		if !s.Executable(part, false, false, known) {
			return false
		}
		s.Execute(part)
	}
	return true
}

// foresee takes the effect of a statement the proxy will execute into the preview.
func (a *Analysis) foresee(p *router.Plan) {
	if p.Tx.Verb == router.TxNone && !p.SetOnly && !p.Flags.Has(router.FlagForgets) {
		return
	}
	if a.preview == nil {
		a.State.CopyTo(a.room)
		a.preview = a.room
	}
	a.preview.Execute(p)
}

func (a *Analysis) query(m *batch.Message, frame []byte) {
	text, ok := wire.QueryText(frame)
	if !ok {
		m.Plan = malformedPlan
		a.forServer(m)
		return
	}
	a.names.DropUnnamed() // as PostgreSQL's simple query does
	a.names.DefinePortal("", session.Portal{})
	p := a.plan(text)
	a.misspelt(p, text)
	if len(a.b.Messages) == 0 && a.executable(p) {
		m.Plan = p
		if refused := a.refusal(m); refused != nil {
			a.b.RefuseQuery(refused)
			return
		}
		a.b.AnswerHere(m)
		return
	}
	if p.SQL.Verb != router.PreparedNone {
		if refused := a.rewriteSQL(m, p, text); refused != nil {
			a.b.RefuseQuery(refused)
			return
		}
		p = a.planOf(m.SQL, p)
		if _, ok := batch.BoundSets(p, nil); !ok {
			p = batch.Unfollowed(p)
		}
	}
	if p.Tenant != nil {
		if refused := a.audit(audit.Statement{Plan: p, Text: text, Shown: shown(m.SQL, text)}); refused != nil {
			a.b.RefuseQuery(refused)
			return
		}
	}
	m.Plan = p
	a.give(m)
	a.forServer(m)
}

func (a *Analysis) parse(m *batch.Message, frame []byte) {
	name, text, types, ok := wire.ParseParts(frame)
	if !ok {
		a.malformed(m)
		return
	}
	p := a.plan(text)
	a.misspelt(p, text)
	here := a.executable(p) || p.Class == router.ClassEmpty && a.state().Tx.Phase == session.AbortedDeferred // only Bind is refused
	if p.SQL.Verb != router.PreparedNone && !here {
		if refused := a.rewriteSQL(m, p, text); refused != nil {
			a.b.Refuse(refused)
			return
		}
		if m.Text != "" {
			text = []byte(m.Text)
		}
		p = a.planOf(m.SQL, p)
	}
	if len(name) == 0 {
		m.Tag = a.Names.NextTag(a.ID)
		a.names.Parse(session.Unnamed{Tag: m.Tag, Plan: p, SQL: m.SQL}, len(a.b.Messages)+1)
	} else if !a.parseNamed(m, name, text, types, p) {
		return
	}
	if m.Defines = p; here || a.parsable(m.Prepared) {
		a.b.AnswerHere(m)
		return
	}
	a.b.Note(p)
	a.b.Add(m)
}

// parseNamed defines a named statement in the batch; false if the name is taken.
func (a *Analysis) parseNamed(m *batch.Message, name, text, types []byte, p *router.Plan) bool {
	refusedAnyway := a.state().Tx.Phase.Failed() && p.Tx.Verb == router.TxNone && !a.b.EndsFailed() // and that comes first
	if a.names.Statement(name) != nil && !refusedAnyway {
		a.b.Refuse(errRepeated(string(name)))
		return false
	}
	a.b.Traits |= batch.Rewritten
	m.Name = string(name)
	shared := a.Service.Registry.Statement(text, types, a.reading(p, text))
	m.Prepared = a.newPrepared(shared, p, m.SQL)
	a.names.Define(m.Name, m.Prepared)
	return true
}

// parsable reports whether a server need not be asked to parse a named statement
// now: one has, for the same user and catalog, names mean to this session what they
// usually do, and no server takes part yet. It is prepared where it is first used.
func (a *Analysis) parsable(p *session.Prepared) bool {
	s := a.state()
	if p == nil || a.awaits() || (a.Lease != NotHeld) || s.Tx.Phase.Failed() || a.Up.Database.Stale() || !s.UsualNames() {
		return false
	}
	parsed, ok := a.Up.Parsed.Get(p.Statement.Name)
	return ok && parsed == weak.Make(p.Snapshot)
}

// lookUp finds the statement a message names: its plan is nil, with a refusal noted, if there
// is none.
func (a *Analysis) lookUp(m *batch.Message, name []byte) *router.Plan {
	if len(name) == 0 {
		u, parse := a.names.Unnamed()
		if u.Tag == 0 {
			a.b.Refuse(wire.Errorf("26000", "unnamed prepared statement does not exist"))
			return nil
		}
		m.Tag, m.Parse, m.SQL = u.Tag, parse, u.SQL
		return u.Plan
	}
	p := a.names.Statement(name)
	if p == nil {
		a.b.Refuse(wire.Errorf("26000", "prepared statement \"%s\" does not exist", name))
		return nil
	}
	a.b.Traits |= batch.Rewritten
	m.Prepared, m.SQL = p, p.SQL
	return a.refresh(p)
}

func (a *Analysis) bind(m *batch.Message, frame []byte) {
	portal, name, values, ok := wire.BindParts(frame)
	if !ok {
		a.malformed(m)
		return
	}
	p := a.lookUp(m, name)
	if p == nil {
		return
	}
	if a.state().Tx.Phase.Failed() {
		if refused := a.miscounted(m, name, values); refused != nil {
			a.b.Refuse(refused)
			return
		}
	}
	held := session.Portal{Plan: p, SQL: m.SQL, Prepared: m.Prepared, Parse: m.Parse}
	if len(p.Sets) > 0 {
		held.Params = batch.BoundParameters(values, a.types(m))
		if _, ok := batch.BoundSets(p, held.Params); !ok {
			p = batch.Unfollowed(p)
			held.Plan = p
		}
	}
	if p.Tenant != nil {
		if refused := a.auditBind(m, p, values); refused != nil {
			a.b.Refuse(refused)
			return
		}
	}
	m.Name = string(portal)
	held.Here = len(portal) == 0 && a.executable(p)
	m.Portal = held
	a.names.DefinePortal(m.Name, held)
	if held.Here {
		a.b.AnswerHere(m)
		return
	}
	if len(portal) > 0 {
		a.b.Traits |= batch.OpensCursor
	}
	a.b.Note(p)
	a.b.Add(m)
}

// miscounted is the refusal of a Bind with too few or too many parameters, nil if their
// number is right. Servers check that themselves; but one that does not hold the statement
// cannot be made to while the transaction is aborted, which comes second.
func (a *Analysis) miscounted(m *batch.Message, name, values []byte) *wire.Error {
	var text string
	if m.Prepared != nil {
		text = m.Prepared.Text
	} else {
		t, _ := a.b.Unnamed(a.Front.Buffered(), &a.Names.Unnamed, m.Parse)
		text = string(t)
	}
	got, ok := wire.BindCount(values)
	if !ok {
		return nil // malformed
	}
	want := grammar.Parameters(text)
	if types := a.types(m); len(types) >= 2 {
		want = max(want, int(binary.BigEndian.Uint16(types)))
	}
	if got == want {
		return nil
	}
	return wire.Errorf("08P01", "bind message supplies %d parameters, but prepared statement \"%s\" requires %d", got, name, want)
}

// types are the parameter types that the statement of m was declared with.
func (a *Analysis) types(m *batch.Message) []byte {
	if m.Prepared != nil {
		return []byte(m.Prepared.Types)
	}
	_, types := a.b.Unnamed(a.Front.Buffered(), &a.Names.Unnamed, m.Parse)
	return types
}

func (a *Analysis) describe(m *batch.Message, frame []byte) {
	kind, name, ok := wire.TargetParts(frame)
	switch {
	case !ok:
		a.b.Note(malformedPlan)
	case kind == 'P':
		held := a.portal(name)
		if held.Here {
			m.Canned = DescribeHere(held.Plan)
			a.b.AnswerHere(m)
			return
		}
		m.Described = held.Prepared
		a.b.Traits |= batch.NeedsServer
	default:
		p := a.lookUp(m, name)
		if p == nil {
			return
		}
		if a.executable(p) {
			m.Canned = append(noParameters[:len(noParameters):len(noParameters)], DescribeHere(p)...)
			a.b.AnswerHere(m)
			return
		}
		m.Described = m.Prepared
		a.b.Note(p)
	}
	a.b.Add(m)
}

func (a *Analysis) execute(m *batch.Message, frame []byte) {
	portal, limit, ok := wire.ExecuteParts(frame)
	if !ok {
		a.malformed(m)
		return
	}
	held := a.portal(portal)
	m.Plan, m.SQL, m.Prepared, m.Params = held.Plan, held.SQL, held.Prepared, held.Params
	if m.Parse = held.Parse; held.Here {
		a.executeHere(m)
		a.names.DefinePortal("", held.Ran())
		return
	}
	if limit > 0 && len(portal) == 0 {
		a.b.Traits |= batch.OpensCursor
	}
	if held.Plan != nil && held.Plan.Flags.Has(router.FlagCopyIn) {
		a.b.Traits |= batch.CopiesIn
	}
	if refused := a.misnamed(m.SQL); refused != nil {
		a.b.Refuse(refused)
		return
	}
	if m.SQL != nil && m.SQL.Makes != nil {
		a.names.Define(m.SQL.Name, m.SQL.Makes)
	}
	if held.Plan != nil {
		a.forgets(held.Plan)
		a.give(m)
	}
	a.b.Traits |= batch.NeedsServer
	a.b.Add(m)
}

// executeHere adds the execution of a portal that was bound for the proxy to execute.
func (a *Analysis) executeHere(m *batch.Message) {
	p := m.Plan
	if m.Parse == session.PortalRan || !a.executable(p) { // no longer: the transaction failed or ended, or a server has taken part
		switch {
		case a.state().Tx.Phase.Failed():
			a.b.Refuse(ErrAborted)
		case m.Parse == session.PortalRan:
			a.b.Refuse(wire.Errorf("55000", "portal \"\" cannot be run"))
		default:
			a.b.Refuse(wire.Errorf("34000", "portal \"\" does not exist"))
		}
		return
	}
	if refused := a.refusal(m); refused != nil {
		a.b.Refuse(refused)
		return
	}
	a.foresee(p)
	if p.SQL.Verb == router.PreparedDeallocate {
		a.names.Define(p.SQL.Name, nil)
	}
	a.forgets(p)
	a.b.AnswerHere(m)
}

// forgets takes the names away of which none is left behind a statement.
func (a *Analysis) forgets(p *router.Plan) {
	if p.SQL.Verb == router.PreparedDeallocateAll || p.Flags.Has(router.FlagForgets) {
		a.names.ForgetAll()
	}
}

// portal is what a portal holds, which may have been bound in an earlier batch.
func (a *Analysis) portal(name []byte) session.Portal {
	held, bound := a.names.Portal(name)
	if !bound {
		held.Parse = min(held.Parse, 0)
	}
	if !held.Here && (!bound || held.Plan == nil) { // closed in this one: the server says so
		a.b.Traits |= batch.Resumes
	}
	return held
}

func (a *Analysis) close(m *batch.Message, frame []byte) {
	kind, name, ok := wire.TargetParts(frame)
	m.Target = kind
	if ok && kind == 'S' {
		// A server's copy is shared; only the client's name for it goes.
		if len(name) == 0 {
			a.names.DropUnnamed()
		} else if m.Prepared = a.names.Statement(name); m.Prepared != nil {
			m.Name = string(name)
			a.names.Define(m.Name, nil)
		}
		if len(name) > 0 && a.state().Pins&router.PinPrepared != 0 && (m.Prepared == nil || m.Prepared.Naming == session.BothNames) {
			a.b.Traits |= batch.NeedsServer // which has it under the client's name
			a.b.Add(m)
			return
		}
		a.b.AnswerHere(m)
		return
	}
	if !ok {
		a.malformed(m)
		return
	}
	m.Name = string(name)
	a.names.DefinePortal(m.Name, session.Portal{})
	if a.Lease == NotHeld && !a.b.Traits.Has(batch.NeedsServer) {
		a.b.AnswerHere(m) // no server, no portal
		return
	}
	a.b.Traits |= batch.NeedsServer
	a.b.Add(m)
}
