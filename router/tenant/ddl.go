package tenant

import (
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/router/catalog"

	"github.com/pgweir/pgweir/internal/grammar"
)

// ParseSchema reads the tables of a database from DDL text, such as pg_dump
// --schema-only writes it: what psql itself would act on (\restrict, rows after
// COPY … FROM stdin) is passed over. Statements that create no table, view,
// index or policy mean nothing to it. If some statements cannot be parsed, it
// returns what it made of the others together with the error of the first.
func ParseSchema(text string) (Schema, error) {
	d := &ddl{path: []string{"public"}}
	text = withoutPsql(text)
	tree, err := grammar.Parse(text)
	if err == nil {
		for _, raw := range tree.GetStmts() {
			d.statement(raw.GetStmt())
		}
		return d.schema(), nil
	}
	parts, splitErr := pg.SplitWithScanner(text, true)
	if splitErr != nil {
		return d.schema(), fmt.Errorf("schema: %w", err)
	}
	var first error
	for _, part := range parts {
		tree, err := grammar.Parse(part)
		if err != nil {
			if first == nil {
				first = fmt.Errorf("schema: %q: %w", firstLine(part), err)
			}
			continue
		}
		for _, raw := range tree.GetStmts() {
			d.statement(raw.GetStmt())
		}
	}
	return d.schema(), first
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// withoutPsql empties the lines that are psql's own or rows of COPY; line numbers stay.
func withoutPsql(text string) string {
	lines := strings.Split(text, "\n")
	rows := false
	for i, line := range lines {
		switch {
		case rows:
			rows = line != `\.`
			lines[i] = ""
		case strings.HasPrefix(line, `\`):
			lines[i] = ""
		case strings.HasPrefix(line, "COPY ") && strings.HasSuffix(strings.ToLower(line), " from stdin;"):
			rows = true
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n")
}

// ddl is the schema while it is built. Tables refer to each other by pointer.
type ddl struct {
	tables []*catalog.Table
	path   []string // the schema new names go to, first
}

func (d *ddl) schema() Schema { return catalog.NewTables(d.tables) }

func (d *ddl) statement(n *pg.Node) {
	switch s := n.GetNode().(type) {
	case *pg.Node_CreateStmt:
		d.create(s.CreateStmt, 'r')
	case *pg.Node_CreateForeignTableStmt:
		d.create(s.CreateForeignTableStmt.GetBaseStmt(), 'f')
	case *pg.Node_CreateTableAsStmt:
		d.createAs(s.CreateTableAsStmt)
	case *pg.Node_ViewStmt:
		d.view(s.ViewStmt)
	case *pg.Node_AlterTableStmt:
		d.alter(s.AlterTableStmt)
	case *pg.Node_RenameStmt:
		d.rename(s.RenameStmt)
	case *pg.Node_AlterObjectSchemaStmt:
		if t := d.find(s.AlterObjectSchemaStmt.GetRelation()); t != nil {
			t.Schema = s.AlterObjectSchemaStmt.GetNewschema()
		}
	case *pg.Node_IndexStmt:
		d.index(s.IndexStmt)
	case *pg.Node_CreatePolicyStmt:
		d.policy(s.CreatePolicyStmt)
	case *pg.Node_AlterPolicyStmt:
		d.alterPolicy(s.AlterPolicyStmt)
	case *pg.Node_DropStmt:
		d.drop(s.DropStmt)
	case *pg.Node_CreateSchemaStmt:
		d.createSchema(s.CreateSchemaStmt)
	case *pg.Node_VariableSetStmt:
		d.set(s.VariableSetStmt)
	}
}

// set follows SET search_path; the empty path of pg_dump comes as set_config,
// and then every name is qualified.
func (d *ddl) set(s *pg.VariableSetStmt) {
	if s.GetName() != "search_path" || s.GetKind() != pg.VariableSetKind_VAR_SET_VALUE {
		return
	}
	d.path = nil
	for _, arg := range s.GetArgs() {
		if name := arg.GetAConst().GetSval().GetSval(); name != "" && name != "pg_catalog" && name != "$user" {
			d.path = append(d.path, name)
		}
	}
	if len(d.path) == 0 {
		d.path = []string{"public"}
	}
}

func (d *ddl) createSchema(s *pg.CreateSchemaStmt) {
	outer := d.path
	d.path = []string{s.GetSchemaname()}
	for _, e := range s.GetSchemaElts() {
		d.statement(e)
	}
	d.path = outer
}

func (d *ddl) find(rv *pg.RangeVar) *catalog.Table {
	return d.named(rv.GetSchemaname(), rv.GetRelname())
}

func (d *ddl) named(schema, name string) *catalog.Table {
	for _, want := range d.path {
		if schema != "" {
			want = schema
		}
		for _, t := range d.tables {
			if t.Name == name && t.Schema == want {
				return t
			}
		}
	}
	return nil
}

func (d *ddl) add(rv *pg.RangeVar, kind byte) *catalog.Table {
	t := &catalog.Table{Schema: rv.GetSchemaname(), Name: rv.GetRelname(), Kind: kind}
	if t.Schema == "" {
		t.Schema = d.path[0]
	}
	if old := d.named(t.Schema, t.Name); old != nil { // CREATE OR REPLACE, or a mistake
		d.remove(old)
	}
	d.tables = append(d.tables, t)
	return t
}

func (d *ddl) remove(t *catalog.Table) {
	d.tables = slices.DeleteFunc(d.tables, func(o *catalog.Table) bool { return o == t })
	for _, o := range d.tables {
		o.Children = slices.DeleteFunc(o.Children, func(c *catalog.Table) bool { return c == t })
	}
}

func (d *ddl) create(s *pg.CreateStmt, kind byte) {
	if s.GetIfNotExists() && d.find(s.GetRelation()) != nil {
		return
	}
	t := d.add(s.GetRelation(), kind)
	if s.GetPartspec() != nil {
		t.Kind = 'p'
	}
	for _, n := range s.GetInhRelations() {
		if parent := d.find(n.GetRangeVar()); parent != nil && parent != t {
			t.Columns = append(t.Columns, parent.Columns...)
			inherit(parent, t)
		}
	}
	for _, e := range s.GetTableElts() {
		switch e := e.GetNode().(type) {
		case *pg.Node_ColumnDef:
			d.column(t, e.ColumnDef)
		case *pg.Node_Constraint:
			d.constraint(t, e.Constraint, nil)
		case *pg.Node_TableLikeClause:
			if like := d.find(e.TableLikeClause.GetRelation()); like != nil {
				t.Columns = append(t.Columns, like.Columns...)
			}
		}
	}
	for _, c := range s.GetConstraints() {
		d.constraint(t, c.GetConstraint(), nil)
	}
}

func inherit(parent, child *catalog.Table) {
	parent.Children = append(parent.Children, child)
	child.Parents = append(child.Parents, parent)
}

func (d *ddl) column(t *catalog.Table, def *pg.ColumnDef) {
	c := catalog.Column{Name: def.GetColname(), Type: columnType(def.GetTypeName())}
	if base, ok := serials[c.Type]; ok {
		c.Type, c.NotNull = base, true
	}
	if at := slices.IndexFunc(t.Columns, func(o catalog.Column) bool { return o.Name == c.Name }); at >= 0 {
		t.Columns[at] = c // the child's own declaration of an inherited column
	} else {
		t.Columns = append(t.Columns, c)
	}
	for _, n := range def.GetConstraints() {
		d.constraint(t, n.GetConstraint(), []string{c.Name})
	}
}

var serials = map[string]string{
	"serial": "int4", "bigserial": "int8", "smallserial": "int2",
	"serial4": "int4", "serial8": "int8", "serial2": "int2",
}

// constraint applies a constraint of t; on are the columns it stands at, if it
// stands at one.
func (d *ddl) constraint(t *catalog.Table, c *pg.Constraint, on []string) {
	columns := on
	if columns == nil {
		columns = texts(c.GetKeys())
	}
	switch c.GetContype() {
	case pg.ConstrType_CONSTR_NOTNULL, pg.ConstrType_CONSTR_IDENTITY:
		setNotNull(t, columns, true)
	case pg.ConstrType_CONSTR_DEFAULT:
		setDefault(t, columns, c.GetRawExpr())
	case pg.ConstrType_CONSTR_PRIMARY, pg.ConstrType_CONSTR_UNIQUE:
		d.key(t, c, columns)
	case pg.ConstrType_CONSTR_FOREIGN:
		if columns == nil {
			columns = texts(c.GetFkAttrs())
		}
		schema := c.GetPktable().GetSchemaname()
		if other := d.find(c.GetPktable()); other != nil {
			schema = other.Schema
		}
		t.Foreign = append(t.Foreign, catalog.ForeignKey{
			Columns: columns, Schema: schema, Table: c.GetPktable().GetRelname(),
		})
	}
}

func (d *ddl) key(t *catalog.Table, c *pg.Constraint, columns []string) {
	primary := c.GetContype() == pg.ConstrType_CONSTR_PRIMARY
	if c.GetIndexname() != "" { // USING INDEX: the index is known
		for i := range t.Keys {
			if t.Keys[i].Name == c.GetIndexname() {
				t.Keys[i].Primary, columns = primary, t.Keys[i].Columns
			}
		}
	} else {
		name := c.GetConname()
		if name == "" && primary {
			name = t.Name + "_pkey"
		} else if name == "" {
			name = t.Name + "_" + strings.Join(columns, "_") + "_key"
		}
		addKey(t, catalog.Key{Name: name, Columns: columns, Primary: primary})
		t.Indexes = append(t.Indexes, catalog.Index{Name: name, First: first(columns)})
	}
	if primary {
		setNotNull(t, columns, true)
	}
}

// addKey keeps the primary key first.
func addKey(t *catalog.Table, k catalog.Key) {
	if k.Primary {
		t.Keys = slices.Insert(t.Keys, 0, k)
		return
	}
	t.Keys = append(t.Keys, k)
}

func first(columns []string) string {
	if len(columns) == 0 {
		return ""
	}
	return columns[0]
}

func setNotNull(t *catalog.Table, columns []string, to bool) {
	for _, name := range columns {
		if c, ok := t.Column(name); ok {
			c.NotNull = to
		}
	}
}

// setDefault keeps a default that reads a setting; others do not matter.
func setDefault(t *catalog.Table, columns []string, expr *pg.Node) {
	text := ""
	if expr != nil {
		text = deparse(expr)
	}
	if !strings.Contains(text, "current_setting") {
		text = ""
	}
	for _, name := range columns {
		if c, ok := t.Column(name); ok {
			c.Default = text
		}
	}
}

// texts are the values of String nodes.
func texts(list []*pg.Node) []string {
	var names []string
	for _, n := range list {
		names = append(names, n.GetString_().GetSval())
	}
	return names
}

// deparse writes an expression as SQL; what cannot be written is empty.
func deparse(expr *pg.Node) string {
	if expr == nil {
		return ""
	}
	sel := &pg.SelectStmt{
		TargetList: []*pg.Node{pg.MakeResTargetNodeWithVal(expr, 0)},
		Op:         pg.SetOperation_SETOP_NONE, LimitOption: pg.LimitOption_LIMIT_OPTION_DEFAULT,
	}
	stmt := &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: sel}}
	s, err := pg.Deparse(&pg.ParseResult{Stmts: []*pg.RawStmt{{Stmt: stmt}}})
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(s, "SELECT ")
}
