package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/router/catalog"
)

// qualified splits a list of String nodes into schema and name. A leading
// database name is dropped.
func qualified(list []*pg.Node) (schema, name string) {
	n := len(list)
	if n == 0 {
		return "", ""
	}
	name = list[n-1].GetString_().GetSval()
	if n > 1 {
		schema = list[n-2].GetString_().GetSval()
	}
	return schema, name
}

// judge applies a fact to the statement.
func (a *analysis) judge(f catalog.Fact) {
	a.uses(f)
	switch {
	case !f.Known && !a.facts.Loaded():
		a.unproved(ReasonNoCatalog)
	case !f.Known:
		a.unproved(ReasonUnknownFn)
	case !f.Replica:
		a.unproved(ReasonFunction)
	}
	a.cur.knows(f)
	a.leaves(f.Clean, f.Touches, f.Sets)
}

// knows notes a name that the catalog does not know.
func (v *verdict) knows(f catalog.Fact) {
	if !f.Known {
		v.flags |= FlagIgnorant
	}
}

// leaves notes what code that is not in the text may leave behind.
func (a *analysis) leaves(clean bool, touches setting.Names, sets bool) {
	if !clean {
		a.pin(PinOpaque)
	}
	if sets || touches != (setting.Names{}) {
		a.unfollowed(!sets)
		for _, name := range touches.List() {
			a.cur.touches.add(name)
		}
	}
}

func visitFuncCall(a *analysis, m protoreflect.Message) bool {
	f := m.Interface().(*pg.FuncCall)
	schema, name := qualified(f.GetFuncname())
	a.functions.add(dotted(schema, name))
	a.call(schema, name, f.GetArgs())
	return true
}

// call judges one call of a function.
func (a *analysis) call(schema, name string, args []*pg.Node) {
	a.usesObjects = a.usesObjects || schema != "pg_catalog"
	said := a.overrides.of(schema, name)
	a.uses(a.facts.Function(schema, name))
	if said == overrideUnsafe {
		a.unproved(ReasonFunction)
	}
	if schema == "" || schema == "pg_catalog" {
		if a.special(name, args) {
			a.namesake(schema, name)
			return
		}
	}
	if said != overrideSafe {
		a.judge(a.facts.Function(schema, name))
	}
	a.conversions()
}

// conversions accounts for implicit casts of users, which arguments of functions and
// operators may need without any relation in the text. Most databases have none.
func (a *analysis) conversions() {
	if f := a.facts.Implicit(); f.Known && !(f.Replica && f.Clean && !f.Sets && f.Touches == (setting.Names{})) {
		a.judge(f)
	}
}

// namesake sees that a user's function bears the name of a built-in one, and may be
// the one that is called: other argument types are enough.
func (a *analysis) namesake(schema, name string) {
	if schema != "" {
		return
	}
	all, own := a.facts.Function("", name), a.facts.Function("pg_catalog", name)
	if all.Known && own.Known && (all.Clean != own.Clean || all.Why != own.Why) {
		a.pin(PinOpaque)
	}
}

// special knows the built-in functions whose effect has a name of its own. It
// reports whether name is one of them.
func (a *analysis) special(name string, args []*pg.Node) bool {
	switch name {
	case "nextval", "setval":
		a.is(ReasonSequence)
		a.cur.flags |= FlagDraws
	case "currval", "lastval":
		// They answer from what nextval left in this session's backend.
		a.is(ReasonSequence)
		a.cur.flags |= FlagSequence
	case "set_config":
		a.setConfig(args)
	case "current_setting":
		a.currentSetting(args)
	case "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared":
		a.is(ReasonLock)
		a.pin(PinLock)
	case "pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all":
		a.is(ReasonLock)
		a.cur.unpins |= PinLock
	case "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_try_advisory_xact_lock",
		"pg_try_advisory_xact_lock_shared":
		a.is(ReasonLock)
	case "pg_notify":
		a.is(ReasonUtility)
	default:
		return false
	}
	return true
}

// implicit accounts for functions the text does not name: users' implicit casts
// and the operator classes behind sorting and grouping.
func (a *analysis) implicit() {
	if f := a.facts.Implicit(); f.Known {
		a.usesObjects = true
		a.judge(f)
	}
}

func visitExpr(a *analysis, m protoreflect.Message) bool {
	e := m.Interface().(*pg.A_Expr)
	switch e.GetKind() {
	case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN,
		pg.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		a.operator("", "<=")
		a.operator("", ">=")
		a.operator("", "<")
		a.operator("", ">")
	default:
		schema, name := qualified(e.GetName())
		a.operator(schema, name)
	}
	return true
}

