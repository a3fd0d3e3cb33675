package router

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// analysis is the making of one Plan. It is used by one goroutine, once.
type analysis struct {
	facts     facts
	overrides *overrides
	tenants   *tenant.Judge // nil if nobody asks
	counts    *generation   // that the statement is counted for; nil if it is not
	original  string        // as it came: rules look at it
	text      string        // as it is parsed
	rec       maskRecord
	way       place // to the last literal of the text, once somebody asked for one

	// dependent: a literal was looked at that the mask leaves out.
	dependent bool
	several   bool // statements are in the text
	placed    bool // see Plan.placed

	usesObjects bool // see Plan.Uses

	cur       *verdict // of the statement being walked
	relations names
	functions names
	touched   touched
	ctes      map[string]int // how many WITH queries of a name are visible
	lenient   bool           // DDL: what is walked is not executed as a read
	computes  bool           // what belongs to relations and types it names may run all the same
	planOnly  bool           // EXPLAIN without ANALYZE: nothing is written
}

// verdict is what is known of one statement.
type verdict struct {
	class  Class
	target Target
	reason Reason
	fixed  bool // class, target and reason are final

	notRead  Reason // known not to be a read; nothing overrides it
	unproved Reason // not proved to be one; an operator may know better

	flags        Flags
	pins, unpins PinSet
	touches      names
	makes        []string

	vacates string // see Plan.Vacates

	sets    []Set // see Plan.Sets
	repeats bool  // it is a SET or RESET
	resets  string
	configs int // calls of set_config among them

	tx   Tx
	sql  Prepared
	args []argument // of EXECUTE
	own  Own
}

func newAnalysis(f facts, o *overrides, text string) *analysis {
	return &analysis{facts: f, overrides: o, original: text, text: text, touched: touched{catalog.NoTable(), catalog.NoTable()}}
}

// run makes the Plan but for learned facts, rules and hints.
func (a *analysis) run() *Plan {
	tree := a.parse()
	if tree == nil {
		if own, ok := ownSet(a.text); ok {
			a.dependent = true
			return &Plan{Class: ClassSetting, Target: TargetAny, Reason: ReasonLocal, Own: own, Statements: 1, neverOnReplica: true}
		}
		return unparsed(a)
	}
	verdicts := make([]verdict, 0, len(tree.GetStmts()))
	a.several = len(tree.GetStmts()) > 1
	for _, raw := range tree.GetStmts() {
		if raw.GetStmt() == nil {
			continue
		}
		verdicts = append(verdicts, verdict{})
		a.cur = &verdicts[len(verdicts)-1]
		a.ctes, a.lenient, a.computes, a.planOnly = nil, false, false, false
		a.statement(raw.GetStmt())
		a.settleSets(raw.GetStmt())
		a.bound(raw.GetStmt())
		a.cur.settle()
	}
	plan := join(verdicts)
	plan.literals.placed = a.placed
	plan.Relations, plan.Functions = a.relations.list, a.functions.list
	plan.Reads, plan.Writes, plan.Uses = a.touched.reads, a.touched.writes, a.usesObjects
	for _, in := range append(slices.Clip(plan.Parts), plan.SQL.Inner) { // what the text uses any of them may
		if in != nil {
			in.Relations, in.Functions = plan.Relations, plan.Functions
			in.Reads, in.Writes, in.Uses = plan.Reads, plan.Writes, plan.Uses
		}
	}
	a.judgeTenant(tree, plan)
	if a.counts != nil {
		plan.Statement = counting{a}.statement(tree, plan)
	}
	if plan.SQL.Verb != PreparedNone && plan.SQL.Verb != PreparedDeallocateAll {
		a.locateName(plan)
	}
	return plan
}

// asked are the kinds of state that a server connection is asked for.
const asked = PinSetting | PinTemp | PinCursor | PinLock | PinListen

// mayDefine finds what changes the catalog in a text of which nothing else is known.
var mayDefine = regexp.MustCompile(`(?i)\b(alter|create|drop|import)\b`)

