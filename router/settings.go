package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/setting"
)

// ownPrefix begins the names of the proxy's own settings.
const ownPrefix = "pgweir."

// set is SET, RESET and SET TRANSACTION.
func (a *analysis) set(s *pg.VariableSetStmt) {
	name := setting.Fold(s.GetName())
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
	if !ascii(name) {
		a.pin(PinOpaque)
	}
	a.cur.repeats = !ofTransactions(name) && followed(name)
	if setting.IsCustom(name) {
		a.cur.touches.add(name)
	}
	if name == "search_path" {
		a.searchPath(s.GetArgs())
	}
	set, ok := a.carried(name, s)
	if set.Reset && name == setting.Authorization { // and with it the role
		set.Exact = true
		a.carry(set)
		set.Name = setting.Role
		ok = true
	}
	if ok {
		a.carry(set)
		return
	}
	if k := s.GetKind(); k == pg.VariableSetKind_VAR_RESET || k == pg.VariableSetKind_VAR_SET_DEFAULT {
		a.cur.resets = name
	}
	a.unfollowed(s.GetIsLocal())
}

// ofTransactions reports whether a setting decides where transactions may run: a
// standby takes none that is SERIALIZABLE.
func ofTransactions(name string) bool {
	return strings.HasPrefix(name, "transaction_") || strings.HasPrefix(name, "default_transaction_")
}

// carry notes a change of a setting that the session can follow.
func (a *analysis) carry(s Set) {
	a.cur.sets = append(a.cur.sets, s)
	switch {
	case s.NameParam != 0:
		a.cur.flags |= FlagSetsLocal | FlagSetsState
	case setting.IsCustom(s.Name):
		a.cur.touches.add(s.Name)
	case s.Local:
		a.cur.flags |= FlagSetsLocal
	default:
		a.cur.flags |= FlagSetsState
	}
}

// unfollowed notes that settings change in a way the session cannot follow by itself.
func (a *analysis) unfollowed(local bool) {
	if local {
		a.cur.flags |= FlagSetsLocal
		return
	}
	a.cur.flags |= FlagSetsState
	a.pin(PinSetting)
}

// plainSettings are built-in settings whose value is a number or a word, and means
// the same wherever and whenever it is set.
var plainSettings = wordSet(`
	application_name bytea_output check_function_bodies client_min_messages constraint_exclusion
	cursor_tuple_fraction effective_cache_size enable_bitmapscan enable_hashagg enable_hashjoin
	enable_indexonlyscan enable_indexscan enable_material enable_mergejoin enable_nestloop enable_seqscan
	enable_sort escape_string_warning extra_float_digits from_collapse_limit
	gin_fuzzy_search_limit hash_mem_multiplier idle_in_transaction_session_timeout idle_session_timeout jit
	join_collapse_limit lock_timeout maintenance_work_mem
	max_parallel_workers_per_gather parallel_leader_participation plan_cache_mode random_page_cost
	row_security seq_page_cost statement_timeout synchronize_seqscans synchronous_commit
	temp_buffers transform_null_equals work_mem xmlbinary`)

// carried is a SET or RESET that the session can follow by itself. Any value will do
// for a custom setting, so the literal is all there is to know.
func (a *analysis) carried(name string, s *pg.VariableSetStmt) (Set, bool) {
	set := Set{Name: name, Local: s.GetIsLocal(), Tag: "SET"}
	set.Exact = exact(name)
	if !followed(name) {
		return set, false
	}
	switch s.GetKind() {
	case pg.VariableSetKind_VAR_RESET, pg.VariableSetKind_VAR_SET_DEFAULT:
		if s.GetKind() == pg.VariableSetKind_VAR_RESET {
			set.Tag = "RESET"
		}
		set.Reset = true
		return set, set.Exact
	case pg.VariableSetKind_VAR_SET_VALUE:
	default: // FROM CURRENT
		return set, false
	}
	if ofTransactions(name) || len(s.GetArgs()) != 1 || s.GetArgs()[0].GetAConst() == nil {
		return set, false
	}
	c := s.GetArgs()[0].GetAConst()
	if c.GetSval() == nil && (c.GetIval() == nil && c.GetFval() == nil || grammar.IsNewNumber(a.text[max(c.GetLocation(), 0):])) {
		return set, false // PostgreSQL prints other constants its own way, and took no new numbers before 16
	}
	set.Value, set.at = a.value(name, s.GetArgs()[0])
	return set, !quotedLists[name] || plainName(set.Value)
}

