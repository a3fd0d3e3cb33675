package tenant

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/router/catalog"

	"github.com/pgweir/pgweir/internal/grammar"
)

// Bounds of one judgement. What goes beyond is missing its filter: nobody writes
// such statements by hand, and "filtered" must be certain.
const (
	maxDepth   = 60        // of queries within queries
	maxQueries = 1000      // views and WITH queries count as often as they are named
	maxWork    = 1_000_000 // columns and facts looked at, all together
	maxValues  = 100       // tenants named by one statement
)

// Judge judges the statements of one database, as it is at one time. It is safe
// for concurrent use.
type Judge struct {
	policy *Policy
	schema Schema
	views  sync.Map // *catalog.Table → *pg.SelectStmt, parsed when first used
}

// New makes a Judge; neither policy nor schema may change afterwards.
func New(policy *Policy, schema Schema) *Judge { return &Judge{policy: policy, schema: schema} }

// Tree judges a text that is parsed already. Of several statements the worst
// verdict counts, and the tables of all are given.
//
// CPU on one core of a shared two-core machine, parsing not included (BenchmarkJudge):
//
//	count of one table, 85 bytes                9 µs
//	ORM select, filtered, 3.8 KB               26 µs
//	ORM select, missing, 6.5 KB               170 µs, most of it for the fingerprint
func (j *Judge) Tree(text string, tree *pg.ParseResult) *Finding {
	f := &Finding{}
	if !j.policy.Enabled() {
		return f
	}
	for _, raw := range tree.GetStmts() {
		one := &judgement{
			Judge: j, vars: make([]variable, 1), byNode: map[occurrenceKey]*occurrence{},
			sublinks: map[sublinkKey]*sublink{}, promised: map[*source][]fact{},
		}
		one.statement(raw.GetStmt())
		if one.gaveUp {
			one.suspect(raw.GetStmt())
		}
		one.addTo(f)
	}
	j.excuse(f, text)
	slices.SortStableFunc(f.Tables, func(a, b Table) int {
		switch {
		case a.Bound == b.Bound:
			return 0
		case a.Bound:
			return 1
		}
		return -1
	})
	return f
}

// excuse makes a missing filter an exempt one, if the text or the policy says so.
func (j *Judge) excuse(f *Finding, text string) {
	if f.Verdict < Exempt {
		return
	}
	if f.Fingerprint == "" {
		f.Fingerprint = grammar.Fingerprint(text)
	}
	reason, said := exemption(text)
	if said || slices.Contains(j.policy.ExemptStatements, f.Fingerprint) {
		f.Verdict, f.Reason = Exempt, reason
	}
}

// exemptWord begins the comment that makes a statement exempt.
const exemptWord = "pgweir:cross-tenant"

// Exempts reports whether a part of a comment begins with that word.
func Exempts(part string) bool {
	rest, ok := strings.CutPrefix(part, exemptWord)
	return ok && (rest == "" || strings.IndexByte(" *\n\t", rest[0]) >= 0)
}

// exemption finds that comment. What follows "reason=" is the reason, to the
// comment's end.
func exemption(text string) (reason string, ok bool) {
	if !strings.Contains(text, exemptWord) {
		return "", false
	}
	l := grammar.Lexer{Text: text}
	for t := l.Next(); t.Kind != grammar.End && t.Kind != grammar.Bad; t = l.Next() {
		if t.Kind != grammar.Comment {
			continue
		}
		comment := text[t.Start:t.End]
		at := strings.Index(comment, exemptWord)
		if at < 0 || !Exempts(comment[at:]) {
			continue
		}
		_, reason, _ := strings.Cut(strings.TrimSuffix(comment[at:], "*/"), "reason=")
		return strings.Trim(strings.TrimSpace(reason), `"'`), true
	}
	return "", false
}

// judgement is the making of one statement's finding. It is used by one goroutine, once.
type judgement struct {
	*Judge

	vars    []variable // by varID; 0 is none
	sources int        // made so far
	builds  int        // queries made so far
	depth   int
	work    int
	gaveUp  bool

	sublinks map[sublinkKey]*sublink
	withs    []*with
	shares   []*shared
	view     *pg.RangeVar // the outermost view that is being looked into
	viewUse  Kind

	visiting  bool // all queries are built
	unsettled int  // recursive queries whose facts are not final
	promised  map[*source][]fact

	byNode map[occurrenceKey]*occurrence
	found  []*occurrence
	values []Value
}

// statement judges one statement, and those in PREPARE, EXPLAIN, DECLARE and COPY.
func (j *judgement) statement(n *pg.Node) {
	switch s := n.GetNode().(type) {
	case *pg.Node_ExplainStmt:
		j.statement(s.ExplainStmt.GetQuery())
	case *pg.Node_PrepareStmt:
		j.statement(s.PrepareStmt.GetQuery())
	case *pg.Node_DeclareCursorStmt:
		j.statement(s.DeclareCursorStmt.GetQuery())
	case *pg.Node_CreateTableAsStmt:
		j.statement(s.CreateTableAsStmt.GetQuery())
	case *pg.Node_CopyStmt:
		j.copy(s.CopyStmt)
	case *pg.Node_TruncateStmt:
		j.truncate(s.TruncateStmt)
	case *pg.Node_CallStmt:
		q := &query{low: 1, lone: true}
		j.expression(&pg.Node{Node: &pg.Node_FuncCall{FuncCall: s.CallStmt.GetFunccall()}}, place{scope: &scope{}, subs: &q.subs})
		j.finish(q)
	default:
		if q := j.statementQuery(n, nil); q != nil {
			j.finish(q)
		}
	}
}

