package proxy

import (
	"sync"
	"time"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// maxUnit bounds the frames of a pipeline that are gathered before they are sent on.
const maxUnit = 256 << 10

// opKind is a message that a server answers.
type opKind uint8

const (
	opParse opKind = iota
	opBind
	opDescribe
	opExecute
	opClose
	opSync
	opQuery
	opCall
	opLocal // answered by the proxy: no frame goes to a server
)

// op is one message of a unit and the answer it waits for.
type op struct {
	kind  opKind
	quiet bool // the proxy's own: its answer is dropped
	// skipped: the server did not run it, because of an error before it or because it
	// could not make sense of it.
	skipped bool
	// errored: it failed on the server, having perhaps done a part. opening: it belongs
	// to what opens the transaction on its server.
	errored, opening bool
	// ahead: it belongs to what adopts settings before the unit, guard: to what has the
	// unit fail if that fails.
	ahead, guard bool

	off, size int // the client's frame in the unit; size 0 for the proxy's own

	name      string            // opParse: the client's name of a named statement
	stmt      *statement        // what it defines or uses
	described *statement        // opDescribe: what is described, itself or by a portal of it
	before    *statement        // what the name meant before, to be put back after an error
	plan      *router.Plan      // opExecute, opQuery: what runs
	text      string            // in place of the frame's text, if that had to be rewritten
	answer    []byte            // opLocal: whole frames
	query     bool              // opLocal: of a simple query, so that ReadyForQuery follows
	fail      *wire.Error       // the proxy's own refusal, in place of the server's error
	parse     int               // opExecute: 1 + the op that parsed its unnamed statement; 0 is an earlier unit
	tag       unnamedTag        // opParse, opBind, opDescribe of the unnamed statement
	params    []router.Argument // opExecute: bound, if its settings depend on them
	sql       *sqlPrepared      // what its text prepares or executes by SQL; nil for nothing
	apply     func(*client)     // what its success means to the session; nil for nothing
}

// unitEnd is how a unit ends.
type unitEnd uint8

const (
	endSync  unitEnd = iota
	endFlush         // the client wants answers and goes on
	endPart          // the unit is too long to be gathered; more follows
	endQuery         // a simple query or a function call
)

// unit is the batch in work: the client's frames up to Sync, Flush or a simple
// query, and the queue of answers awaited. It is borrowed while there is one.
type unit struct {
	ops  []op
	size int // bytes of the client's frames
	end  unitEnd
	sync bool // ops ends in a Sync

	plan      *router.Plan // the strictest
	cursor    bool         // it opens what ties its transaction to a server
	server    bool         // some op needs a server
	copies    bool         // its last op is a COPY FROM STDIN
	sets      bool         // some op changes settings, if only in its transaction
	rewritten bool         // the frames cannot go as they came
	failed    bool         // an op carries fail: the rest up to Sync is not looked at
	resumes   bool         // it needs a portal of an earlier unit
	copying   bool         // COPY data is on its way from the client
	within    bool         // some op may commit before it ends
	refused   bool         // a replica refused it as a write
	parsed    int          // 1 + the last op that parsed the unnamed statement
	notices   []byte       // of the audit, to go before the answers
	started   time.Time
	wary      bool // servers are going away: no connection is trusted unseen

	// Of one attempt.
	queue []op // what is awaited, in order: ops and the proxy's own
	head  int
	// syncIgnored: a Sync was sent that a COPY ignores, unless it fails before it reads.
	syncIgnored bool
	out         []byte // composed frames
	answer      []byte // for the client, not yet written
	hold        bool   // nothing was written to the client, and nothing shall be until it is sure
	pass        int    // bytes of a frame begun that pass unseen
	status      byte   // of the last ReadyForQuery
	late        []byte // that, if the client is to have it once startup settings are restored
	ddl         uint64 // how often it was noted to have changed the catalog
	errored     bool   // the server refused something
	decision    router.Decision
	required    cluster.Moment // the freshness of a replica that serves it
	level       router.Consistency
	fresh       bool             // the server connection was taken for this attempt
	adopt       []session.Change // settings the connection takes over within the unit
	ahead       []session.Change // or before it, to carry want
	want        session.Settings
	repeats     bool // what the implicit transaction set is set again, on another server
	begun       bool // this attempt opened the transaction on its server
	renew       bool // prepared statements are prepared anew
}

var units = sync.Pool{New: func() any { return new(unit) }}

// keep bounds what a unit given back may hold on to.
const keep = 64 << 10

func takeUnit() *unit { return units.Get().(*unit) }

func putUnit(u *unit) {
	ops, queue, out, answer := u.ops, u.queue, u.out, u.answer
	clear(ops)
	clear(queue)
	*u = unit{}
	if cap(ops) <= 1024 && cap(queue) <= 1024 && cap(out) <= keep && cap(answer) <= keep {
		u.ops, u.queue, u.out, u.answer = ops[:0], queue[:0], out[:0], answer[:0]
	}
	units.Put(u)
}

// primaryBegin is of a BEGIN that replicas refuse.
var primaryBegin = &router.Plan{Class: router.ClassTx, Target: router.TargetPrimary, Reason: router.ReasonTransaction}

// note takes a plan into account for the choice of a server.
func (u *unit) note(p *router.Plan) {
	u.server = true
	if p.Tx.Verb == router.TxBegin && (p.Tx.Modes.Isolation == router.Serializable || p.Tx.Modes.Access == router.ReadWrite) {
		p = primaryBegin
	}
	u.within = u.within || p.CommitsWithin()
	u.sets = u.sets || p.Flags&(router.FlagSetsState|router.FlagSetsLocal) != 0
	if p.Flags.Has(router.FlagCursor) {
		u.cursor = true
	}
	if u.plan == nil || p.Target > u.plan.Target || p.Target == u.plan.Target && p.Class == router.ClassWrite {
		u.plan = p
	}
}

// local answers an op without a server.
func (u *unit) answerLocally(frames []byte) {
	u.rewritten = true
	u.ops = append(u.ops, op{kind: opLocal, answer: frames})
}

// refuse makes the next answer an error of the proxy's own.
func (u *unit) refuse(e *wire.Error) {
	u.rewritten, u.failed = true, true
	u.ops = append(u.ops, op{kind: opBind, fail: e})
}

// refuseQuery is refuse for a simple query, which ends in ReadyForQuery.
func (u *unit) refuseQuery(e *wire.Error) {
	u.refuse(e)
	u.endRefused()
}

func (u *unit) endRefused() {
	u.sync = true
	u.ops = append(u.ops, op{kind: opSync})
}

// Canned answers.
var (
	parseComplete = []byte{wire.ParseComplete, 0, 0, 0, 4}
	bindComplete  = []byte{wire.BindComplete, 0, 0, 0, 4}
	closeComplete = []byte{wire.CloseComplete, 0, 0, 0, 4}
	noData        = []byte{wire.NoData, 0, 0, 0, 4}
	noParameters  = []byte{wire.ParameterDescription, 0, 0, 0, 6, 0, 0}
	flushFrame    = []byte{wire.Flush, 0, 0, 0, 4}
)
