package simpg

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// knownQuery is a query of the service's own that is beyond the language: it is known by a
// part of its text, and answered from the model's catalog. What PostgreSQL was born with
// is in catalog.txt.
type knownQuery struct {
	name, mark string
	columns    int
	rows       func(k *asked) [][]datum
	params     int
}

// asked is a known query that is being answered.
type asked struct {
	se     *session
	st     *state
	d      *database
	params []datum
	text   string
}

var knownQueries []knownQuery

func init() { // they refer to what refers to them
	knownQueries = []knownQuery{
		{"state", "pg_catalog.pg_control_checkpoint() c", 7, (*asked).state, 0},
		{"defaults", "COALESCE(g.context, 'user')", 3, (*asked).defaults, 0},
		{"admission", "NOT r.rolcanlogin, r.rolvaliduntil", 8, (*asked).admission, 0},
		{"few", "ANY ($1::pg_catalog.name[])", 5, (*asked).few, 1},
		{"fingerprint", "pg_catalog.hashtextextended", 2, (*asked).fingerprint, 0},
		{"settings", "SELECT COALESCE(r.rolname, ''), s.setdatabase <> 0, c.config", 3, (*asked).settings, 0},
		{"functions", "WHERE x.oid < 16384 AND n.nspname", 12, nil, 0},
		{"users' functions", "WHERE x.oid >= 16384 AND n.nspname", 12, (*asked).functions, 0},
		{"aggregates", "FROM pg_catalog.pg_aggregate a", 2, nil, 0},
		{"operators", "o.oprname, o.oprcode", 3, nil, 0},
		{"casts", "FROM pg_catalog.pg_cast WHERE castfunc <> 0", 3, nil, 0},
		{"types", "t.typinput::pg_catalog.oid", 11, (*asked).userTypes, 0},
		{"relations", "c.relpersistence, c.relrowsecurity", 6, (*asked).relations, 0},
		{"columns", "SELECT DISTINCT c.reltype", 5, nil, 0},
		{"rules", "AND x.oid < 16384 ORDER BY", 3, nil, 0},
		{"users' rules", "AND x.oid >= 16384 ORDER BY", 3, (*asked).rules, 0},
		{"column defaults", "a.attgenerated = 'v'", 3, (*asked).columnDefaults, 0},
		{"constraints", "x.contype, x.conrelid", 6, nil, 0},
		{"computed", "FROM pg_catalog.pg_partitioned_table x", 2, nil, 0},
		{"ddl", "SELECT evtfoid", 1, nil, 0},
		{"policies", "SELECT x.polrelid, CASE WHEN", 3, (*asked).policies, 0},
		{"triggers", "x.tgrelid, x.tgfoid", 3, (*asked).triggers, 0},
		{"children", "i.inhparent, i.inhrelid", 2, nil, 0},
		{"operator classes", "amproc::pg_catalog.oid", 1, nil, 0},
		{"tables", "pg_catalog.pg_get_viewdef(c.oid)", 8, (*asked).tables, 0},
		{"table columns", "a.attrelid, a.attname, tn.nspname", 6, (*asked).tableColumns, 0},
		{"table indexes", "x.indrelid, i.relname, x.indisunique", 8, (*asked).tableIndexes, 0},
		{"foreign keys", "fn.nspname, f.relname", 4, nil, 0},
		{"policies' text", "x.polname, x.polcmd", 7, (*asked).policyTexts, 0},
		{"policies' expressions", "SELECT pg_catalog.pg_get_expr(x.polqual, x.polrelid), pg", 2, (*asked).policyExpressions, 0},
		{"functions of policies", "SELECT p.proname, COALESCE(pg_catalog.pg_get_function_sqlbody", 2, (*asked).sources, 0},
		{"roles", "r.rolbypassrls, r.rolcanlogin", 5, (*asked).roles, 0},
		{"policy functions", "SELECT DISTINCT n.nspname, p.proname, COALESCE", 3, (*asked).policyFunctions, 0},
	}
}