// maxPlaces bounds how many literals are passed over to find one in a text of the key: a
// value is looked for from the beginning.
const maxPlaces = 256

// value reads the constant that a setting is given. Among several statements, of which the
// other literals differ from text to text, and for a setting that is ever new, the Plan does
// not depend on it where it is found in any text of the key; nil is that it is a part of the key, or that the Plan does.
func (a *analysis) value(name string, n *pg.Node) (string, *place) {
	before := a.dependent
	v, _ := a.literal(n)
	if !a.several && !everNew[name] || a.text != a.original || quotedLists[setting.Fold(name)] {
		return v, nil
	}
	if cast := n.GetTypeCast(); cast != nil {
		n = cast.GetArg()
	}
	offset := int(n.GetAConst().GetLocation())
	if offset < 0 || offset >= len(a.text) {
		return v, nil
	}
	if k := byteKind[a.text[offset]]; k == byteIdent || k == byteDoubleQuote {
		a.dependent = before
		return v, nil
	}
	at := a.place(offset)
	if at == nil || len(at.marks) > maxPlaces || at.negative || at.marks[len(at.marks)-1] == maskFloat || a.rec.continues(a.text, len(at.marks)) {
		return v, nil // numbers are printed in PostgreSQL's own way
	}
	a.dependent, a.placed = before, true
	return v, at
}

// exact reports whether a server keeps the value of a setting as it is given.
func exact(name string) bool {
	return setting.IsCustom(name) && !ofLibrary(name) || plainSettings[name] || name == setting.Role
}

// libraries are prefixes of custom settings that a library defines once a server process
// has loaded it: then it checks their values, and who may set them. Before that any value
// is taken, so what one connection takes another may refuse.
var libraries = wordSet(`
	age anon auto_explain bdr citus credcheck cron hnsw isn ivfflat orafce passwordcheck pg_cron pg_hint_plan
	pg_partman_bgw pg_prewarm pg_stat_statements pg_trgm pgaudit pgcrypto pglogical plperl plpgsql plpython
	plpython3 plrust pltcl plv8 postgis postgres_fdw repmgr sepgsql supautils timescaledb`)

// ofLibrary reports whether a library may define a custom setting.
func ofLibrary(name string) bool {
	prefix, _, custom := strings.Cut(name, ".")
	return custom && libraries[prefix]
}

// followed reports whether the session can follow changes of a setting by its name. Those
// of libraries stay on their server connection; servers fold ASCII letters only, and
// know other letters by their encoding.
func followed(name string) bool { return !ofLibrary(name) && ascii(name) }

// quotedLists are settings for which SET quotes each of its values as an identifier,
// while set_config takes the list as it is (GUC_LIST_QUOTE).
var quotedLists = wordSet(`search_path temp_tablespaces local_preload_libraries session_preload_libraries`)

// plainName reports whether quoting an identifier does not change what it means.
func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// searchPath sees pg_temp put into the path: what is created then without a
// schema is temporary.
func (a *analysis) searchPath(args []*pg.Node) {
	for _, arg := range args {
		if v, _ := a.literal(arg); NamesTempSchema(v) {
			a.pin(PinTemp)
		}
	}
}

// everNew are settings of the proxy that have another value nearly each time they are set.
var everNew = wordSet("pgweir.traceparent pgweir.min_lsn")

// setOwn is a setting of the proxy. Alone in its text the proxy answers it.
func (a *analysis) setOwn(name string, s *pg.VariableSetStmt) {
	own := Own{Verb: OwnSet, Name: strings.TrimPrefix(name, ownPrefix), Local: s.GetIsLocal()}
	if s.GetKind() != pg.VariableSetKind_VAR_SET_VALUE {
		own.Verb = OwnReset
	}
	if args := s.GetArgs(); everNew[name] && len(args) == 1 && args[0].GetAConst().GetSval() != nil {
		own.Value, own.at = a.value(name, args[0])
	} else {
		values := make([]string, 0, len(args))
		for _, arg := range args {
			v, _ := a.literal(arg)
			values = append(values, v)
		}
		own.Value = strings.Join(values, ", ")
	}
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
	name = setting.Fold(name)
	return sameShow[name] || setting.IsCustom(name)
}

