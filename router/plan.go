package router

import (
	"strings"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// Plan is all that is known of one statement text (or one string of several
// statements). It is computed once, is immutable, and is shared by all
// sessions. It holds no parse tree and never executes itself.
type Plan struct {
	Class  Class
	Target Target // the strictest of its statements, before the session is looked at
	Reason Reason // why Target
	Flags  Flags

	// Pins are kinds of session state the text may leave behind, Unpins those it may remove.
	Pins, Unpins PinSet
	// Touches are the custom (dotted) settings it may set, session or local.
	Touches []string
	// Sets are the changes of settings the text makes, in order. They are given only
	// if the text does nothing else to the session's state, so that the session can
	// follow them by itself.
	Sets []Set
	// Resets is the setting of the server that a lone RESET, or SET TO DEFAULT, returns.
	Resets string
	// SetOnly: the text is nothing but SET and RESET, so another server can be brought
	// to the same settings by running it there as well. Without Sets what it sets is
	// known only by asking the server.
	SetOnly bool

	Tx  Tx       // transaction control, when the text is exactly one such statement
	SQL Prepared // PREPARE, EXECUTE or DEALLOCATE, when the text is exactly one such statement
	Own Own      // a setting of the proxy itself (pgweir.*), when the text is exactly that

	// Vacates is the database that nobody else may be connected to while the text, which is
	// exactly one such statement, runs: DROP DATABASE and its like.
	Vacates string

	Statements int      // how many statements the text holds
	Parts      []*Plan  // of several statements, if the session can follow each: their Plans, in order
	Relations  []string // schema-qualified where the text says so; for people and rules
	Functions  []string

	// Makes are the tables it creates of which the text says that they run no code.
	Makes []string

	// Uses: relations, functions, operators or types that users can define are behind the
	// text, be it by a new overload of a built-in function. What Pins, Touches and the like
	// say is then as old as the catalog of Version: while a change of the catalog is known
	// of that this version does not have, the text may leave behind anything. Where Uses is
	// false, no change of the catalog can make the Plan wrong, or of DDL only that of FlagHooks.
	Uses bool

	// Tenant is what the audit found: nil if no tenant table is used, or none is
	// configured. Of its literals, TenantLiteral reads those of another text.
	Tenant *tenant.Finding
	// Reads and Writes are the tables it may read and write, as the catalog of Version
	// shows; under another version they may be any.
	Reads, Writes catalog.Footprint
	Version       uint64

	// Consistency and MinLSN are what comments in the text ask of a read; RuleConsistency
	// is what a rule does. Zero asks nothing.
	Consistency, RuleConsistency Consistency
	MinLSN                       lsn.LSN

	// Variants are for the users and applications some rule names; see For.
	Variants []Variant

	// Statement is what statistics count it as; nil if there are none.
	Statement *insight.Statement

	// neverOnReplica: it is known not to be a read; no rule or hint takes it to a replica.
	neverOnReplica bool

	literals struct {
		plain  bool // no text of its key has any but numbers
		placed bool // texts of its key differ in values that Sets, or those of Parts, have

		tenants []*place // of those among Tenant.Values
		offset  skips    // of OFFSET's
	}
	args []argument // of EXECUTE
}

// String tells what p does and with what, without anything of its text: for logs.
func (p *Plan) String() string {
	var b strings.Builder
	b.WriteString(p.Class.String())
	for _, r := range p.Relations {
		b.WriteString(" " + r)
	}
	for _, f := range p.Functions {
		b.WriteString(" " + f + "()")
	}
	return b.String()
}

// Variant is the Plan for some sessions only.
type Variant struct {
	User, Application string // empty matches all
	Plan              *Plan
}

// For is the Plan for one session: p itself unless a rule of the configuration
// names its user or application. Without such rules it costs one comparison.
func (p *Plan) For(user, application string) *Plan {
	for i := range p.Variants {
		v := &p.Variants[i]
		if (v.User == "" || v.User == user) && (v.Application == "" || v.Application == application) {
			return v.Plan
		}
	}
	return p
}

// MayDraw reports whether a statement may draw from a sequence, or have code do so.
func (p *Plan) MayDraw() bool { return !p.WritesNothing() && p.Tx.Verb == TxNone }

// MayAsk reports whether it, or code that it runs and of which nobody proved that it only
// reads, may ask what sequences gave to its session.
func (p *Plan) MayAsk() bool {
	switch p.Reason {
	case ReasonFunction, ReasonUnknownFn, ReasonRelation, ReasonUnknownRel, ReasonNoCatalog, ReasonUnparsed:
		return true
	default:
		return p.Flags.Has(FlagSequence) || p.Pins&PinOpaque != 0
	}
}

// Doubted is p without what it says only because names in it are not known.
func (p *Plan) Doubted() *Plan {
	q := *p
	q.Pins &^= PinOpaque
	return &q
}

// CommitsWithin reports whether a statement may commit before it ends: a procedure, a
// DO block, VACUUM and its like, transaction control among other statements.
func (p *Plan) CommitsWithin() bool {
	return p.Flags&(FlagTxControl|FlagStays) != 0 ||
		!p.WritesNothing() && (p.Reason == ReasonUtility || p.Reason == ReasonUnparsed || p.Reason == ReasonMulti)
}

// WritesNothing reports whether a statement is proved to write nothing itself. PREPARE
// TRANSACTION is not: what it prepares may be committed by anybody.
func (p *Plan) WritesNothing() bool {
	switch p.Class {
	case ClassRead, ClassSetting, ClassEmpty:
		return true
	case ClassTx:
		return p.Tx.Verb != TxNone && p.Tx.Verb != TxPrepare
	case ClassUnknown, ClassWrite:
	}
	return false
}

// Flags say what a batch must know of a Plan beside its target.
type Flags uint32

const (
	// FlagDDL: the catalog may differ once it is committed, for others too.
	FlagDDL Flags = 1 << iota
	// FlagCursor: it opens a cursor, so its transaction stays on its server.
	FlagCursor
	// FlagStays: it cannot run inside a transaction block (VACUUM, CREATE DATABASE …)
	// or otherwise must be passed alone.
	FlagStays
	// FlagTxControl: transaction control stands among several statements, see Parts.
	FlagTxControl
	// FlagCopyIn: COPY FROM STDIN is in the text.
	FlagCopyIn
	// FlagHint: the text itself says where it runs (comment hint).
	FlagHint
	// FlagSetsState: a SET, RESET or set_config changes settings of the session
	// in a way that lasts beyond the transaction.
	FlagSetsState
	// FlagSetsLocal: settings are changed for the transaction only.
	FlagSetsLocal
	// FlagDirty: a rule or hint sends to a replica what is not proved to leave no
	// session state. The session does not depend on that state, but nobody may
	// meet it: the server connection is closed afterwards.
	FlagDirty
	// FlagForgets: the server connection has no prepared statements afterwards
	// (DISCARD ALL; DEALLOCATE ALL among other statements).
	FlagForgets
	// FlagCreates: it creates an object of which it does not say in which schema. If the
	// session's search_path begins with pg_temp, that is temporary: see NamesTempSchema.
	FlagCreates
	// FlagTemporary: it makes or drops temporary objects, which nobody else sees.
	FlagTemporary
	// FlagRedefines, with FlagDDL: what plans know by its name may do more afterwards. Without,
	// it only makes what no plan knows, or what runs no code, or takes something away.
	FlagRedefines
	// FlagRemoves, with FlagDDL: it may take away what statements before it have used, or put
	// something else in its place.
	FlagRemoves
	// FlagHooks, with FlagRedefines: what DDL runs beside itself (event triggers) may be more afterwards.
	FlagHooks
	// FlagIgnorant: the catalog of Version does not know some name in it. What it may leave
	// behind is the worst that may be.
	FlagIgnorant
	// FlagSequence: it asks what sequences gave to its session (currval, lastval).
	FlagSequence
	// FlagDraws: it inserts, or calls nextval itself: it may be asked what a sequence gave.
	FlagDraws
	// FlagNoSnapshot: it is one of the utility statements that take no snapshot.
	FlagNoSnapshot
	// FlagMisspelt: a comment looks like a hint and is none; see Misspelt.
	FlagMisspelt
)

// Has reports whether all of want are set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// TxVerb is a transaction control statement.
type TxVerb uint8

const (
	TxNone TxVerb = iota
	TxBegin
	TxCommit
	TxRollback
	TxSavepoint
	TxRelease
	TxRollbackTo
	TxSet     // SET TRANSACTION
	TxPrepare // PREPARE TRANSACTION
)

// Tx is one transaction control statement.
type Tx struct {
	Verb  TxVerb
	Modes Modes  // of BEGIN and SET TRANSACTION
	Start bool   // BEGIN is written START TRANSACTION, which is its command tag then
	Chain bool   // COMMIT/ROLLBACK AND CHAIN
	Name  string // of the savepoint, folded as PostgreSQL folds it
}

// Ends reports whether it ends a transaction block.
func (t *Tx) Ends() bool { return t.Verb == TxCommit || t.Verb == TxRollback || t.Verb == TxPrepare }

// Prepared is a SQL-level PREPARE, EXECUTE or DEALLOCATE. The bytes
// [NameStart, NameEnd) of the text are the statement's name as written, so that
// the name can be replaced.
type Prepared struct {
	Verb               PreparedVerb
	Name               string // folded; empty for DEALLOCATE ALL
	NameStart, NameEnd int
	Inner              *Plan // PREPARE: the plan of the statement being prepared
}

// PreparedVerb is what a Prepared does.
type PreparedVerb uint8

const (
	PreparedNone PreparedVerb = iota
	PreparedPrepare
	PreparedExecute
	PreparedDeallocate
	PreparedDeallocateAll
)

// Set is one change of a setting.
type Set struct {
	Name  string // folded
	Value string
	Local bool   // for the transaction only
	Reset bool   // back to the value the session began with
	Exact bool   // the server keeps Value as it is written
	Tag   string // command tag of the SET or RESET

	// Param is 1 for $1 …, whose value it sets; NameParam and LocalParam the same for
	// the name, and whether it is for the transaction only. 0 is none. See Bound.
	Param, NameParam, LocalParam int

	at *place // of Value, where the key does not say it
}

// Own is SET, SHOW or RESET of a setting of the proxy: route, trace.
type Own struct {
	Verb  OwnVerb
	Name  string // without "pgweir."
	Value string
	Local bool

	at *place // of Value, where the key does not say it
}

// OwnVerb is what an Own does.
type OwnVerb uint8

const (
	OwnNone OwnVerb = iota
	OwnSet
	OwnShow
	OwnReset
)

// PinSet is a set of reasons that tie a session to its server connection.
type PinSet uint16

const (
	PinSetting  PinSet = 1 << iota // a setting that cannot be carried was changed for the session
	PinTemp                        // temporary tables
	PinCursor                      // WITH HOLD cursors
	PinLock                        // session advisory locks
	PinListen                      // LISTEN
	PinLoad                        // LOAD
	PinOpaque                      // DO, CALL, functions not proved to leave no state
	PinPrepared                    // a SQL-level prepared statement that cannot be carried
	PinSession                     // session pooling is configured
	PinNone     PinSet = 0
	PinAll      PinSet = PinSession - 1
)