// known finds the known query that a text is; nil is none.
func known(text string) *knownQuery {
	if len(text) < 60 || !strings.Contains(text, "pg_catalog.") {
		return nil
	}
	for i := range knownQueries {
		if strings.Contains(text, knownQueries[i].mark) {
			return &knownQueries[i]
		}
	}
	return nil
}

// query is the known query, as it is written in text, as any other.
func (k *knownQuery) query(se *session, text string) *query {
	q := &query{}
	for i := range k.columns {
		q.fields = append(q.fields, field{name: fmt.Sprint("column", i+1), typ: typText})
	}
	q.run = func(e *env, each func([]datum) bool) {
		rows := born()[k.name]
		if k.rows != nil {
			a := &asked{se: se, st: e.st, d: e.st.databases[se.database], params: e.params, text: text}
			rows = slices.Concat(rows, k.rows(a))
		}
		for _, r := range rows {
			if !each(r) {
				return
			}
		}
	}
	return q
}

//go:embed catalog.txt
var bornText string

// born is what PostgreSQL was born with, as far as the model has it, by the query's name.
var born = sync.OnceValue(func() map[string][][]datum {
	all := map[string][][]datum{}
	for line := range strings.Lines(bornText) {
		parts := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		var row []datum
		for _, p := range parts[1:] {
			if p == `\N` {
				row = append(row, nil)
			} else {
				row = append(row, p)
			}
		}
		all[parts[0]] = append(all[parts[0]], row)
	}
	return all
})

func yesNo(b bool) datum {
	if b {
		return "t"
	}
	return "f"
}

func number[N ~int | ~int16 | ~uint32 | ~int64](n N) datum { return strconv.FormatInt(int64(n), 10) }

func (k *asked) state() [][]datum {
	s := k.se.server
	line := s.line()
	if n := len(s.inbox); n > 0 {
		line = s.inbox[n-1].timeline
	}
	return [][]datum{{yesNo(s.recovering()), number(line), s.cluster.systemID, k.se.set.is("server_version_num"),
		number(s.began.UnixMicro()), s.now().end.String(), "f"}}
}

// each calls f for the permanent relations in the order of their OIDs.
func (k *asked) each(f func(r *relation)) {
	all := slices.SortedFunc(maps.Values(k.d.relations), func(a, b *relation) int { return int(a.oid) - int(b.oid) })
	for _, r := range all {
		if !strings.HasPrefix(r.schema, "pg_temp_") {
			f(r)
		}
	}
}

func (k *asked) eachFunction(f func(f *function)) {
	for _, x := range slices.SortedFunc(maps.Values(k.d.functions), func(a, b *function) int { return int(a.oid) - int(b.oid) }) {
		f(x)
	}
}

// literal is the string constant behind a mark in the text.
func (k *asked) literal(mark string) string {
	_, rest, _ := strings.Cut(k.text, mark+"'")
	value, _, _ := strings.Cut(rest, "'")
	return value
}

func (k *asked) defaults() (rows [][]datum) {
	role := k.literal("AND (")
	for _, of := range [][2]bool{{false, false}, {false, true}, {true, false}, {true, true}} {
		for _, d := range k.st.defaults {
			g := gucs[strings.ToLower(d.name)]
			if (d.role != "") != of[0] || (d.database != "") != of[1] || d.database != "" && d.database != k.se.database ||
				role != "" && d.role != "" && d.role != role || g != nil && g.context != "user" {
				continue
			}
			rows = append(rows, []datum{d.role, strings.ToLower(d.name), d.value})
		}
	}
	return rows
}

// admission is what the login of a role to a database depends on. The model has no role or
// database that is bound in number or time.
func (k *asked) admission() [][]datum {
	role, database := k.literal("FROM (SELECT "), k.literal("d.datname OPERATOR(pg_catalog.=) ")
	noRole, noDatabase := k.st.roles[role] == nil, k.st.databases[database] == nil
	row := []datum{yesNo(noRole), nil, nil, nil, yesNo(noDatabase), nil, nil, nil}
	if !noRole {
		row[1], row[3] = yesNo(!k.st.roles[role].login), "f"
	}
	if !noDatabase {
		row[5], row[7] = "f", "f"
	}
	if !noRole && !noDatabase {
		row[6] = "f"
	}
	return [][]datum{row}
}