func (a *analysis) operator(schema, name string) {
	a.usesObjects = a.usesObjects || schema != "pg_catalog"
	a.judge(a.facts.Operator(schema, name))
	a.conversions()
}

// visitSubLink sees x op ANY (SELECT …); without a name the operator is "=".
func visitSubLink(a *analysis, m protoreflect.Message) bool {
	s := m.Interface().(*pg.SubLink)
	switch {
	case len(s.GetOperName()) > 0:
		a.operator(qualified(s.GetOperName()))
	case s.GetTestexpr() != nil:
		a.operator("", "=")
	}
	return true
}

// visitCase sees CASE x WHEN y, which compares by "=".
func visitCase(a *analysis, m protoreflect.Message) bool {
	if m.Interface().(*pg.CaseExpr).GetArg() != nil {
		a.operator("", "=")
	}
	return true
}

func visitSortBy(a *analysis, m protoreflect.Message) bool {
	if op := m.Interface().(*pg.SortBy).GetUseOp(); len(op) > 0 {
		a.operator(qualified(op))
	}
	return true
}

func visitJoin(a *analysis, m protoreflect.Message) bool {
	j := m.Interface().(*pg.JoinExpr)
	if j.GetIsNatural() || len(j.GetUsingClause()) > 0 {
		a.operator("", "=")
	}
	return true
}

func visitTypeName(a *analysis, m protoreflect.Message) bool {
	t := m.Interface().(*pg.TypeName)
	if len(t.GetNames()) == 0 || a.lenient && !a.computes {
		return true
	}
	schema, name := qualified(t.GetNames())
	f := a.facts.Type(schema, name)
	a.usesObjects = a.usesObjects || f != a.facts.Type("pg_catalog", name)
	switch {
	case !a.lenient:
		a.judge(f)
		a.conversions()
	case f.Known:
		a.leaves(f.Clean, f.Touches, f.Sets)
	}
	return true
}

// visitColumnRef knows that t.f may be the call f(t): PostgreSQL tries the
// column first, then the function.
func visitColumnRef(a *analysis, m protoreflect.Message) bool {
	fields := m.Interface().(*pg.ColumnRef).GetFields()
	if n := len(fields); n > 1 {
		a.attribute(fields[n-1].GetString_().GetSval())
	}
	return false
}

func visitIndirection(a *analysis, m protoreflect.Message) bool {
	for _, n := range m.Interface().(*pg.A_Indirection).GetIndirection() {
		a.attribute(n.GetString_().GetSval())
	}
	return true
}

// attribute judges a name that is a column or a function of one argument. What
// the catalog does not know as a function is a column, or an error.
func (a *analysis) attribute(name string) {
	if name == "" {
		return
	}
	f := a.facts.Function("", name)
	if !f.Known {
		return
	}
	a.usesObjects = true
	a.uses(f)
	if a.overrides.of("", name) != overrideSafe && (!f.Replica || !f.Clean) {
		a.judge(f)
	}
}

// visitSample sees TABLESAMPLE; the two built-in methods only read.
func visitSample(a *analysis, m protoreflect.Message) bool {
	s := m.Interface().(*pg.RangeTableSample)
	schema, name := qualified(s.GetMethod())
	if (schema == "" || schema == "pg_catalog") && (name == "bernoulli" || name == "system") {
		return true
	}
	a.call(schema, name, nil)
	return true
}

// overrides are the functions the operator judged.
type overrides struct{ safe, unsafe map[string]struct{} }

type override uint8

const (
	overrideNone override = iota
	overrideSafe
	overrideUnsafe
)

func newOverrides(safe, unsafe []string) overrides {
	set := func(list []string) map[string]struct{} {
		m := make(map[string]struct{}, len(list))
		for _, s := range list {
			m[strings.TrimSpace(s)] = struct{}{}
		}
		return m
	}
	o := overrides{safe: set(safe), unsafe: set(unsafe)}
	for name := range o.unsafe {
		// A call without a schema may be the function of any schema.
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			o.unsafe[" "+name[i+1:]] = struct{}{}
		}
	}
	return o
}

// of says what the operator declared of a call. A name without a schema speaks
// of the functions of all schemas. One with a schema makes only calls that name
// the schema safe, but makes calls without one unsafe too.
func (o *overrides) of(schema, name string) override {
	if len(o.safe) == 0 && len(o.unsafe) == 0 {
		return overrideNone
	}
	has := func(set map[string]struct{}, key string) bool { _, ok := set[key]; return ok }
	full := dotted(schema, name)
	switch {
	case has(o.unsafe, name), has(o.unsafe, full), schema == "" && has(o.unsafe, " "+name):
		return overrideUnsafe
	case has(o.safe, name), has(o.safe, full):
		return overrideSafe
	}
	return overrideNone
}