// show is a read like any other where servers cannot differ.
// transaction_read_only, in_hot_standby and the like differ on a standby (by
// them libpq and JDBC tell primaries), server files may differ in the rest: one
// ordinary server means the primary's.
func (a *analysis) show(name string) {
	if own, ok := strings.CutPrefix(setting.Fold(name), ownPrefix); ok {
		a.cur.own = Own{Verb: OwnShow, Name: own}
		a.cur.fix(ClassRead, TargetAny, ReasonLocal)
		return
	}
	if sameEverywhere(name) {
		a.cur.fix(ClassRead, TargetReplica, ReasonRead)
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
		a.unproved(ReasonSetting)
	}
}

// setConfig is SET as a function, wherever it stands.
func (a *analysis) setConfig(args []*pg.Node) {
	a.is(ReasonSetting)
	if len(args) != 3 {
		a.pin(PinOpaque)
		return
	}
	if set, ok := a.carriedConfig(args); ok {
		a.carry(set)
		a.cur.configs++
		return
	}
	local, known := a.literal(args[2])
	isLocal := known && isTrue(local)
	name, named := a.literal(args[0])
	name = setting.Fold(name)
	if !known {
		a.unfollowed(true)
	}
	a.unfollowed(isLocal)
	if !named || !ascii(name) {
		a.pin(PinOpaque)
	}
	if !named {
		return
	}
	a.setConfigName(name, args[1])
}

// carriedConfig is set_config with literals or parameters.
func (a *analysis) carriedConfig(args []*pg.Node) (set Set, ok bool) {
	param := func(n *pg.Node) int {
		if cast := n.GetTypeCast(); cast != nil && isText(cast.GetTypeName()) {
			n = cast.GetArg()
		}
		return int(n.GetParamRef().GetNumber())
	}
	set.NameParam, set.Param, set.LocalParam = param(args[0]), param(args[1]), int(args[2].GetParamRef().GetNumber())
	if set.NameParam == 0 {
		if set.Name, ok = a.literal(args[0]); !ok {
			return set, false
		}
	}
	if set.Param == 0 {
		if cast := args[1].GetTypeCast(); cast != nil && !isText(cast.GetTypeName()) {
			return set, false
		}
		if set.Reset = isNull(args[1]); !set.Reset {
			if otherConstant(args[1]) {
				return set, false
			}
			set.Value, set.at = a.value(set.Name, args[1])
		}
	}
	if set.LocalParam == 0 {
		local, ok := a.literal(args[2])
		if !ok {
			return set, false
		}
		set.Local = isTrue(local)
	}
	if set.NameParam != 0 {
		return set, true
	}
	return set.named(set.Name)
}

// isNull reports whether n is NULL, which set_config takes for the default.
func isNull(n *pg.Node) bool {
	if cast := n.GetTypeCast(); cast != nil {
		n = cast.GetArg()
	}
	return n.GetAConst().GetIsnull()
}

// otherConstant reports whether a constant is not a string.
func otherConstant(n *pg.Node) bool {
	if cast := n.GetTypeCast(); cast != nil {
		n = cast.GetArg()
	}
	return n.GetAConst().GetSval() == nil
}

// Argument is a parameter's value.
type Argument struct {
	Value string // in text format, or a binary one
	Null  bool
	Text  bool // it is of a type text
	Bool  bool // it is of type boolean; of an unspecified type it may be both
}

// Bound is s with the values of its parameters ($1 is the first) in place. It fails if
// the session cannot follow what it sets.
func (s Set) Bound(params []Argument) (Set, bool) {
	if s.NameParam == 0 && s.Param == 0 && s.LocalParam == 0 {
		return s, true
	}
	if max(s.NameParam, s.Param, s.LocalParam) > len(params) {
		return s, false
	}
	if s.NameParam > 0 {
		p := params[s.NameParam-1]
		if s.Name = p.Value; p.Null || !p.Text {
			return s, false
		}
	}
	if s.Param > 0 {
		p := params[s.Param-1]
		if s.Value, s.Reset = p.Value, p.Null; !p.Null && !p.Text {
			return s, false
		}
	}
	if s.LocalParam > 0 {
		p := params[s.LocalParam-1]
		if s.Local = p.Value == "\x01" || isTrue(p.Value); p.Null || !p.Bool {
			return s, false
		}
	}
	if strings.ContainsRune(s.Name+s.Value, 0) {
		return s, false // no text may have it: the server refuses it
	}
	s.NameParam, s.Param, s.LocalParam = 0, 0, 0
	return s.named(s.Name)
}