// few are relations of the names that the session asks for, its own temporary ones too.
func (k *asked) few() (rows [][]datum) {
	names := inputArray(output(k.params[0]), typTextArray).([]datum)
	all := slices.SortedFunc(maps.Values(k.d.relations), func(a, b *relation) int { return int(a.oid) - int(b.oid) })
	for _, r := range all {
		temporary := strings.HasPrefix(r.schema, "pg_temp_")
		if !slices.Contains(names, datum(r.name)) || temporary && r.schema != k.se.tempSchema() {
			continue
		}
		plain := r.kind != 'v' && !r.rowLevel && len(r.triggers) == 0
		rows = append(rows, []datum{r.schema, r.name, yesNo(temporary), yesNo(plain), k.called(r)})
	}
	return rows
}

// called names the functions that a relation's defaults and checks call; nil is none.
func (k *asked) called(r *relation) datum {
	var refs []string
	note := func(list datum) {
		if list != nil {
			refs = append(refs, strings.Split(list.(string), ",")...)
		}
	}
	for _, c := range r.columns {
		if c.sequence != "" {
			note("funcid " + oidsNamed("nextval"))
		} else if c.def != nil {
			note(k.refs(c.def))
		}
	}
	for _, c := range r.checks {
		note(k.refs(c.x))
	}
	var names []string
	for _, f := range slices.Concat(born()["functions"], k.functions()) {
		for _, ref := range refs {
			if _, oid, _ := strings.Cut(ref, " "); oid == f[0] {
				names = append(names, f[1].(string)+" "+f[2].(string))
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "\n")
}

var fingerprintParts = regexp.MustCompile(`SELECT '(\w+)', pg_catalog\.concat\(`)

// fingerprint has all parts that are asked for change with anything.
func (k *asked) fingerprint() (rows [][]datum) {
	for _, part := range fingerprintParts.FindAllStringSubmatch(k.text, -1) {
		at := number(k.st.version)
		if part[1] == "base" || strings.HasPrefix(part[1], "builtin_") {
			at = k.se.database + " " + k.se.set.is("server_version_num")
		}
		rows = append(rows, []datum{part[1], at})
	}
	return rows
}

func (k *asked) settings() (rows [][]datum) {
	for _, d := range k.st.defaults {
		if d.database == "" || d.database == k.se.database {
			rows = append(rows, []datum{d.role, yesNo(d.database != ""), d.name + "=" + d.value})
		}
	}
	for _, name := range []string{"default_transaction_isolation", "default_transaction_read_only", "idle_in_transaction_session_timeout",
		"idle_session_timeout", "search_path", "standard_conforming_strings"} {
		_, began := k.se.set.began[name]
		if _, set := k.se.set.now[name]; !set && !began {
			rows = append(rows, []datum{nil, "f", name + "=" + gucs[name].boot})
		}
	}
	return rows
}

func (k *asked) functions() (rows [][]datum) {
	k.eachFunction(func(f *function) {
		kind := "f"
		if f.procedure {
			kind = "p"
		}
		var sets datum
		if len(f.settings) > 0 {
			sets = strings.Join(slices.Sorted(maps.Keys(f.settings)), ",")
		}
		rows = append(rows, []datum{number(f.oid), f.schema, f.name, string(rune(f.volatility)), kind, f.language, nil, f.body, nil, nil, nil, sets})
	})
	return rows
}

func (k *asked) userTypes() (rows [][]datum) {
	for _, name := range slices.Sorted(maps.Keys(k.d.types)) {
		rows = append(rows, []datum{number(k.d.types[name]), "public", name, "3504", "0", "0", "0", "0", "0", "0", nil}) // enum_in
	}
	return rows
}

func (k *asked) relations() (rows [][]datum) {
	k.each(func(r *relation) {
		rows = append(rows, []datum{number(r.oid), r.schema, r.name, string(rune(r.kind)), "p", yesNo(r.rowLevel)})
	})
	return rows
}

func (k *asked) rules() (rows [][]datum) {
	k.each(func(r *relation) {
		if r.kind == 'v' {
			rows = append(rows, []datum{number(r.oid), "1", k.refs(r.view)})
		}
	})
	return rows
}

func (k *asked) columnDefaults() (rows [][]datum) {
	k.each(func(r *relation) {
		for _, c := range r.columns {
			switch {
			case c.sequence != "":
				rows = append(rows, []datum{number(r.oid), "f", "funcid " + oidsNamed("nextval")})
			case c.def != nil && k.refs(c.def) != nil:
				rows = append(rows, []datum{number(r.oid), "f", k.refs(c.def)})
			}
		}
	})
	return rows
}

func (k *asked) policies() (rows [][]datum) {
	k.each(func(r *relation) {
		for _, p := range r.policies {
			if r.rowLevel {
				rows = append(rows, []datum{number(r.oid), k.refs(p.using), k.refs(p.check)})
			}
		}
	})
	return rows
}

func (k *asked) triggers() (rows [][]datum) {
	k.each(func(r *relation) {
		for _, t := range r.triggers {
			if f := k.d.functions[t.function]; f != nil {
				rows = append(rows, []datum{number(r.oid), number(f.oid), nil})
			}
		}
	})
	return rows
}

// eachTable calls f for what the shape of tables is asked of: all but sequences.
func (k *asked) eachTable(f func(r *relation)) {
	k.each(func(r *relation) {
		if r.kind != 'S' {
			f(r)
		}
	})
}

func (k *asked) tables() (rows [][]datum) {
	k.eachTable(func(r *relation) {
		var view datum
		if r.view != nil {
			view = deparse(&pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: r.view}})
		}
		rows = append(rows, []datum{number(r.oid), r.schema, r.name, string(rune(r.kind)), r.owner, yesNo(r.rowLevel), yesNo(r.forced), view})
	})
	return rows
}

