// Package batch is what a client asked at once, and one try to have a server answer it.
// A Batch is a simple query, a function call, or the messages up to Sync or Flush; it does
// not change once it is analysed. An Attempt is what is sent for it and what is awaited,
// anew for each try. The package turns bytes into values and values into bytes: it knows
// no sockets.
package batch

import (
	"slices"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// Kind is what a message of the client asks for.
type Kind uint8

// The kinds of messages.
const (
	Parse Kind = iota
	Bind
	Describe
	Execute
	Close
	Sync
	Query
	FunctionCall
)

// Executes reports whether a message of this kind runs a statement.
func (k Kind) Executes() bool { return k == Execute || k == Query || k == FunctionCall }

// Ends reports whether a message of type typ ends the answer to one of kind k.
// https://www.postgresql.org/docs/current/protocol-flow.html
func (k Kind) Ends(typ byte) bool {
	switch k {
	case Parse:
		return typ == wire.ParseComplete
	case Bind:
		return typ == wire.BindComplete
	case Describe:
		return typ == wire.RowDescription || typ == wire.NoData
	case Execute:
		return typ == wire.CommandComplete || typ == wire.EmptyQueryResponse || typ == wire.PortalSuspended
	case Close:
		return typ == wire.CloseComplete
	case Sync, Query, FunctionCall:
	}
	return typ == wire.ReadyForQuery
}

// Message is one message of a Batch, with what analysis found out about it.
type Message struct {
	Kind Kind
	Here bool // the proxy answers it: no server is sent it

	Off, Size int // its bytes in the batch's

	Target   byte              // Close: 'S' for a statement, 'P' for a portal
	Name     string            // of the statement that Parse defines or Close gives up, or of the portal
	Prepared *session.Prepared // the named statement it defines or uses
	Tag      session.Tag       // of the unnamed statement it defines or uses
	Parse    int               // 1 + the message that parsed that; 0 is an earlier batch
	SQL      *session.SQLPrepared
	// Described is the statement that Describe is of, itself or by a portal of it.
	Described *session.Prepared
	// Gives are the statements that must be there under the client's names: what runs names them.
	Gives  []Given
	Drops  []string       // names of statements that the text deallocates among other things
	Portal session.Portal // what Bind makes

	Defines *router.Plan      // Parse: the plan of the statement it defines
	Plan    *router.Plan      // Execute, Query, FunctionCall: what runs; nil if nobody knows
	Params  []router.Argument // bound, if its settings depend on them

	Text    string      // in place of the message's text, if that had to be rewritten
	Canned  []byte      // Here: the answer, if it is always the same
	Refusal *wire.Error // the proxy's own error, in place of a server's
}

// BindsThere reports whether a server is to bind a named prepared statement.
func (m *Message) BindsThere() bool {
	return m.Kind == Bind && m.Prepared != nil && !m.Here && m.Refusal == nil
}

// Given is a prepared statement and the client's name of it.
type Given struct {
	Name      string
	Statement *session.Prepared
}

// Sets returns the changes of settings that the message makes, with its parameters in
// place. followed is false if they could not be put in place.
func (m *Message) Sets() (sets []router.Set, followed bool) { return BoundSets(m.Plan, m.Params) }

// renames reports whether the message sets what decides what names mean, as far as is known.
func (m *Message) renames() bool {
	if changes, followed := m.Sets(); followed && len(changes) > 0 {
		return slices.ContainsFunc(changes, func(set router.Set) bool { return session.DecidesNames(set.Name) })
	}
	return sets(m.Plan, session.DecidesNames)
}

// Parts are the plans of the statements of a string; nil if it is one, or taken as one.
func (m *Message) Parts() []*router.Plan {
	if m == nil || m.Plan == nil || m.Kind != Query {
		return nil
	}
	return m.Plan.Parts
}

// BoundSets returns a plan's changes of settings with bound parameters in place; false if the
// session cannot follow them.
func BoundSets(p *router.Plan, params []router.Argument) ([]router.Set, bool) {
	for _, set := range p.Sets {
		if set.Param|set.NameParam|set.LocalParam != 0 {
			return bindSets(p, params)
		}
	}
	return p.Sets, true
}

func bindSets(p *router.Plan, params []router.Argument) ([]router.Set, bool) {
	sets := make([]router.Set, len(p.Sets))
	for i, set := range p.Sets {
		var ok bool
		if sets[i], ok = set.Bound(params); !ok {
			return nil, false
		}
	}
	return sets, true
}

// Touches returns the custom settings that the message may set.
func (m *Message) Touches() []string {
	sets, ok := m.Sets()
	if !ok || len(sets) == 0 {
		return m.Plan.Touches
	}
	names := make([]string, len(sets))
	for i := range sets {
		names[i] = sets[i].Name
	}
	return names
}

// Unfollowed returns the plan of a statement whose settings the session cannot follow after all.
//
//go:noinline // see Batch.Add
func Unfollowed(p *router.Plan) *router.Plan {
	q := *p
	for _, set := range q.Sets {
		if set.NameParam != 0 {
			q.Pins |= router.PinOpaque
		}
	}
	q.Sets, q.SetOnly = nil, false
	q.Target, q.Pins = router.TargetPrimary, q.Pins|router.PinSetting|router.PinTemp
	q.Flags |= router.FlagSetsState | router.FlagSetsLocal
	return &q
}

// commits reports whether a message may end its transaction.
func commits(m *Message) bool {
	return m.Plan.Tx.Verb == router.TxCommit || m.Plan.CommitsWithin()
}

// Statement returns the text and the parameter types that a Parse of the batch's bytes
// defines.
func (m *Message) Statement(bytes []byte) (text, types []byte) {
	_, text, types, _ = wire.ParseParts(bytes[m.Off : m.Off+m.Size])
	if m.Text != "" {
		text = []byte(m.Text)
	}
	return text, types
}

// Parsed gives the statement that a Parse defines its name: its ParseComplete is sent.
// bytes are the batch's.
func (m *Message) Parsed(n *session.Names, bytes []byte) {
	switch {
	case m.Prepared != nil:
		n.Define(m.Name, m.Prepared)
	case m.Tag != 0:
		text, types := m.Statement(bytes)
		n.DefineUnnamed(session.Unnamed{Tag: m.Tag, Text: text, Types: types, Plan: m.Defines, SQL: m.SQL})
	}
}

// Closed takes away the name that a Close gives up: its CloseComplete is sent.
func (m *Message) Closed(n *session.Names) {
	switch {
	case m.Target == 'P':
		n.ClosePortal(m.Name)
	case m.Name != "":
		n.Forget(m.Name)
	default:
		n.DropUnnamed()
	}
}