// named completes a set_config whose name is known.
func (s Set) named(name string) (_ Set, ok bool) {
	s.Name = setting.Fold(name)
	s.Exact = exact(s.Name)
	return s, s.Name != "seed" && !strings.HasPrefix(s.Name, ownPrefix) && !ofTransactions(s.Name) && followed(s.Name) && !s.Temporary()
}

// Temporary reports whether s makes the search_path lead to the session's temporary schema.
func (s Set) Temporary() bool {
	return s.Name == "search_path" && NamesTempSchema(s.Value)
}

// NamesTempSchema reports whether a value of search_path, in whatever quotes, may name
// the temporary schema, so that what is created without a schema may be temporary (then
// its Plan has FlagCreates). Where a value is not at hand, ask the server.
func NamesTempSchema(path string) bool {
	return strings.Contains(setting.Fold(path), "pg_temp")
}

func isText(t *pg.TypeName) bool {
	_, name := qualified(t.GetNames())
	return len(t.GetTypmods()) == 0 && len(t.GetArrayBounds()) == 0 && name == "text"
}

// settleSets decides whether the session can follow the statement's changes of
// settings: all of them are known, and each happens exactly once, in the order found.
func (a *analysis) settleSets(n *pg.Node) {
	v := a.cur
	v.repeats = v.repeats && v.pins&^PinSetting == 0 && v.unproved == ReasonNone && a.text == a.original
	if v.repeats {
		v.fix(ClassSetting, TargetAny, ReasonSetting)
	}
	if len(v.sets) == 0 || v.repeats {
		return
	}
	if !onlySetConfig(n.GetSelectStmt(), v.configs) || v.pins != 0 || v.unpins != 0 || a.text != a.original {
		v.dropSets()
		return
	}
	if v.unproved == ReasonNone {
		v.fix(ClassSetting, TargetAny, ReasonSetting)
	}
}

// flagSets says by flags that settings are changed.
func (v *verdict) flagSets() {
	for _, s := range v.sets {
		if s.Local {
			v.flags |= FlagSetsLocal
		} else {
			v.flags |= FlagSetsState
		}
	}
}

// dropSets leaves the settings to the server: the session asks for them afterwards.
func (v *verdict) dropSets() {
	v.flagSets()
	for _, s := range v.sets {
		if !s.Local {
			v.pins |= PinSetting
		}
		if s.NameParam != 0 {
			v.pins |= PinOpaque
		}
	}
	if v.sets != nil && v.fixed && !v.repeats {
		v.target = TargetPrimary
	}
	v.sets = nil
}

// carrySets finds out of a text of several statements whether it is nothing but SET
// and RESET, and whether the session can follow all that it sets: then all of it
// happens, in order, or nothing. followed is that it will follow them one by one.
func carrySets(verdicts []verdict, followed bool) (sets []Set, only bool) {
	only, known := true, true
	for i := range verdicts {
		v := &verdicts[i]
		only = only && v.repeats
		if len(v.sets) == 0 && v.flags&(FlagSetsState|FlagSetsLocal) != 0 || v.pins&PinOpaque != 0 ||
			v.tx.Verb != TxNone || v.own.Verb != OwnNone || v.sql.Verb != PreparedNone {
			known = false
		}
	}
	for i := range verdicts {
		v := &verdicts[i]
		if known {
			sets = append(sets, v.sets...)
			continue
		}
		if v.repeats && (!followed || len(v.sets) == 0) {
			v.target = TargetPrimary // what stands beside it cannot be repeated
		}
		if followed {
			v.flagSets()
			continue
		}
		v.dropSets()
	}
	return sets, only && known
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

func (a *analysis) setConfigName(name string, value *pg.Node) {
	switch {
	case setting.IsCustom(name):
		a.cur.touches.add(name)
	case name == "search_path":
		if v, ok := a.literal(value); !ok || NamesTempSchema(v) {
			a.pin(PinTemp)
		}
	}
}

// isTrue reads a literal of type boolean, which may have white space around it.
func isTrue(s string) bool {
	on, _ := setting.ParseBool(strings.TrimSpace(s))
	return on
}