// unparsed is the Plan of a text that the parser refuses: see takenApart.
func unparsed(a *analysis) *Plan {
	p := &Plan{Class: ClassUnknown, Target: TargetPrimary, Reason: ReasonUnparsed, Uses: true, Pins: PinOpaque}
	if a.tenants != nil {
		if f := a.tenants.Unparsed(a.original); f.Verdict != tenant.NotTenant {
			p.Tenant = f
		}
	}
	apart := takenApart{Lexer: grammar.Lexer{Text: a.original}, source: []byte(a.original)}
	if strings.IndexByte(a.original, 0) >= 0 || !apart.run() {
		if mayDefine.MatchString(a.original) {
			p.Flags = FlagDDL | FlagRedefines | FlagRemoves | FlagHooks
		}
		return p
	}
	a.dependent = a.dependent || strings.Contains(strings.ToLower(a.original), "set_config") // its last argument may be a literal
	a.cur = &verdict{flags: apart.flags, pins: asked}
	known := []catalog.Fact{a.facts.Body(string(apart.source))}
	if apart.flags.Has(FlagDDL) {
		known = append(known, a.facts.DDL())
	}
	for _, f := range known {
		a.leaves(f.Clean, f.Touches, f.Sets)
	}
	for _, name := range apart.targets {
		if a.relations.add(name); !a.facts.Relation("", name).Known {
			a.cur.flags |= FlagIgnorant // it may have triggers
			a.pin(PinOpaque)
		}
	}
	p.Relations = a.relations.list
	p.Pins, p.Flags, p.Touches, p.Statements = a.cur.pins, a.cur.flags, a.cur.touches.list, apart.statements
	return p
}

// parse returns nil for what is not valid SQL.
func (a *analysis) parse() *pg.ParseResult {
	_, masked := a.mask()
	text := a.text
	if strings.IndexByte(text, 0) >= 0 {
		return nil
	}
	if !utf8.ValidString(text) {
		// Clients may use another encoding. Inside masked literals no byte matters.
		if !masked {
			return nil
		}
		if text = blank(text, a.rec.strings); !utf8.ValidString(text) {
			return nil
		}
		a.text = text
	}
	tree, err := grammar.Parse(text)
	if err != nil {
		return nil
	}
	return tree
}

func (a *analysis) mask() (key []byte, ok bool) {
	m := masking{text: []byte(a.text), start: true, rec: &a.rec}
	ok = m.run()
	if !ok {
		a.rec = maskRecord{}
	}
	return m.key, ok
}

// blank overwrites the bytes beyond ASCII in the given spans.
func blank(text string, spans [][2]int) string {
	b := []byte(text)
	for _, span := range spans {
		for i := span[0]; i < span[1]; i++ {
			if b[i] >= utf8.RuneSelf {
				b[i] = '?'
			}
		}
	}
	return string(b)
}

// settle turns what the walk found into class, target and reason.
func (v *verdict) settle() {
	switch {
	case v.fixed:
	case v.notRead != ReasonNone:
		v.class, v.target, v.reason = classOf(v.notRead, v.unproved), TargetPrimary, v.notRead
	case v.unproved != ReasonNone:
		v.class, v.target, v.reason = ClassUnknown, TargetPrimary, v.unproved
	case v.pins != 0:
		v.class, v.target, v.reason = ClassUnknown, TargetPrimary, ReasonFunction
	default:
		v.class, v.target, v.reason = ClassRead, TargetReplica, ReasonRead
	}
}

// classOf is the class of a statement that is known not to be a plain read.
func classOf(notRead, unproved Reason) Class {
	switch {
	case notRead == ReasonSetting && unproved == ReasonNone:
		return ClassSetting
	case notRead == ReasonSetting, notRead == ReasonLock, notRead == ReasonCursor:
		return ClassUnknown
	}
	return ClassWrite
}

// fix makes the verdict final.
func (v *verdict) fix(c Class, t Target, r Reason) {
	v.class, v.target, v.reason, v.fixed = c, t, r, true
}

// is marks the statement as known not to be a read. The first reason counts,
// but changing settings is the least of them.
func (a *analysis) is(r Reason) {
	if a.cur.notRead == ReasonNone || a.cur.notRead == ReasonSetting {
		a.cur.notRead = r
	}
}

// unproved marks the statement as not proved to be a read.
func (a *analysis) unproved(r Reason) {
	if a.cur.unproved == ReasonNone {
		a.cur.unproved = r
	}
}

// pin notes state the statement may leave behind.
func (a *analysis) pin(p PinSet) { a.cur.pins |= p }

// severity orders classes: a text of several statements has the highest.
var severity = [Classes]int{ClassEmpty: 0, ClassRead: 1, ClassTx: 2, ClassSetting: 3, ClassUnknown: 4, ClassWrite: 5}