func (k *asked) tableColumns() (rows [][]datum) {
	k.eachTable(func(r *relation) {
		for _, c := range r.columns {
			var def datum
			if c.def != nil {
				if text := expressionText(c.def).(string); strings.Contains(text, "current_setting") {
					def = text
				}
			}
			schema, name := "pg_catalog", infoOf(c.typ).name
			for own, oid := range k.d.types {
				if oid == c.typ {
					schema, name = "public", own
				}
			}
			rows = append(rows, []datum{number(r.oid), c.name, schema, name, yesNo(c.notNull), def})
		}
	})
	return rows
}

func (k *asked) tableIndexes() (rows [][]datum) {
	k.eachTable(func(r *relation) {
		for _, x := range r.keys {
			var names []string
			for _, c := range x.columns {
				names = append(names, r.columns[c].name)
			}
			rows = append(rows, []datum{number(r.oid), x.name, "t", yesNo(x.primary), "f", strings.Join(names, "\n"), names[0], "f"})
		}
	})
	return rows
}

func (k *asked) policyTexts() (rows [][]datum) {
	k.eachTable(func(r *relation) {
		for _, p := range r.policies {
			var roles datum
			if len(p.roles) > 0 {
				roles = strings.Join(slices.Sorted(slices.Values(p.roles)), "\n")
			}
			rows = append(rows, []datum{number(r.oid), p.name, string(rune(p.command)), yesNo(p.permissive), roles, expressionText(p.using), expressionText(p.check)})
		}
	})
	return rows
}

func (k *asked) policyExpressions() (rows [][]datum) {
	for _, r := range k.policyTexts() {
		rows = append(rows, r[5:])
	}
	return rows
}

func (k *asked) sources() (rows [][]datum) {
	k.eachFunction(func(f *function) { rows = append(rows, []datum{f.name, f.body}) })
	return rows
}