// suspect takes all tables that are named for unfiltered, where the statement was too
// much to judge. Views may be of any table.
func (j *judgement) suspect(n *pg.Node) {
	use := KindList
	if n.GetUpdateStmt() != nil || n.GetDeleteStmt() != nil || n.GetMergeStmt() != nil {
		use = KindBulkWrite
	}
	j.found, j.byNode, j.view = nil, map[occurrenceKey]*occurrence{}, nil
	seen := map[[2]string]bool{}
	eachNode(n, func(m any) bool {
		rv, ok := m.(*pg.RangeVar)
		if !ok || seen[[2]string{rv.GetSchemaname(), rv.GetRelname()}] {
			return true
		}
		seen[[2]string{rv.GetSchemaname(), rv.GetRelname()}] = true
		if r := j.relation(rv); r.tenant || j.viewOf(r) != nil {
			j.occurrence(rv, r, use)
		}
		return true
	})
}

// finish visits what was built.
func (j *judgement) finish(q *query) {
	for i := 0; i < len(j.withs); i++ { // those nobody names may run all the same
		if w := j.withs[i]; !w.used && w.shared == nil {
			unused := j.selectQuery(w.node.GetCtequery().GetSelectStmt(), w.scope)
			j.shares = append(j.shares, &shared{query: unused})
		}
	}
	j.visiting = true
	j.visit(q, nil)
	for _, sh := range j.shares {
		j.visit(sh.query, nil)
	}
}

// truncate empties tables whosever rows they hold; CASCADE also those that refer to them.
func (j *judgement) truncate(s *pg.TruncateStmt) {
	empty := func(rv *pg.RangeVar) *source {
		t := j.table(rv, &scope{}, KindTruncate)
		t.eachTable(func(t *source) {
			t.table.unbound, t.table.suggestion = true, "DELETE the rows of one tenant"
		})
		return t
	}
	var queue []*catalog.Table
	for _, rel := range s.GetRelations() {
		if t := empty(rel.GetRangeVar()); t.rel != nil {
			queue = append(queue, t.rel.tables...)
		}
	}
	if s.GetBehavior() != pg.DropBehavior_DROP_CASCADE {
		return
	}
	seen := map[*catalog.Table]bool{}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, other := range j.schema.AllTables() {
			if !seen[other] && other.RefersTo(queue[0]) {
				seen[other] = true
				queue = append(queue, other)
				empty(&pg.RangeVar{Schemaname: other.Schema, Relname: other.Name, Inh: true})
			}
		}
	}
}

// copy is COPY: FROM stores rows of any tenant, unless its WHERE names one.
func (j *judgement) copy(s *pg.CopyStmt) {
	switch {
	case s.GetQuery() != nil:
		j.statement(s.GetQuery())
	case s.GetRelation() == nil:
	case s.GetIsFrom():
		q := &query{low: 1}
		target := j.table(s.GetRelation(), &scope{}, KindInsert)
		q.items = []*item{single(target)}
		p := place{scope: &scope{items: q.items}, subs: &q.subs}
		q.where = j.condition(s.GetWhereClause(), p)
		q.high = j.sources + 1
		j.finish(q)
	default:
		q := &query{low: 1, items: []*item{single(j.table(s.GetRelation(), &scope{}, KindList))}}
		q.high = j.sources + 1
		j.finish(q)
	}
}

// addTo joins the outcome with that of the statements before.
func (j *judgement) addTo(f *Finding) {
	verdict := NotTenant
	excused := true
	for _, o := range j.found {
		switch {
		case !o.seen || o.unbound:
			verdict, excused = Missing, excused && o.rel.exempt
		case o.many:
			verdict = max(verdict, Many)
		default:
			verdict = max(verdict, Filtered)
		}
	}
	if verdict == Missing && excused {
		verdict = Exempt
	}
	for _, o := range j.found {
		bound := o.seen && !o.unbound
		if verdict == Missing && !bound && o.rel.exempt {
			continue
		}
		f.Tables = append(f.Tables, j.reportOf(o, bound))
		if !bound {
			f.Kind = max(f.Kind, o.kind)
		}
	}
	f.Values = append(f.Values, j.values...)
	f.Verdict = max(f.Verdict, verdict)
}

func (j *judgement) reportOf(o *occurrence, bound bool) Table {
	t := Table{
		Schema: o.rel.schema, Name: o.rel.name, Alias: o.alias, Via: o.via,
		Column: o.rel.column, Kind: o.kind, Bound: bound,
	}
	if !bound {
		t.Suggestion = cmp.Or(o.suggestion, "give it a filter by "+quoteIdent(cmp.Or(o.rel.column, "tenant")))
	}
	return t
}

// expand is the definition of a view; nil if r is none, or what it says is not known.
func (j *judgement) expand(r *relation) *pg.SelectStmt {
	table := j.viewOf(r)
	if table == nil {
		return nil
	}
	def, ok := j.views.Load(table)
	if !ok {
		def = parseView(table)
		j.views.Store(table, def)
	}
	if def.(*pg.SelectStmt) == nil {
		r.tenant = true // what it reads is not known, so nothing filters it
	}
	return def.(*pg.SelectStmt)
}

func parseView(t *catalog.Table) *pg.SelectStmt {
	tree, err := grammar.Parse(t.View)
	if err != nil || len(tree.GetStmts()) != 1 {
		return nil
	}
	return tree.GetStmts()[0].GetStmt().GetSelectStmt()
}