// join makes one Plan of the statements of a text.
func join(verdicts []verdict) *Plan {
	if len(verdicts) == 0 {
		return &Plan{Class: ClassEmpty, Target: TargetAny, Reason: ReasonEmpty}
	}
	if len(verdicts) == 1 {
		v := &verdicts[0]
		return &Plan{
			Class: v.class, Target: v.target, Reason: v.reason, Flags: v.flags,
			Pins: v.pins, Unpins: v.unpins, Touches: v.touches.list,
			Tx: v.tx, SQL: v.sql, Own: v.own, Statements: 1, Sets: v.sets, SetOnly: v.repeats, Resets: v.resets, args: v.args, Makes: v.makes,
			Vacates: v.vacates, neverOnReplica: v.neverOnReplica(),
		}
	}
	return joinMany(verdicts)
}

// maxParts bounds the parts that are told apart; longer scripts are taken as a whole.
const maxParts = 64

// partsOf is a Plan for each statement of a text of several; nil if the session could not
// follow each by itself, be it because the proxy has to change its text (names of prepared
// statements) or to answer it (settings of its own).
func partsOf(verdicts []verdict) []*Plan {
	if len(verdicts) > maxParts {
		return nil
	}
	parts := make([]*Plan, len(verdicts))
	for i := range verdicts {
		if v := &verdicts[i]; v.own.Verb != OwnNone || v.sql.Verb != PreparedNone {
			return nil
		}
		parts[i] = join(verdicts[i : i+1])
	}
	return parts
}

func joinMany(verdicts []verdict) *Plan {
	p := &Plan{Class: ClassEmpty, Target: TargetAny, Statements: len(verdicts), Parts: partsOf(verdicts)}
	var touches names
	p.Sets, p.SetOnly = carrySets(verdicts, p.Parts != nil)
	for i := range verdicts {
		v := &verdicts[i]
		v.amongOthers()
		worse := severity[v.class] > severity[p.Class]
		if v.target > p.Target || v.target == p.Target && (worse || p.Reason == ReasonNone) {
			p.Target, p.Reason = v.target, v.reason
		}
		if worse {
			p.Class = v.class
		}
		p.Flags |= v.flags
		// Pins are all of them: what is to undo one may not be reached.
		p.Pins, p.Unpins = p.Pins|v.pins, p.Unpins&^v.pins|v.unpins
		p.neverOnReplica = p.neverOnReplica || v.neverOnReplica()
		p.Makes = append(p.Makes, v.makes...)
		for _, t := range v.touches.list {
			touches.add(t)
		}
	}
	p.Touches = touches.list
	if p.Flags.Has(FlagTxControl) {
		p.joinParts()
	}
	return p
}

// amongOthers is what changes for a statement that does not stand alone: the
// proxy can neither answer it itself nor replace a name in it.
func (v *verdict) amongOthers() {
	switch {
	case v.tx.Verb != TxNone:
		v.flags |= FlagTxControl
	case v.own.Verb != OwnNone:
		v.class, v.target, v.reason = ClassSetting, TargetPrimary, ReasonSetting
		if v.own.Verb == OwnShow {
			v.class = ClassRead
			break
		}
		v.touches.add("pgweir." + v.own.Name)
		if v.own.Local {
			v.flags |= FlagSetsLocal
		} else {
			v.flags |= FlagSetsState
			v.pins |= PinSetting
		}
	case v.sql.Verb == PreparedDeallocateAll:
		v.target, v.reason = TargetPrimary, ReasonMulti
		v.flags |= FlagForgets
	case v.sql.Verb != PreparedNone:
		v.target, v.reason = TargetPrimary, ReasonMulti
		if v.pins |= PinPrepared; v.sql.Verb == PreparedExecute {
			v.pins |= PinOpaque // nobody looks up what it executes
		}
	}
}

// neverOnReplica reports whether no rule or hint can make it a read for a replica.
func (v *verdict) neverOnReplica() bool {
	if v.notRead != ReasonNone {
		return true
	}
	return v.fixed && v.class != ClassRead
}

// names is a list without repetition, in order of appearance.
type names struct {
	list []string
	seen map[string]struct{}
}

func (n *names) add(s string) {
	if _, ok := n.seen[s]; ok {
		return
	}
	if n.seen == nil {
		n.seen = make(map[string]struct{})
	}
	n.seen[s] = struct{}{}
	n.list = append(n.list, s)
}
