package session

import (
	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// Names are the session's prepared statements and portals. A name exists from when its
// ParseComplete or BindComplete is sent; a batch sees its own before through an Overlay.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
type Names struct {
	statements map[string]*Prepared
	most       int // of them since the map was made
	Unnamed    Unnamed
	portal     Portal            // the unnamed one
	portals    map[string]Portal // named ones of the transaction
	tags       uint32            // given so far
}

// Prepared is a named prepared statement of the session.
type Prepared struct {
	*prepared.Statement
	First    *prepared.Statement // what it was as the client parsed it
	Under    Meaning             // of names then
	Plan     *router.Plan
	Snapshot *catalog.Snapshot // what Plan was made with
	Told     Told
	SQL      *SQLPrepared
	Naming   Naming
}

// Naming says under which names the session's connection knows a statement.
type Naming uint8

// The namings.
const (
	ServersName Naming = iota // the shared one, if it has it at all
	BothNames                 // the client's too
)

// SQLPrepared is what a PREPARE makes, an EXECUTE or DEALLOCATE needs on its server first,
// or a DEALLOCATE ends.
type SQLPrepared struct {
	Makes, Needs, Ends *Prepared
	Name               string // the client's name of it
}

// Told is what the client was told of a statement.
type Told struct {
	Rows  uint64 // a hash of their description; 0 is nothing
	Types string // of its parameters, as in a Parse frame; empty if it was not told
	Names Meaning
}

// Meaning is what the names in a text meant to a session at a moment.
type Meaning struct {
	// Definitions is 1 + how often the catalog was known to have changed; 0 is that the session may
	// have seen objects that others do not, or have set what is known to its server alone.
	Definitions uint64
	Settings    setting.Settings
	Known       Knowledge // of Settings, which otherwise are not those in force
}

// Meaning is what names mean to the session now, the catalog having changed so often.
func (s *State) Meaning(definitions uint64) Meaning {
	m := Meaning{Settings: s.Settings.Now(), Known: s.Known}
	if !s.SeesOwnObjects() && s.InForceKnown() {
		m.Definitions = definitions + 1
	}
	return m
}

// Same reports whether names are sure to mean the same at both moments.
func (m Meaning) Same(now Meaning) bool {
	return m.Definitions != 0 && m.Definitions == now.Definitions && sameNames(m.Settings, now.Settings)
}

// SameButPath reports whether names are sure to mean the same at both moments under the same search_path.
func (m Meaning) SameButPath(now Meaning) bool {
	return m.Definitions != 0 && m.Definitions == now.Definitions && same(m.Settings, now.Settings, whose)
}

// SameSettings reports whether names are sure to be looked up by the same settings at both moments.
func (m Meaning) SameSettings(now Meaning) bool {
	return m.Known == Known && now.Known == Known && sameNames(m.Settings, now.Settings)
}

// MeansSame reports whether names in it that decide what a parameter is mean what they meant when its
// client parsed it.
func (p *Prepared) MeansSame(now Meaning) bool {
	return !p.Plan.Uses || now.Definitions != 0 && p.Under.SameSettings(now)
}

// ParsedNow sees to it that a statement that is parsed anew, when names may mean something else than they
// did, has the parameters it had: those that its client was told of, as values are sent by these. Those that
// nobody was told of become what the names mean now, for this session alone.
func (p *Prepared) ParsedNow(now Meaning, known *prepared.Registry) {
	switch {
	case p.Statement.SQL != "":
	case p.Told.Types != "":
		if p.Told.Types != p.Types && p.Plan.Uses && !p.Under.Same(now) {
			p.Statement = known.Statement([]byte(p.Text), []byte(p.Told.Types), p.First.Name)
		}
	case p.MeansSame(now):
		p.Statement = p.First
	default:
		p.Statement = known.Statement([]byte(p.Text), []byte(p.Types), p.First.Name+"\x00"+NamesKey(now.Settings))
	}
}

// Tag tells unnamed statements apart, over all sessions; 0 is none.
type Tag uint64

// NextTag returns the tag of the next unnamed statement of a session.
func (n *Names) NextTag(session uint64) Tag {
	n.tags++
	return Tag(session<<32 | uint64(n.tags))
}

// Unnamed is the unnamed prepared statement. Its text is kept because it may be bound
// after the server connection that parsed it was given back.
type Unnamed struct {
	Tag   Tag
	Text  []byte
	Types []byte
	Plan  *router.Plan
	SQL   *SQLPrepared
}

// Portal is what a portal holds. It lives until its transaction ends: its Execute may
// come in a later batch than its Bind.
type Portal struct {
	Params   []router.Argument // bound, if its settings depend on them
	Plan     *router.Plan
	SQL      *SQLPrepared
	Prepared *Prepared // nil for the unnamed statement
	Here     bool      // the proxy executes it
	Parse    int       // 1 + the message that parsed its unnamed statement, in the batch that bound it; 0 is an earlier one
}

// PortalRan in place of a message says that the proxy has executed the portal.
const PortalRan = -1

// Ran is what is left of a portal once the proxy has executed it.
func (p Portal) Ran() Portal {
	switch {
	case !p.Here || p.Plan.Class == router.ClassEmpty:
		return p
	case p.Plan.Tx.Ends() || p.Plan.Flags.Has(router.FlagForgets):
		return Portal{} // it ended with its transaction
	}
	p.Parse = PortalRan
	return p
}

// RanHere says that the proxy has executed the unnamed portal.
func (n *Names) RanHere() { n.portal = n.portal.Ran() }

// Statement returns the prepared statement of a name, nil if there is none.
func (n *Names) Statement(name string) *Prepared { return n.statements[name] }

// lookUp is Statement without an allocation for the name.
func (n *Names) lookUp(name []byte) *Prepared { return n.statements[string(name)] }

// Define gives a name to a prepared statement.
func (n *Names) Define(name string, p *Prepared) {
	if n.statements == nil {
		n.statements = map[string]*Prepared{}
	}
	n.statements[name] = p
	n.most = max(n.most, len(n.statements))
}

// manyNames is how many a map may have had for its room, which it does not give back, to be
// kept when they are gone.
const manyNames = 1000

// Forget takes a name away.
func (n *Names) Forget(name string) {
	if delete(n.statements, name); len(n.statements) == 0 && n.most > manyNames {
		n.statements, n.most = nil, 0
	}
}

// ForgetAll takes all names away, as DEALLOCATE ALL does.
func (n *Names) ForgetAll() { n.statements = nil }

// All returns the prepared statements by their names. It must not be changed.
func (n *Names) All() map[string]*Prepared { return n.statements }

// DefineUnnamed replaces the unnamed statement. text and types are copied.
func (n *Names) DefineUnnamed(u Unnamed) {
	u.Text = append(n.Unnamed.Text[:0], u.Text...)
	u.Types = append(n.Unnamed.Types[:0], u.Types...)
	n.Unnamed = u
}

// maxUnnamed is the longest text whose memory is kept for the next unnamed statement.
const maxUnnamed = 1024

// DropUnnamed forgets the unnamed statement; a long text's memory is given back.
func (n *Names) DropUnnamed() {
	u := &n.Unnamed
	if cap(u.Text) > maxUnnamed {
		u.Text = nil
	}
	u.Tag, u.Plan, u.SQL = 0, nil, nil
}

// Queried does what a simple query does to the unnamed statement and portal.
func (n *Names) Queried() {
	n.DropUnnamed()
	n.ClosePortal("")
}

// Portal returns what a portal holds; the empty name is the unnamed one.
func (n *Names) Portal(name []byte) Portal {
	if len(name) == 0 {
		return n.portal
	}
	return n.portals[string(name)]
}

// DefinePortal sets what a portal holds.
func (n *Names) DefinePortal(name string, p Portal) {
	if name == "" {
		n.portal = p
		return
	}
	if n.portals == nil {
		n.portals = map[string]Portal{}
	}
	n.portals[name] = p
}

// ClosePortal forgets a portal.
func (n *Names) ClosePortal(name string) {
	if name == "" {
		n.portal = Portal{}
		return
	}
	delete(n.portals, name)
}

// NamedPortals reports whether any portal has a name.
func (n *Names) NamedPortals() bool { return len(n.portals) > 0 }

// ClosePortals forgets all portals, which end with their transaction.
func (n *Names) ClosePortals() {
	n.portal = Portal{}
	if len(n.portals) > manyNames {
		n.portals = nil
	}
	clear(n.portals)
}

// DoubtPortals forgets what the portals hold, not that they exist: an error may have
// come before or after a new one took a name, or an old one gave it up.
func (n *Names) DoubtPortals() {
	if !n.portal.Here {
		n.portal.Plan = nil
	}
	for name, p := range n.portals {
		p.Plan = nil
		n.portals[name] = p
	}
}

// Overlay is what a batch does to the names before any of it is answered: what is
// looked up in a batch are the names as they will be then. The zero value with Base
// set sees the session's own.
type Overlay struct {
	Base       *Names
	statements []named[*Prepared] // nil is a name given up; without a name, all before it are
	portals    []named[Portal]
	unnamed    unnamedState
	parsed     Unnamed // its text and types stay in the batch
	parse      int     // 1 + the message that parsed it
}

type named[T any] struct {
	name  string
	value T
}

type unnamedState uint8

const (
	unnamedOfSession unnamedState = iota
	unnamedParsed
	unnamedDropped
)

// Reset makes o the overlay of a new batch; its memory is used again.
func (o *Overlay) Reset(base *Names) {
	clear(o.statements)
	clear(o.portals)
	*o = Overlay{Base: base, statements: o.statements[:0], portals: o.portals[:0]}
}

// Statement returns the prepared statement of a name, nil if there is none.
func (o *Overlay) Statement(name []byte) *Prepared {
	for i := len(o.statements) - 1; i >= 0; i-- {
		if s := &o.statements[i]; s.name == string(name) || s.name == "" {
			return s.value
		}
	}
	return o.Base.lookUp(name)
}

// ForgetAll takes all names of prepared statements away.
func (o *Overlay) ForgetAll() { o.Define("", nil) }

// Define gives a name to a prepared statement; nil takes it away.
func (o *Overlay) Define(name string, p *Prepared) {
	o.statements = append(o.statements, named[*Prepared]{name, p})
}

// Parse replaces the unnamed statement by that of a message, counted from 1, which has
// its text and types.
func (o *Overlay) Parse(u Unnamed, message int) {
	o.unnamed, o.parsed, o.parse = unnamedParsed, u, message
}

// DropUnnamed forgets the unnamed statement.
func (o *Overlay) DropUnnamed() { o.unnamed, o.parsed, o.parse = unnamedDropped, Unnamed{}, 0 }

// Unnamed returns the unnamed statement, with Tag 0 if there is none, and the message of the
// batch that parses it: counted from 1, 0 is an earlier batch.
func (o *Overlay) Unnamed() (u *Unnamed, message int) {
	if o.unnamed == unnamedOfSession {
		return &o.Base.Unnamed, 0
	}
	return &o.parsed, o.parse
}

// Portal returns what a portal holds, and whether this batch bound it.
func (o *Overlay) Portal(name []byte) (p Portal, bound bool) {
	for i := len(o.portals) - 1; i >= 0; i-- {
		if o.portals[i].name == string(name) {
			return o.portals[i].value, true
		}
	}
	return o.Base.Portal(name), false
}

// DefinePortal sets what a portal holds.
func (o *Overlay) DefinePortal(name string, p Portal) {
	o.portals = append(o.portals, named[Portal]{name, p})
}
