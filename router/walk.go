package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The walker sees every node of a tree through its description, so it cannot
// pass over a field. A node type that is in none of the two tables below makes
// the statement unproved.

// visit looks at a node; it reports whether its children are to be walked.
type visit func(a *analysis, m protoreflect.Message) bool

// visits are the node types that matter in themselves.
var visits map[protoreflect.Name]visit

func init() {
	visits = map[protoreflect.Name]visit{
		"SelectStmt":       visitSelect,
		"InsertStmt":       visitInsert,
		"UpdateStmt":       visitUpdate,
		"DeleteStmt":       visitDelete,
		"MergeStmt":        visitMerge,
		"IntoClause":       visitInto,
		"LockingClause":    visitLocking,
		"RangeVar":         visitRangeVar,
		"FuncCall":         visitFuncCall,
		"A_Expr":           visitExpr,
		"SubLink":          visitSubLink,
		"SortBy":           visitSortBy,
		"CaseExpr":         visitCase,
		"JoinExpr":         visitJoin,
		"TypeName":         visitTypeName,
		"ColumnRef":        visitColumnRef,
		"A_Indirection":    visitIndirection,
		"RangeTableSample": visitSample,
	}
}

// plainNodes hold others, or nothing that can act.
var plainNodes = nodeSet(`
	A_ArrayExpr A_Const A_Indices A_Star Alias BitString BoolExpr Boolean BooleanTest
	CTECycleClause CTESearchClause CaseWhen CoalesceExpr CollateClause ColumnDef
	CommonTableExpr CurrentOfExpr Float GroupingFunc GroupingSet IndexElem InferClause Integer
	JsonAggConstructor JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor JsonFormat
	JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonReturning
	JsonValueExpr List MergeWhenClause MinMaxExpr MultiAssignRef NamedArgExpr NullTest
	OnConflictClause ParamRef RangeFunction RangeSubselect RangeTableFunc RangeTableFuncCol
	ResTarget RowExpr SQLValueFunction SetToDefault String TypeCast WindowDef WithClause
	XmlExpr XmlSerialize`)

func nodeSet(text string) map[protoreflect.Name]bool {
	set := make(map[protoreflect.Name]bool)
	for _, name := range strings.Fields(text) {
		set[protoreflect.Name(name)] = true
	}
	return set
}

// walk visits m and what it holds.
func (a *analysis) walk(m protoreflect.Message) {
	name := m.Descriptor().Name()
	if name == "Node" {
		if fd := m.WhichOneof(m.Descriptor().Oneofs().Get(0)); fd != nil {
			a.walk(m.Get(fd).Message())
		}
		return
	}
	if v, ok := visits[name]; ok {
		if !v(a, m) {
			return
		}
	} else if !plainNodes[name] && !a.lenient {
		a.unproved(ReasonUtility)
		a.pin(PinOpaque)
	}
	a.children(m)
}

// children walks the fields of m but for those named.
func (a *analysis) children(m protoreflect.Message, except ...protoreflect.Name) {
	fields := m.Descriptor().Fields()
next:
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Message() == nil || !m.Has(fd) {
			continue
		}
		for _, x := range except {
			if fd.Name() == x {
				continue next
			}
		}
		if !fd.IsList() {
			a.walk(m.Get(fd).Message())
			continue
		}
		list := m.Get(fd).List()
		for j := range list.Len() {
			a.walk(list.Get(j).Message())
		}
	}
}

// node walks n, which may be nil.
func (a *analysis) node(n *pg.Node) {
	if n != nil {
		a.walk(n.ProtoReflect())
	}
}

// scoped walks a statement's WITH, then body where its names are visible.
func (a *analysis) scoped(w *pg.WithClause, body func()) {
	if w == nil {
		body()
		return
	}
	if a.ctes == nil {
		a.ctes = map[string]int{}
	}
	if w.GetRecursive() { // all are visible from the beginning
		for _, n := range w.GetCtes() {
			a.ctes[n.GetCommonTableExpr().GetCtename()]++
		}
	}
	for _, n := range w.GetCtes() {
		a.node(n)
		if !w.GetRecursive() {
			a.ctes[n.GetCommonTableExpr().GetCtename()]++
		}
	}
	body()
	for _, n := range w.GetCtes() {
		a.ctes[n.GetCommonTableExpr().GetCtename()]--
	}
}