// policyFunctions are the SQL functions without arguments; more than policies call do no harm.
func (k *asked) policyFunctions() (rows [][]datum) {
	k.eachFunction(func(f *function) {
		if f.language == "sql" && len(f.args) == 0 && !f.set {
			rows = append(rows, []datum{f.schema, f.name, f.body})
		}
	})
	return rows
}

func (k *asked) roles() (rows [][]datum) {
	named := map[string]bool{}
	for _, r := range k.d.relations {
		named[r.owner] = true
		for _, p := range r.policies {
			for _, o := range p.roles {
				named[o] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.st.roles)) {
		r := k.st.roles[name]
		has := []string{}
		for _, o := range slices.Sorted(maps.Keys(named)) {
			if r.super || k.se.hasRole(name, o) {
				has = append(has, o)
			}
		}
		list, _ := json.Marshal(has)
		rows = append(rows, []datum{name, yesNo(r.super), yesNo(r.bypassRLS), yesNo(r.login), string(list)})
	}
	return rows
}

// deparse writes a statement.
func deparse(n *pg.Node) string {
	text, err := pg.Deparse(&pg.ParseResult{Stmts: []*pg.RawStmt{{Stmt: n}}})
	if err != nil {
		raise("XX000", "%v", err)
	}
	return text
}

// expressionText writes an expression as pg_get_expr would, but for parentheses; nil is NULL.
func expressionText(n *pg.Node) datum {
	if n == nil {
		return nil
	}
	target := &pg.Node{Node: &pg.Node_ResTarget{ResTarget: &pg.ResTarget{Val: n}}}
	return strings.TrimPrefix(deparse(&pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: &pg.SelectStmt{TargetList: []*pg.Node{target}}}}), "SELECT ")
}

// oidsNamed are the OIDs of the functions of a name that PostgreSQL was born with.
func oidsNamed(name string) string {
	var oids []string
	for _, r := range born()["functions"] {
		if r[2] == name {
			oids = append(oids, r[0].(string))
		}
	}
	return strings.Join(oids, ",funcid ")
}

// refs are the references of a tree as the service's queries find them in PostgreSQL's:
// functions, operators' functions and relations. nil is none.
func (k *asked) refs(n protoreflect.ProtoMessage) datum {
	var refs []string
	add := func(kind, oids string) {
		if oids != "" {
			refs = append(refs, kind+" "+oids)
		}
	}
	k.walk(n.ProtoReflect(), func(m protoreflect.ProtoMessage) {
		switch m := m.(type) {
		case *pg.FuncCall:
			names := stringsOf(m.Funcname)
			a := &analysis{se: k.se, st: k.st}
			if f := a.function(names, len(m.Args)); f != nil {
				add("funcid", number(f.oid).(string))
			} else {
				add("funcid", oidsNamed(names[len(names)-1]))
			}
		case *pg.A_Expr:
			for _, r := range born()["operators"] {
				if r[1] == m.Name[len(m.Name)-1].GetString_().GetSval() {
					add("opfuncid", r[2].(string))
				}
			}
		case *pg.RangeVar:
			if r := k.se.find(m.Schemaname, m.Relname); r != nil {
				add("relid", number(r.oid).(string))
				break
			}
			for _, r := range born()["relations"] {
				if r[2] == m.Relname {
					add("relid", r[0].(string))
				}
			}
		}
	})
	if len(refs) == 0 {
		return nil
	}
	slices.Sort(refs)
	return strings.Join(slices.Compact(refs), ",")
}

// walk calls f for the messages of a tree.
func (k *asked) walk(m protoreflect.Message, f func(protoreflect.ProtoMessage)) {
	if !m.IsValid() {
		return
	}
	f(m.Interface())
	m.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case d.Kind() != protoreflect.MessageKind:
		case d.IsList():
			for i := range v.List().Len() {
				k.walk(v.List().Get(i).Message(), f)
			}
		default:
			k.walk(v.Message(), f)
		}
		return true
	})
}
