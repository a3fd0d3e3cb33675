package simpg

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
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
}

// asked is a known query that is being answered.
type asked struct {
	se     *session
	st     *state
	d      *database
	params []datum
}

var knownQueries []knownQuery

func init() { // they refer to what refers to them
	knownQueries = []knownQuery{
		{"state", "pg_catalog.pg_control_checkpoint() c", 7, (*asked).state},
		{"defaults", "COALESCE(g.context, 'user')", 3, (*asked).defaults},
		{"fingerprint", "pg_catalog.hashtextextended", 1, (*asked).fingerprint},
		{"settings", "SELECT COALESCE(r.rolname, ''), s.setdatabase <> 0, c.config", 3, (*asked).settings},
		{"functions", "p.provolatile, p.prokind", 12, (*asked).functions},
		{"aggregates", "FROM pg_catalog.pg_aggregate a", 2, nil},
		{"operators", "o.oprname, o.oprcode", 3, nil},
		{"casts", "FROM pg_catalog.pg_cast WHERE castfunc <> 0", 3, nil},
		{"types", "t.typinput::pg_catalog.oid", 11, (*asked).userTypes},
		{"relations", "c.relpersistence, c.relrowsecurity", 6, (*asked).relations},
		{"columns", "SELECT DISTINCT c.reltype", 5, nil},
		{"rules", "x.ev_class, x.ev_type", 3, (*asked).rules},
		{"column defaults", "a.attgenerated = 'v'", 3, (*asked).columnDefaults},
		{"constraints", "x.contype, x.conrelid", 6, nil},
		{"computed", "FROM pg_catalog.pg_partitioned_table x", 2, nil},
		{"ddl", "SELECT evtfoid", 1, nil},
		{"policies", "SELECT x.polrelid, (SELECT", 3, (*asked).policies},
		{"triggers", "x.tgrelid, x.tgfoid", 3, (*asked).triggers},
		{"children", "i.inhparent, i.inhrelid", 2, nil},
		{"operator classes", "amproc::pg_catalog.oid", 1, nil},
		{"tables", "pg_catalog.pg_get_viewdef(c.oid)", 8, (*asked).tables},
		{"table columns", "a.attrelid, a.attname, tn.nspname", 6, (*asked).tableColumns},
		{"table indexes", "x.indrelid, i.relname, x.indisunique", 8, (*asked).tableIndexes},
		{"foreign keys", "fn.nspname, f.relname", 4, nil},
		{"policies' text", "x.polname, x.polcmd", 7, (*asked).policyTexts},
		{"policies' expressions", "SELECT pg_catalog.pg_get_expr(x.polqual, x.polrelid), pg", 2, (*asked).policyExpressions},
		{"functions of policies", "SELECT p.proname, COALESCE(pg_catalog.pg_get_function_sqlbody", 2, (*asked).sources},
		{"roles", "r.rolbypassrls, r.rolcanlogin", 5, (*asked).roles},
		{"policy functions", "SELECT DISTINCT n.nspname, p.proname, COALESCE", 3, (*asked).policyFunctions},
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

// query is the known query as any other.
func (k *knownQuery) query(se *session) *query {
	q := &query{}
	for i := range k.columns {
		q.fields = append(q.fields, field{name: fmt.Sprint("column", i+1), typ: typText})
	}
	q.run = func(e *env, each func([]datum) bool) {
		rows := born()[k.name]
		if k.rows != nil {
			a := &asked{se: se, st: e.st, d: e.st.databases[se.database], params: e.params}
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
		strconv.FormatFloat(float64(s.began.UnixMicro())/1e6, 'f', -1, 64), s.now().end.String(), "f"}}
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

func (k *asked) defaults() (rows [][]datum) {
	role := output(k.params[0])
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

func (k *asked) fingerprint() [][]datum {
	return [][]datum{{fmt.Sprintf("%s/%s/%d", k.se.database, k.se.set.is("server_version_num"), k.st.version)}}
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