// isCTE reports whether an unqualified name is that of a WITH query here.
func (a *analysis) isCTE(name string) bool { return a.ctes[name] > 0 }

func visitSelect(a *analysis, m protoreflect.Message) bool {
	s := m.Interface().(*pg.SelectStmt)
	a.scoped(s.GetWithClause(), func() { a.children(m, "with_clause") })
	return false
}

func visitInsert(a *analysis, m protoreflect.Message) bool {
	s := m.Interface().(*pg.InsertStmt)
	a.cur.flags |= FlagDraws
	a.write(s.GetRelation())
	a.scoped(s.GetWithClause(), func() { a.children(m, "with_clause", "relation") })
	return false
}

func visitUpdate(a *analysis, m protoreflect.Message) bool {
	s := m.Interface().(*pg.UpdateStmt)
	a.write(s.GetRelation())
	a.scoped(s.GetWithClause(), func() { a.children(m, "with_clause", "relation") })
	return false
}

func visitDelete(a *analysis, m protoreflect.Message) bool {
	s := m.Interface().(*pg.DeleteStmt)
	a.write(s.GetRelation())
	a.scoped(s.GetWithClause(), func() { a.children(m, "with_clause", "relation") })
	return false
}

func visitMerge(a *analysis, m protoreflect.Message) bool {
	s := m.Interface().(*pg.MergeStmt)
	a.cur.flags |= FlagDraws
	a.write(s.GetRelation())
	a.scoped(s.GetWithClause(), func() { a.children(m, "with_clause", "relation") })
	return false
}

// visitInto sees SELECT INTO. The relation does not exist yet.
func visitInto(a *analysis, m protoreflect.Message) bool {
	a.is(ReasonSelectInto)
	rel := m.Interface().(*pg.IntoClause).GetRel()
	a.cur.flags |= FlagDDL | effect{a}.redefines("", rel.GetRelname())
	f := a.facts.DDL()
	a.leaves(f.Clean, f.Touches, f.Sets)
	a.createsRelation(rel, false)
	return false
}

// visitLocking sees FOR UPDATE and friends; what follows OF are aliases.
func visitLocking(a *analysis, _ protoreflect.Message) bool {
	a.is(ReasonRowLock)
	return false
}

func visitRangeVar(a *analysis, m protoreflect.Message) bool {
	rv := m.Interface().(*pg.RangeVar)
	if rv.GetSchemaname() == "" && a.isCTE(rv.GetRelname()) {
		return false
	}
	a.relations.add(dotted(rv.GetSchemaname(), rv.GetRelname()))
	switch {
	case !a.lenient:
		a.read(rv.GetSchemaname(), rv.GetRelname())
	case a.computes:
		a.computed(rv.GetSchemaname(), rv.GetRelname())
	}
	return false
}

// read notes that a relation is read.
func (a *analysis) read(schema, name string) {
	r := a.facts.Relation(schema, name)
	a.uses(r.Fact)
	switch {
	case r.Known && r.Replica:
	case r.Known:
		a.unproved(ReasonRelation)
	case !a.facts.Loaded():
		a.unproved(ReasonNoCatalog)
	default:
		a.unproved(ReasonUnknownRel)
	}
	a.cur.knows(r.Fact)
	a.leaves(r.Clean, r.Touches, r.Sets)
	a.implicit()
}

// write notes that a relation is written by INSERT, UPDATE, DELETE, MERGE,
// TRUNCATE or COPY; its triggers and defaults run.
func (a *analysis) write(rv *pg.RangeVar) {
	a.is(ReasonWrite)
	a.relations.add(dotted(rv.GetSchemaname(), rv.GetRelname()))
	if a.planOnly {
		return
	}
	r := a.facts.Relation(rv.GetSchemaname(), rv.GetRelname())
	a.cur.knows(r.Fact)
	a.leaves(r.Known && r.Clean && r.WriteClean, r.Touches.Union(r.WriteTouches), r.Sets || r.WriteSets)
	a.changes(r)
	a.implicit()
}

func dotted(schema, name string) string {
	if schema == "" {
		return name
	}
	return schema + "." + name
}
