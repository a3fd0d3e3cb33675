package router

import (
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// ownPrefix begins the names of the proxy's own settings.
const ownPrefix = "pgweir."

// literal reads a constant as text. If the mask leaves the constant out of the
// key, the Plan depends on it.
func (a *analysis) literal(n *pg.Node) (string, bool) {
	if cast := n.GetTypeCast(); cast != nil {
		n = cast.GetArg()
	}
	switch v := n.GetNode().(type) {
	case *pg.Node_AConst:
		return a.constant(v.AConst)
	case *pg.Node_String_:
		a.dependent = true
		return v.String_.GetSval(), true
	case *pg.Node_Integer:
		a.dependent = true
		return strconv.Itoa(int(v.Integer.GetIval())), true
	case *pg.Node_Float:
		a.dependent = true
		return v.Float.GetFval(), true
	case *pg.Node_Boolean:
		return strconv.FormatBool(v.Boolean.GetBoolval()), true
	}
	return "", false
}

func (a *analysis) constant(c *pg.A_Const) (string, bool) {
	switch v := c.GetVal().(type) {
	case *pg.A_Const_Boolval:
		return strconv.FormatBool(v.Boolval.GetBoolval()), true
	case *pg.A_Const_Sval:
		if !a.kept(int(c.GetLocation())) {
			a.dependent = true
		}
		return v.Sval.GetSval(), true
	case *pg.A_Const_Ival:
		a.dependent = true
		return strconv.Itoa(int(v.Ival.GetIval())), true
	case *pg.A_Const_Fval:
		a.dependent = true
		return v.Fval.GetFval(), true
	}
	return "", false
}

// kept reports whether the string literal at offset is part of the key as it is.
func (a *analysis) kept(offset int) bool {
	for _, at := range a.rec.kept {
		if at == offset {
			return true
		}
	}
	return false
}

// set is SET, RESET and SET TRANSACTION.
func (a *analysis) set(s *pg.VariableSetStmt) {
	name := strings.ToLower(s.GetName())
	switch {
	case s.GetKind() == pg.VariableSetKind_VAR_RESET_ALL:
		a.is(ReasonSetting)
		a.cur.flags |= FlagSetsState
		a.cur.unpins |= PinSetting
	case s.GetKind() == pg.VariableSetKind_VAR_SET_MULTI:
		a.setMulti(name, s.GetArgs())
	case strings.HasPrefix(name, ownPrefix):
		a.setOwn(name, s)
	case s.GetKind() == pg.VariableSetKind_VAR_SET_VALUE && a.setTransactionByName(name, s):
	default:
		a.setOrdinary(name, s)
	}
}

// setOrdinary is a setting of the server. RESET is a change too: the value it
// returns to is the server connection's, not this client's.
func (a *analysis) setOrdinary(name string, s *pg.VariableSetStmt) {
	a.is(ReasonSetting)
	if strings.Contains(name, ".") {
		a.cur.touches.add(name)
		if set, ok := a.carried(name, s); ok {
			a.cur.sets = append(a.cur.sets, set)
			return
		}
	}
	reset := s.GetKind() == pg.VariableSetKind_VAR_RESET
	if reset || s.GetKind() == pg.VariableSetKind_VAR_SET_DEFAULT {
		a.cur.resets = name
	}
	switch {
	case s.GetIsLocal():
		a.cur.flags |= FlagSetsLocal
	case name == "role" && reset:
		a.cur.flags |= FlagSetsState
		a.cur.unpins |= PinRole
	case name == "role":
		a.cur.flags |= FlagSetsState
		a.pin(PinRole)
	case name == "session_authorization":
		// It changes the role as well, and RESET ROLE does not undo it.
		a.cur.flags |= FlagSetsState
		a.pin(PinRole | PinOpaque)
	default:
		a.cur.flags |= FlagSetsState
		a.pin(PinSetting)
	}
	if name == "search_path" {
		a.searchPath(s.GetArgs())
	}
}

// carried is a SET or RESET of a custom setting that the session can carry to
// any server: any value will do for it, so the literal is all there is to know.
func (a *analysis) carried(name string, s *pg.VariableSetStmt) (Set, bool) {
	set := Set{Name: name, Local: s.GetIsLocal(), Tag: "SET"}
	switch s.GetKind() {
	case pg.VariableSetKind_VAR_RESET, pg.VariableSetKind_VAR_SET_DEFAULT:
		if s.GetKind() == pg.VariableSetKind_VAR_RESET {
			set.Tag = "RESET"
		}
		set.Reset = true
		return set, true
	case pg.VariableSetKind_VAR_SET_VALUE:
	default: // FROM CURRENT
		return set, false
	}
	if len(s.GetArgs()) != 1 || s.GetArgs()[0].GetAConst() == nil {
		return set, false
	}
	c := s.GetArgs()[0].GetAConst()
	if c.GetSval() == nil && c.GetIval() == nil && c.GetFval() == nil {
		return set, false // PostgreSQL prints other constants its own way
	}
	set.Value, _ = a.literal(s.GetArgs()[0])
	return set, true
}

// searchPath sees pg_temp put into the path: what is created then without a
// schema is temporary.
func (a *analysis) searchPath(args []*pg.Node) {
	for _, arg := range args {
		if v, _ := a.literal(arg); strings.Contains(strings.ToLower(v), "pg_temp") {
			a.pin(PinTemp)
		}
	}
}

// setOwn is a setting of the proxy. Alone in its text the proxy answers it.
func (a *analysis) setOwn(name string, s *pg.VariableSetStmt) {
	own := Own{Verb: OwnSet, Name: strings.TrimPrefix(name, ownPrefix), Local: s.GetIsLocal()}
	if s.GetKind() != pg.VariableSetKind_VAR_SET_VALUE {
		own.Verb = OwnReset
	}
	values := make([]string, 0, len(s.GetArgs()))
	for _, arg := range s.GetArgs() {
		v, _ := a.literal(arg)
		values = append(values, v)
	}
	own.Value = strings.Join(values, ", ")
	a.cur.own = own
	a.cur.fix(ClassSetting, TargetAny, ReasonLocal)
}

// sameShow are settings that are the session's own or the same on every server
// of a cluster, as far as an application can tell.
var sameShow = wordSet(`
	application_name bytea_output check_function_bodies client_encoding client_min_messages datestyle
	default_tablespace escape_string_warning extra_float_digits integer_datetimes intervalstyle
	is_superuser lc_collate lc_ctype max_identifier_length role row_security search_path
	server_encoding server_version server_version_num session_authorization
	standard_conforming_strings timezone transaction_isolation xmlbinary xmloption`)

func wordSet(text string) map[string]bool {
	set := make(map[string]bool)
	for _, name := range strings.Fields(text) {
		set[name] = true
	}
	return set
}

// sameEverywhere reports whether a setting's value is the session's own, or the
// same on every server of a cluster.
func sameEverywhere(name string) bool {
	name = strings.ToLower(name)
	return sameShow[name] || strings.Contains(name, ".")
}

// show answers from wherever the session is, where servers cannot differ.
// transaction_read_only, in_hot_standby and the like differ on a standby (by
// them libpq and JDBC tell primaries), server files may differ in the rest: one
// ordinary server means the primary's.
func (a *analysis) show(name string) {
	if own, ok := strings.CutPrefix(strings.ToLower(name), ownPrefix); ok {
		a.cur.own = Own{Verb: OwnShow, Name: own}
		a.cur.fix(ClassRead, TargetAny, ReasonLocal)
		return
	}
	if sameEverywhere(name) {
		a.cur.fix(ClassRead, TargetAny, ReasonRead)
		return
	}
	a.cur.fix(ClassRead, TargetPrimary, ReasonSetting)
}

// currentSetting is SHOW as a function.
func (a *analysis) currentSetting(args []*pg.Node) {
	if len(args) == 0 {
		return
	}
	if name, ok := a.literal(args[0]); !ok || !sameEverywhere(name) {
		a.doubt(ReasonSetting)
	}
}

// setConfig is SET as a function, wherever it stands.
func (a *analysis) setConfig(args []*pg.Node) {
	a.is(ReasonSetting)
	if len(args) != 3 {
		a.pin(PinOpaque)
		return
	}
	local, known := a.literal(args[2])
	isLocal := known && isTrue(local)
	if set, ok := a.carriedConfig(args); ok && known {
		set.Local = isLocal
		a.cur.touches.add(set.Name)
		a.cur.sets = append(a.cur.sets, set)
		a.cur.configs++
		return
	}
	if !known || isLocal {
		a.cur.flags |= FlagSetsLocal
	}
	if !isLocal {
		a.cur.flags |= FlagSetsState
		a.pin(PinSetting)
	}
	name, ok := a.literal(args[0])
	if !ok {
		a.pin(PinOpaque)
		return
	}
	a.setConfigName(strings.ToLower(name), isLocal, args[1])
}

// carriedConfig is set_config of a custom setting with a literal name, and a
// literal or a parameter for its value.
func (a *analysis) carriedConfig(args []*pg.Node) (Set, bool) {
	name, ok := a.literal(args[0])
	name = strings.ToLower(name)
	if !ok || !strings.Contains(name, ".") || strings.HasPrefix(name, ownPrefix) {
		return Set{}, false
	}
	value := args[1]
	if cast := value.GetTypeCast(); cast != nil && isText(cast.GetTypeName()) {
		value = cast.GetArg()
	}
	if p := value.GetParamRef(); p != nil {
		return Set{Name: name, Param: int(p.GetNumber())}, true
	}
	if c := value.GetAConst(); c == nil || c.GetSval() == nil {
		return Set{}, false
	}
	v, _ := a.literal(value)
	return Set{Name: name, Value: v}, true
}

func isText(t *pg.TypeName) bool {
	_, name := qualified(t.GetNames())
	return len(t.GetTypmods()) == 0 && len(t.GetArrayBounds()) == 0 && name == "text"
}

// settleSets decides whether the statement's changes of settings are carried: all
// of them are known, and each happens exactly once, in the order found.
func (a *analysis) settleSets(n *pg.Node) {
	v := a.cur
	if len(v.sets) == 0 {
		return
	}
	isSet := n.GetVariableSetStmt() != nil
	simple := isSet || onlySetConfig(n.GetSelectStmt(), v.configs)
	if !simple || v.pins != 0 || v.unpins != 0 || a.text != a.original {
		v.dropSets()
		return
	}
	v.setOnly = isSet
	if v.caution == ReasonNone {
		v.fix(ClassSetting, TargetAny, ReasonSetting)
	}
}

// dropSets has the server connection keep the settings, in place of the session.
func (v *verdict) dropSets() {
	for _, s := range v.sets {
		if s.Local {
			v.flags |= FlagSetsLocal
		} else {
			v.flags |= FlagSetsState
			v.pins |= PinSetting
		}
	}
	if v.sets != nil && v.fixed {
		v.target = TargetPrimary
	}
	v.sets, v.setOnly = nil, false
}

// carrySets keeps the settings of several statements in the session if there is
// nothing else in the text.
func carrySets(verdicts []verdict) (sets []Set, ok bool) {
	for i := range verdicts {
		if !verdicts[i].setOnly {
			for j := range verdicts {
				verdicts[j].dropSets()
			}
			return nil, false
		}
		sets = append(sets, verdicts[i].sets...)
	}
	return sets, true
}

// onlySetConfig reports whether a SELECT is a list of set_config calls and
// nothing that could keep one from running, or run it twice.
func onlySetConfig(s *pg.SelectStmt, calls int) bool {
	if s == nil || len(s.GetTargetList()) != calls || len(s.GetFromClause()) > 0 || s.GetWhereClause() != nil ||
		len(s.GetValuesLists()) > 0 || s.GetOp() != pg.SetOperation_SETOP_NONE || s.GetWithClause() != nil ||
		s.GetLimitCount() != nil || s.GetLimitOffset() != nil || len(s.GetGroupClause()) > 0 ||
		s.GetHavingClause() != nil || s.GetIntoClause() != nil || len(s.GetLockingClause()) > 0 ||
		len(s.GetDistinctClause()) > 0 || len(s.GetSortClause()) > 0 || len(s.GetWindowClause()) > 0 {
		return false
	}
	for _, t := range s.GetTargetList() {
		f := t.GetResTarget().GetVal().GetFuncCall()
		if f == nil || f.GetAggFilter() != nil || f.GetOver() != nil {
			return false
		}
		if schema, name := qualified(f.GetFuncname()); name != "set_config" || schema != "" && schema != "pg_catalog" {
			return false
		}
	}
	return true
}

func (a *analysis) setConfigName(name string, isLocal bool, value *pg.Node) {
	switch {
	case strings.Contains(name, "."):
		a.cur.touches.add(name)
	case name == "search_path":
		if v, ok := a.literal(value); !ok || strings.Contains(strings.ToLower(v), "pg_temp") {
			a.pin(PinTemp)
		}
	case isLocal:
	case name == "role":
		a.pin(PinRole)
	case name == "session_authorization":
		a.pin(PinRole | PinOpaque)
	}
}

// isTrue reads a boolean as PostgreSQL's boolin does: any unique prefix.
func isTrue(s string) bool {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "" {
		return false
	}
	return strings.HasPrefix("true", s) || strings.HasPrefix("yes", s) || s == "on" || s == "1"
}
