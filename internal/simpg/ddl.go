package simpg

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/proto"

	"github.com/pgweir/pgweir/internal/scram"
)

// ddl executes a command that changes what is not rows and returns its tag.
func (se *session) ddl(p *portal) string {
	a := &analysis{se: se, st: se.see()}
	switch n := p.stmt.node.Node.(type) {
	case *pg.Node_CreateStmt:
		return a.createTable(n.CreateStmt)
	case *pg.Node_CreateTableAsStmt:
		return a.createTableAs(n.CreateTableAsStmt.Into, n.CreateTableAsStmt.Query, n.CreateTableAsStmt.IfNotExists, p)
	case *pg.Node_SelectStmt: // SELECT INTO
		s := proto.Clone(n.SelectStmt).(*pg.SelectStmt) // the tree is shared and must not change
		into := s.IntoClause
		s.IntoClause = nil
		return a.createTableAs(into, &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: s}}, false, p)
	case *pg.Node_ViewStmt:
		return a.createView(n.ViewStmt)
	case *pg.Node_CreateSeqStmt:
		schema := a.schemaFor(n.CreateSeqStmt.Sequence, "CREATE SEQUENCE")
		a.create(a.newSequence(schema, n.CreateSeqStmt.Sequence.Relname))
		return "CREATE SEQUENCE"
	case *pg.Node_CreateFunctionStmt:
		return a.createFunction(n.CreateFunctionStmt)
	case *pg.Node_AlterTableStmt:
		return a.alterTable(n.AlterTableStmt)
	case *pg.Node_DropStmt:
		return a.drop(n.DropStmt)
	case *pg.Node_TruncateStmt:
		return a.truncate(n.TruncateStmt)
	case *pg.Node_CreatePolicyStmt:
		return a.createPolicy(n.CreatePolicyStmt)
	case *pg.Node_CreateTrigStmt:
		return a.createTrigger(n.CreateTrigStmt)
	case *pg.Node_IndexStmt:
		se.refuseReadOnly("CREATE INDEX")
		r := a.locked(n.IndexStmt.Relation, lockShare)
		a.owns(r)
		a.createIndex(r, n.IndexStmt)
		return "CREATE INDEX"
	case *pg.Node_CommentStmt:
		se.refuseReadOnly("COMMENT")
		return "COMMENT"
	case *pg.Node_CreateSchemaStmt:
		se.refuseReadOnly("CREATE SCHEMA")
		name, db := n.CreateSchemaStmt.Schemaname, se.database
		if a.st.databases[db].schemas[name] {
			if n.CreateSchemaStmt.IfNotExists {
				return "CREATE SCHEMA"
			}
			raise("42P06", `schema "%s" already exists`, name)
		}
		a.catalogChange(func(s *state) { s.changingAll(db).schemas[name] = true })
		return "CREATE SCHEMA"
	case *pg.Node_CreateEnumStmt:
		se.refuseReadOnly("CREATE TYPE")
		names := stringsOf(n.CreateEnumStmt.TypeName)
		db, oid := se.database, a.oid()
		a.catalogChange(func(s *state) { s.changingAll(db).types[names[len(names)-1]] = oid })
		return "CREATE TYPE"
	}
	return a.ddlShared(p)
}

// ddlShared executes a command on what all databases share.
func (a *analysis) ddlShared(p *portal) string {
	se := a.se
	switch n := p.stmt.node.Node.(type) {
	case *pg.Node_CreateRoleStmt:
		se.refuseReadOnly("CREATE ROLE")
		a.rules("create role")
		return a.createRole(n.CreateRoleStmt)
	case *pg.Node_AlterRoleStmt:
		se.refuseReadOnly("ALTER ROLE")
		a.rules("alter role")
		return a.alterRole(n.AlterRoleStmt.Role.Rolename, n.AlterRoleStmt.Options)
	case *pg.Node_AlterRoleSetStmt:
		se.refuseReadOnly("ALTER ROLE")
		role := ""
		if n.AlterRoleSetStmt.Role != nil {
			role = a.roleName(n.AlterRoleSetStmt.Role)
		}
		if role != se.currentUser() {
			a.rules("alter setting of another role")
		}
		a.setDefault(role, n.AlterRoleSetStmt.Database, n.AlterRoleSetStmt.Setstmt)
		return "ALTER ROLE"
	case *pg.Node_AlterDatabaseSetStmt:
		se.refuseReadOnly("ALTER DATABASE")
		a.rules("alter database")
		a.setDefault("", n.AlterDatabaseSetStmt.Dbname, n.AlterDatabaseSetStmt.Setstmt)
		return "ALTER DATABASE"
	case *pg.Node_DropRoleStmt:
		se.refuseReadOnly("DROP ROLE")
		a.rules("drop role")
		for _, r := range n.DropRoleStmt.Roles {
			name := r.GetRoleSpec().Rolename
			if a.st.roles[name] == nil {
				if n.DropRoleStmt.MissingOk {
					se.notice(&Error{Severity: "NOTICE", Code: "00000", Message: fmt.Sprintf(`role "%s" does not exist, skipping`, name)})
					continue
				}
				raise("42704", `role "%s" does not exist`, name)
			}
			a.catalogChange(func(s *state) {
				s.cloneShared()
				delete(s.roles, name)
				s.defaults = slices.DeleteFunc(s.defaults, func(d defaultSetting) bool { return d.role == name })
			})
		}
		return "DROP ROLE"
	case *pg.Node_GrantStmt:
		return a.grant(n.GrantStmt)
	case *pg.Node_GrantRoleStmt:
		return a.grantRole(n.GrantRoleStmt)
	}
	raise("0A000", "simpg: %s is not modelled", p.stmt.kind)
	return ""
}

// beyond refuses what the model has not, if a statement has it.
func beyond(has bool, what string) {
	if has {
		raise("0A000", "simpg: %s is not modelled", what)
	}
}

// createIndex keeps of an index that what it holds is unique.
func (a *analysis) createIndex(r *relation, n *pg.IndexStmt) {
	beyond(n.Unique && (n.WhereClause != nil || n.NullsNotDistinct), "such a unique index")
	k := key{name: n.Idxname}
	var names []string
	for _, p := range n.IndexParams {
		e := p.GetIndexElem()
		beyond(n.Unique && e.Name == "", "a unique index of expressions")
		if i := r.column(e.Name); i >= 0 {
			k.columns, names = append(k.columns, i), append(names, e.Name)
		} else if e.Name != "" {
			raise("42703", `column "%s" does not exist`, e.Name)
		}
	}
	if k.name == "" {
		k.name = r.name + "_" + strings.Join(names, "_") + "_idx"
	}
	db, key := a.se.database, r.key()
	a.catalogChange(func(s *state) {
		if n.Unique {
			r := s.changing(db).changing(key)
			r.keys = append(slices.Clip(r.keys), k)
		}
	})
}

// catalogChange notes a change of the catalog. f is run again whenever the data are made
// anew, so it must do the same each time.
func (a *analysis) catalogChange(f func(s *state)) {
	a.se.change(catalogChange(func(s *state) {
		s.version++
		f(s)
	}))
	a.se.server.write(a.se.server.now().state, 200, false, a.se.rand)
	a.st = a.se.see()
}

// oid takes an OID, for good.
func (a *analysis) oid() uint32 {
	s := a.se.server
	s.nextOID = max(s.nextOID, s.now().state.nextOID)
	s.nextOID++
	oid := s.nextOID
	a.se.change(catalogChange(func(s *state) { s.nextOID = max(s.nextOID, oid) }))
	return oid
}

// schemaFor is the schema that a new relation goes to; it makes the temporary one.
func (a *analysis) schemaFor(v *pg.RangeVar, word string) string {
	se := a.se
	temp := v.Relpersistence == "t" || v.Schemaname == "pg_temp"
	schema := v.Schemaname
	if !temp && schema == "" {
		s, ok := se.creationSchema().(string)
		if !ok {
			at(v.Location, failure("3F000", "no schema has been selected to create in"))
		}
		schema = s
		temp = s == se.tempSchema()
	}
	if se.server.recovering() || se.tx.modes.readOnly && !temp || se.tx.modes.readOnly {
		raise("25006", "cannot execute %s in a read-only transaction", word)
	}
	if temp {
		schema = se.tempSchema()
		if db := se.database; !a.st.databases[db].schemas[schema] {
			a.catalogChange(func(s *state) { s.changingAll(db).schemas[schema] = true })
		}
	}
	if !a.st.databases[se.database].schemas[schema] {
		at(v.Location, failure("3F000", `schema "%s" does not exist`, schema))
	}
	if !temp {
		a.mayCreate(schema, v.Location)
	}
	return schema
}

// mayCreate refuses who may not create in a schema.
func (a *analysis) mayCreate(schema string, location int32) {
	if a.se.super() {
		return
	}
	for grant := range a.st.databases[a.se.database].creators {
		if of, who, _ := strings.Cut(grant, " "); of == schema && (who == "public" || a.se.hasRole(a.se.currentUser(), who)) {
			return
		}
	}
	at(location, failure("42501", "permission denied for schema %s", schema))
}

// create adds a relation.
func (a *analysis) create(r *relation) {
	db := a.se.database
	if a.st.databases[db].relations[r.key()] != nil {
		raise("42P07", `relation "%s" already exists`, r.name)
	}
	a.catalogChange(func(s *state) { s.changing(db).relations[r.key()] = r })
}

func (a *analysis) newRelation(schema, name string, kind byte) *relation {
	return &relation{oid: a.oid(), schema: schema, name: name, kind: kind, owner: a.se.currentUser(), grants: map[string]bool{}, increment: 1}
}

func (a *analysis) newSequence(schema, name string) *relation {
	return a.newRelation(schema, name, 'S')
}

// skips reports whether a relation that is there already is passed over, with a notice.
func (a *analysis) skips(ifNotExists bool, schema, name string) bool {
	if !ifNotExists || a.st.databases[a.se.database].relations[schema+"."+name] == nil {
		return false
	}
	a.se.notice(&Error{Severity: "NOTICE", Code: "42P07", Message: fmt.Sprintf(`relation "%s" already exists, skipping`, name)})
	return true
}

func (a *analysis) createTable(n *pg.CreateStmt) string {
	beyond(len(n.InhRelations) > 0 || n.Partbound != nil || n.Partspec != nil || n.OfTypename != nil || n.Relation.Relpersistence == "u", "such a table")
	schema := a.schemaFor(n.Relation, "CREATE TABLE")
	if a.skips(n.IfNotExists, schema, n.Relation.Relname) {
		return "CREATE TABLE"
	}
	r := a.newRelation(schema, n.Relation.Relname, 'r')
	r.onCommit = n.Oncommit
	var sequences []*relation
	for _, e := range n.TableElts {
		if c := e.GetColumnDef(); c != nil {
			if r.column(c.Colname) >= 0 {
				raise("42701", `column "%s" specified more than once`, c.Colname)
			}
			if seq := a.addColumn(r, c); seq != nil {
				sequences = append(sequences, seq)
			}
		} else if c := e.GetConstraint(); c != nil {
			refuseConstraint(c)
			if r.addKey(c, stringsOf(c.Keys)); c.Contype == pg.ConstrType_CONSTR_CHECK {
				r.checks = append(r.checks, check{cmp.Or(c.Conname, r.name+"_check"), c.RawExpr})
			}
		}
	}
	for _, seq := range sequences {
		a.create(seq)
	}
	a.create(r)
	return "CREATE TABLE"
}

// addColumn adds a column to a relation that is being made, and returns the sequence of a
// serial one.
func (a *analysis) addColumn(r *relation, c *pg.ColumnDef) (seq *relation) {
	parts := stringsOf(c.TypeName.Names)
	col := column{name: c.Colname, typ: a.typeName(c.TypeName), num: int16(len(r.columns) + 1), notNull: c.IsNotNull}
	serial := strings.HasSuffix(parts[len(parts)-1], "serial")
	for _, n := range c.Constraints {
		k := n.GetConstraint()
		refuseConstraint(k)
		switch k.Contype {
		case pg.ConstrType_CONSTR_NOTNULL:
			col.notNull = true
		case pg.ConstrType_CONSTR_DEFAULT:
			col.def = k.RawExpr
			inner := &analysis{se: a.se, st: a.st}
			inner.coerce(inner.expr(col.def, nil), col.typ)
		case pg.ConstrType_CONSTR_IDENTITY:
			serial = true
		case pg.ConstrType_CONSTR_CHECK:
			r.checks = append(slices.Clip(r.checks), check{cmp.Or(k.Conname, r.name+"_"+c.Colname+"_check"), k.RawExpr})
		}
	}
	if serial {
		seq = a.newSequence(r.schema, r.name+"_"+c.Colname+"_seq")
		seq.ownedBy = r.oid
		col.sequence, col.notNull = seq.key(), true
	}
	r.columns = append(slices.Clip(r.columns), col)
	for _, n := range c.Constraints {
		r.addKey(n.GetConstraint(), []string{c.Colname})
	}
	return seq
}

// refuseConstraint refuses the kinds of constraints that the model has not.
func refuseConstraint(c *pg.Constraint) {
	switch c.Contype {
	case pg.ConstrType_CONSTR_FOREIGN, pg.ConstrType_CONSTR_EXCLUSION, pg.ConstrType_CONSTR_GENERATED:
		beyond(true, c.Contype.String())
	}
	beyond(c.Contype == pg.ConstrType_CONSTR_IDENTITY && c.GeneratedWhen == "a" || c.NullsNotDistinct, "such a constraint")
}

// addKey adds a key to a relation that is being made, if the constraint is one.
func (r *relation) addKey(c *pg.Constraint, names []string) {
	if c.Contype != pg.ConstrType_CONSTR_PRIMARY && c.Contype != pg.ConstrType_CONSTR_UNIQUE {
		return
	}
	k := key{name: c.Conname, primary: c.Contype == pg.ConstrType_CONSTR_PRIMARY, deferred: c.Initdeferred}
	for _, n := range names {
		i := r.column(n)
		if i < 0 {
			raise("42703", `column "%s" named in key does not exist`, n)
		}
		k.columns = append(k.columns, i)
	}
	if k.primary {
		r.columns = slices.Clone(r.columns)
		for _, i := range k.columns {
			r.columns[i].notNull = true
		}
	}
	switch {
	case k.name != "":
	case k.primary:
		k.name = r.name + "_pkey"
	default:
		k.name = r.name + "_" + strings.Join(names, "_") + "_key"
	}
	r.keys = append(slices.Clip(r.keys), k)
}

func (a *analysis) createTableAs(into *pg.IntoClause, query *pg.Node, ifNotExists bool, p *portal) string {
	se := a.se
	schema := a.schemaFor(into.Rel, "CREATE TABLE AS")
	if a.skips(ifNotExists, schema, into.Rel.Relname) {
		return "CREATE TABLE AS"
	}
	se.takeSnapshot()
	inner := &portal{prepared: &prepared{text: p.text, stmt: &stmt{node: query, kind: kindOf(query)}, types: p.types}, params: p.params}
	if x := query.GetExecuteStmt(); x != nil {
		se.executeStmt(inner, x)
	} else {
		se.analyze(inner.prepared)
		se.run(inner)
	}
	if inner.failed != nil {
		panic(inner.failed)
	}
	r := a.newRelation(schema, into.Rel.Relname, 'r')
	r.onCommit = into.OnCommit
	names := stringsOf(into.ColNames)
	for i, f := range inner.columns {
		c := column{name: f.name, typ: f.typ, num: int16(i + 1)}
		if i < len(names) {
			c.name = names[i]
		}
		r.columns = append(r.columns, c)
	}
	a.create(r)
	for _, row := range inner.rows {
		se.change(&rowChange{se.database, r.key(), se.rowID(), row})
	}
	return fmt.Sprintf("SELECT %d", len(inner.rows))
}

func (a *analysis) createView(n *pg.ViewStmt) string {
	beyond(n.WithCheckOption > pg.ViewCheckOption_NO_CHECK_OPTION || len(n.Options) > 0 || len(n.Aliases) > 0, "such a view")
	schema := a.schemaFor(n.View, "CREATE VIEW")
	q := a.query(n.Query, nil)
	r := a.newRelation(schema, n.View.Relname, 'v')
	r.view = n.Query.GetSelectStmt()
	for i, f := range q.fields {
		r.columns = append(r.columns, column{name: f.name, typ: f.typ, num: int16(i + 1)})
	}
	if db := a.se.database; n.Replace && a.st.databases[db].relations[r.key()] != nil {
		a.catalogChange(func(s *state) { s.changing(db).relations[r.key()] = r })
		return "CREATE VIEW"
	}
	a.create(r)
	return "CREATE VIEW"
}

func (a *analysis) createFunction(n *pg.CreateFunctionStmt) string {
	beyond(n.SqlBody != nil, "a body in SQL's standard form")
	tag := "CREATE FUNCTION"
	if n.IsProcedure {
		tag = "CREATE PROCEDURE"
	}
	a.se.refuseReadOnly(tag)
	names := stringsOf(n.Funcname)
	f := &function{oid: a.oid(), name: names[len(names)-1], language: "sql", volatility: 'v', procedure: n.IsProcedure, returns: typVoid, settings: map[string]string{}}
	if f.schema, _ = a.se.creationSchema().(string); len(names) > 1 {
		f.schema = names[0]
	}
	if f.schema == "" {
		raise("3F000", "no schema has been selected to create in")
	}
	if f.schema != a.se.tempSchema() {
		a.mayCreate(f.schema, -1)
	}
	if n.ReturnType != nil {
		f.returns, f.set = a.typeName(n.ReturnType), n.ReturnType.Setof
	}
	for _, p := range n.Parameters {
		x := p.GetFunctionParameter()
		beyond(x.Defexpr != nil || x.Mode != pg.FunctionParameterMode_FUNC_PARAM_IN && x.Mode != pg.FunctionParameterMode_FUNC_PARAM_DEFAULT, "such a parameter")
		f.args = append(f.args, param{x.Name, a.typeName(x.ArgType)})
	}
	for _, o := range n.Options {
		f.option(o.GetDefElem())
	}
	if f.language == "plpgsql" {
		f.compiled = parseBlock(f.body)
	} else {
		parse(f.body)
	}
	db, at := a.se.database, functionKey(f.schema, f.name, len(f.args))
	if a.st.databases[db].functions[at] != nil && !n.Replace {
		raise("42723", `function "%s" already exists with same argument types`, f.name)
	}
	a.catalogChange(func(s *state) { s.changingAll(db).functions[at] = f })
	return tag
}

func (f *function) option(d *pg.DefElem) {
	switch d.Defname {
	case "as":
		f.body = d.Arg.GetList().Items[0].GetString_().GetSval()
	case "language":
		f.language = strings.ToLower(d.Arg.GetString_().GetSval())
	case "volatility":
		f.volatility = d.Arg.GetString_().GetSval()[0]
	case "security", "strict", "window", "transform":
		beyond(d.Arg.GetBoolean().GetBoolval() || d.Defname == "transform", d.Defname)
	case "set":
		v := d.Arg.GetVariableSetStmt()
		f.settings[v.Name] = setValue(v)
	}
}

func (a *analysis) alterTable(n *pg.AlterTableStmt) string {
	a.se.refuseReadOnly("ALTER TABLE")
	r := a.locked(n.Relation, lockExclusive)
	a.owns(r)
	for _, c := range n.Cmds {
		a.alter(r.key(), c.GetAlterTableCmd())
	}
	return "ALTER TABLE"
}

// locked finds the relation that a command is about and locks it.
func (a *analysis) locked(v *pg.RangeVar, mode lockMode) *relation {
	for {
		r := a.relation(v)
		if r == nil {
			a.gone(v)
		}
		if waited, _ := a.se.lock(tableID{a.se.database, r.oid}, mode, false, false); !waited {
			return r
		}
		a.se.takeSnapshot()
		a.st = a.se.see()
	}
}

// owns refuses what only the owner of a relation may do.
func (a *analysis) owns(r *relation) {
	if !a.se.super() && !a.se.hasRole(a.se.currentUser(), r.owner) {
		raise("42501", "must be owner of %s %s", map[byte]string{'r': "table", 'v': "view", 'S': "sequence"}[r.kind], r.name)
	}
}

func (a *analysis) alter(key string, c *pg.AlterTableCmd) {
	db := a.se.database
	change := func(f func(r *relation)) {
		a.catalogChange(func(s *state) {
			if d := s.changing(db); d.relations[key] != nil {
				f(d.changing(key))
			}
		})
	}
	r := a.st.databases[db].relations[key]
	switch c.Subtype {
	case pg.AlterTableType_AT_AddColumn:
		a.alterAdd(r, c, change)
	case pg.AlterTableType_AT_DropColumn:
		i := r.column(c.Name)
		if i < 0 {
			raise("42703", `column "%s" of relation "%s" does not exist`, c.Name, r.name)
		}
		change(func(r *relation) {
			r.columns = slices.Delete(slices.Clone(r.columns), i, i+1)
			r.rows = slices.Clone(r.rows)
			for k := range r.rows {
				r.rows[k].vals = slices.Delete(slices.Clone(r.rows[k].vals), i, i+1)
			}
		})
	case pg.AlterTableType_AT_AlterColumnType:
		i := r.column(c.Name)
		to := a.typeName(c.Def.GetColumnDef().TypeName)
		change(func(r *relation) {
			from := r.columns[i].typ
			r.columns, r.rows = slices.Clone(r.columns), slices.Clone(r.rows)
			r.columns[i].typ = to
			for k := range r.rows {
				r.rows[k].vals = slices.Clone(r.rows[k].vals)
				r.rows[k].vals[i] = cast(r.rows[k].vals[i], from, to)
			}
		})
	case pg.AlterTableType_AT_EnableRowSecurity:
		change(func(r *relation) { r.rowLevel = true })
	case pg.AlterTableType_AT_DisableRowSecurity:
		change(func(r *relation) { r.rowLevel = false })
	case pg.AlterTableType_AT_ForceRowSecurity:
		change(func(r *relation) { r.forced = true })
	case pg.AlterTableType_AT_NoForceRowSecurity:
		change(func(r *relation) { r.forced = false })
	case pg.AlterTableType_AT_ChangeOwner:
		owner := a.roleName(c.Newowner)
		change(func(r *relation) { r.owner = owner })
	case pg.AlterTableType_AT_AddConstraint:
		made := *r
		k := c.Def.GetConstraint()
		refuseConstraint(k)
		beyond(k.Contype == pg.ConstrType_CONSTR_CHECK, "ADD CHECK")
		made.addKey(k, stringsOf(k.Keys))
		change(func(r *relation) { r.columns, r.keys = made.columns, made.keys })
	default:
		raise("0A000", "simpg: %v is not modelled", c.Subtype)
	}
}

// alterAdd adds a column.
func (a *analysis) alterAdd(r *relation, c *pg.AlterTableCmd, change func(f func(r *relation))) {
	if name := c.Def.GetColumnDef().Colname; r.column(name) >= 0 {
		if c.MissingOk {
			a.se.notice(&Error{Severity: "NOTICE", Code: "42701", Message: fmt.Sprintf(`column "%s" of relation "%s" already exists, skipping`, name, r.name)})
			return
		}
		raise("42701", `column "%s" of relation "%s" already exists`, name, r.name)
	}
	made := *r
	seq := a.addColumn(&made, c.Def.GetColumnDef())
	if seq != nil {
		a.create(seq)
	}
	col := made.columns[len(r.columns)]
	var fill datum
	if col.def != nil {
		inner := &analysis{se: a.se, st: a.st}
		x := inner.coerce(inner.expr(col.def, nil), col.typ)
		fill = x.eval(&env{se: a.se, st: a.st})
	}
	change(func(r *relation) {
		r.columns, r.keys = made.columns, made.keys
		r.rows = slices.Clone(r.rows)
		for i := range r.rows {
			r.rows[i].vals = append(slices.Clone(r.rows[i].vals), fill)
		}
	})
}

func (a *analysis) drop(n *pg.DropStmt) string {
	words := map[pg.ObjectType]string{
		pg.ObjectType_OBJECT_TABLE: "TABLE", pg.ObjectType_OBJECT_VIEW: "VIEW", pg.ObjectType_OBJECT_SEQUENCE: "SEQUENCE", pg.ObjectType_OBJECT_SCHEMA: "SCHEMA",
		pg.ObjectType_OBJECT_FUNCTION: "FUNCTION", pg.ObjectType_OBJECT_TYPE: "TYPE", pg.ObjectType_OBJECT_POLICY: "POLICY", pg.ObjectType_OBJECT_INDEX: "INDEX", pg.ObjectType_OBJECT_TRIGGER: "TRIGGER",
	}
	word := words[n.RemoveType]
	if word == "" {
		raise("0A000", "simpg: DROP of %v is not modelled", n.RemoveType)
	}
	a.se.refuseReadOnly("DROP " + word)
	for _, o := range n.Objects {
		name, f := a.dropOne(n.RemoveType, o)
		schema, _, inSchema := strings.Cut(name, "\x00")
		switch {
		case f != nil:
			a.catalogChange(f)
		case inSchema && n.MissingOk:
			a.se.notice(&Error{Severity: "NOTICE", Code: "00000", Message: fmt.Sprintf(`schema "%s" does not exist, skipping`, schema)})
		case inSchema:
			raise("3F000", `schema "%s" does not exist`, schema)
		case n.MissingOk:
			a.se.notice(&Error{Severity: "NOTICE", Code: "00000", Message: fmt.Sprintf(`%s "%s" does not exist, skipping`, strings.ToLower(word), name)})
		default:
			code := map[string]string{"TABLE": "42P01", "VIEW": "42P01", "SEQUENCE": "42P01", "SCHEMA": "3F000", "FUNCTION": "42883"}[word]
			if code == "" {
				code = "42704"
			}
			raise(code, `%s "%s" does not exist`, strings.ToLower(word), name)
		}
	}
	return "DROP " + word
}

// dropOne is the change that drops an object; nil if there is none, and then the name has its
// schema before it, with a NUL between, if that is missing.
func (a *analysis) dropOne(kind pg.ObjectType, o *pg.Node) (name string, f func(s *state)) {
	db := a.se.database
	d := a.st.databases[db]
	switch kind {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_SEQUENCE:
		names := stringsOf(o.GetList().Items)
		schema := ""
		if name = names[len(names)-1]; len(names) > 1 {
			schema = names[0]
		}
		r := a.se.find(schema, name)
		switch {
		case r != nil:
		case schema == "pg_temp" && d.schemas[a.se.tempSchema()], schema == "", d.schemas[schema]:
			return name, nil
		default:
			return schema + "\x00" + name, nil
		}
		a.owns(r)
		if waited, _ := a.se.lock(tableID{db, r.oid}, lockExclusive, false, false); waited {
			a.se.takeSnapshot()
			a.st = a.se.see()
			return a.dropOne(kind, o)
		}
		return name, func(s *state) {
			d := s.changing(db)
			delete(d.relations, r.key())
			for k, o := range d.relations {
				if o.ownedBy == r.oid {
					delete(d.relations, k)
				}
			}
		}
	case pg.ObjectType_OBJECT_SCHEMA:
		if name = o.GetString_().GetSval(); !d.schemas[name] {
			return name, nil
		}
		return name, func(s *state) {
			d := s.changingAll(db)
			delete(d.schemas, name)
			for k, r := range d.relations {
				if r.schema == name {
					delete(d.relations, k)
				}
			}
		}
	case pg.ObjectType_OBJECT_FUNCTION:
		w := o.GetObjectWithArgs()
		names := stringsOf(w.Objname)
		fn := a.function(names, len(w.Objargs))
		if fn == nil {
			return strings.Join(names, "\x00"), nil
		}
		return fn.name, func(s *state) { delete(s.changingAll(db).functions, functionKey(fn.schema, fn.name, len(fn.args))) }
	case pg.ObjectType_OBJECT_TYPE:
		names := stringsOf(o.GetTypeName().GetNames())
		if name = names[len(names)-1]; d.types[name] == 0 {
			return name, nil
		}
		return name, func(s *state) { delete(s.changingAll(db).types, name) }
	case pg.ObjectType_OBJECT_POLICY, pg.ObjectType_OBJECT_TRIGGER:
		items := stringsOf(o.GetList().Items)
		name = items[len(items)-1]
		r := a.se.find("", items[len(items)-2])
		if r == nil {
			return name, nil
		}
		return name, func(s *state) {
			r := s.changing(db).changing(r.key())
			r.policies = slices.DeleteFunc(slices.Clone(r.policies), func(p policy) bool { return p.name == name })
			r.triggers = slices.DeleteFunc(slices.Clone(r.triggers), func(t trigger) bool { return t.name == name })
		}
	}
	return "", func(*state) {}
}

func (a *analysis) truncate(n *pg.TruncateStmt) string {
	a.se.refuseReadOnly("TRUNCATE TABLE")
	for _, o := range n.Relations {
		v := o.GetRangeVar()
		r := a.locked(v, lockExclusive)
		a.se.allowed(r, "TRUNCATE")
		db := a.se.database
		a.catalogChange(func(s *state) { s.changing(db).changing(r.key()).rows = nil })
	}
	return "TRUNCATE TABLE"
}

func (a *analysis) createPolicy(n *pg.CreatePolicyStmt) string {
	a.se.refuseReadOnly("CREATE POLICY")
	r := a.locked(n.Table, lockExclusive)
	a.owns(r)
	p := policy{name: n.PolicyName, permissive: n.Permissive, using: n.Qual, check: n.WithCheck, command: map[string]byte{"all": '*', "select": 'r', "insert": 'a', "update": 'w', "delete": 'd'}[n.CmdName]}
	for _, o := range n.Roles {
		if s := o.GetRoleSpec(); s.Roletype != pg.RoleSpecType_ROLESPEC_PUBLIC {
			p.roles = append(p.roles, a.roleName(s))
		}
	}
	a.policy(n.Qual, r, a.table(r, nil).cols)
	a.policy(n.WithCheck, r, a.table(r, nil).cols)
	db := a.se.database
	a.catalogChange(func(s *state) {
		r := s.changing(db).changing(r.key())
		r.policies = append(slices.Clip(r.policies), p)
	})
	return "CREATE POLICY"
}

// Bits of a trigger's timing and events.
const (
	triggerBefore = 1 << 1
	triggerInsert = 1 << 2
	triggerDelete = 1 << 3
	triggerUpdate = 1 << 4
)

func (a *analysis) createTrigger(n *pg.CreateTrigStmt) string {
	a.se.refuseReadOnly("CREATE TRIGGER")
	r := a.locked(n.Relation, lockShareRow)
	f := a.function(stringsOf(n.Funcname), 0)
	if f == nil {
		a.noFunction(stringsOf(n.Funcname), nil, 0)
	}
	t := trigger{name: n.Trigname, function: functionKey(f.schema, f.name, 0), after: n.Timing&triggerBefore == 0}
	for bit, letter := range map[int32]string{triggerInsert: "i", triggerDelete: "d", triggerUpdate: "u"} {
		if n.Events&bit != 0 {
			t.events += letter
		}
	}
	db := a.se.database
	a.catalogChange(func(s *state) {
		r := s.changing(db).changing(r.key())
		r.triggers = append(slices.Clip(r.triggers), t)
	})
	return "CREATE TRIGGER"
}

// rules refuses who is no superuser.
func (a *analysis) rules(what string) {
	if !a.se.super() {
		raise("42501", "simpg: permission denied to %s", what)
	}
}

// roleName is the role that a statement means.
func (a *analysis) roleName(r *pg.RoleSpec) string {
	switch r.Roletype {
	case pg.RoleSpecType_ROLESPEC_CURRENT_USER, pg.RoleSpecType_ROLESPEC_CURRENT_ROLE:
		return a.se.currentUser()
	case pg.RoleSpecType_ROLESPEC_SESSION_USER:
		return a.se.sessionUser()
	case pg.RoleSpecType_ROLESPEC_PUBLIC:
		return "public"
	}
	if a.st.roles[r.Rolename] == nil {
		raise("42704", `role "%s" does not exist`, r.Rolename)
	}
	return r.Rolename
}

func (a *analysis) createRole(n *pg.CreateRoleStmt) string {
	if a.st.roles[n.Role] != nil {
		raise("42710", `role "%s" already exists`, n.Role)
	}
	r := &role{oid: a.oid(), login: n.StmtType == pg.RoleStmtType_ROLESTMT_USER}
	r.options(a, n.Options)
	a.catalogChange(func(s *state) {
		s.cloneShared()
		s.roles[n.Role] = r
	})
	return "CREATE ROLE"
}

func (a *analysis) alterRole(name string, options []*pg.Node) string {
	old := a.st.roles[name]
	if old == nil {
		raise("42704", `role "%s" does not exist`, name)
	}
	r := *old
	r.options(a, options)
	a.catalogChange(func(s *state) {
		s.cloneShared()
		s.roles[name] = &r
	})
	return "ALTER ROLE"
}

func (r *role) options(a *analysis, list []*pg.Node) {
	for _, o := range list {
		d := o.GetDefElem()
		on := d.Arg.GetBoolean().GetBoolval()
		switch d.Defname {
		case "connectionlimit", "validUntil":
			beyond(true, d.Defname)
		case "inherit":
			beyond(!on, "NOINHERIT")
		case "canlogin":
			r.login = on
		case "superuser":
			r.super = on
		case "bypassrls":
			r.bypassRLS = on
		case "password":
			if r.secret = d.Arg.GetString_().GetSval(); r.secret != "" && !scram.IsSecret(r.secret) {
				keys, err := scram.Derive(sha256.New, r.secret, []byte("sixteen bytes of"), a.se.server.cluster.options.Iterations)
				if err != nil {
					raise("XX000", "%v", err)
				}
				r.secret = keys.Secret()
			}
		case "addroleto":
			for _, g := range d.Arg.GetList().Items {
				r.member = append(slices.Clip(r.member), g.GetRoleSpec().Rolename)
			}
		}
	}
}

// setDefault is ALTER ROLE and ALTER DATABASE … SET.
func (a *analysis) setDefault(role, database string, v *pg.VariableSetStmt) {
	reset := v.Kind != pg.VariableSetKind_VAR_SET_VALUE && v.Kind != pg.VariableSetKind_VAR_SET_CURRENT
	all := v.Kind == pg.VariableSetKind_VAR_RESET_ALL
	d := defaultSetting{role: role, database: database}
	if !all {
		low, g := settingName(v.Name)
		d.name = v.Name
		if !reset {
			if d.value = setValue(v); g != nil {
				d.value = g.canonical(d.value)
			}
		}
		if g != nil {
			d.name = low
		}
	}
	a.catalogChange(func(s *state) {
		s.cloneShared()
		s.defaults = slices.DeleteFunc(s.defaults, func(o defaultSetting) bool {
			return o.role == role && o.database == database && (all || o.name == d.name)
		})
		if !reset {
			s.defaults = append(s.defaults, d)
		}
	})
}

func (a *analysis) grant(n *pg.GrantStmt) string {
	tag := "GRANT"
	if !n.IsGrant {
		tag = "REVOKE"
	}
	a.se.refuseReadOnly(tag)
	var keys, grants []string
	beyond(n.Objtype != pg.ObjectType_OBJECT_SCHEMA && n.Objtype != pg.ObjectType_OBJECT_TABLE && n.Objtype != pg.ObjectType_OBJECT_SEQUENCE, "GRANT on such an object")
	if n.Objtype == pg.ObjectType_OBJECT_SCHEMA {
		a.grantSchemas(n)
		return tag
	}
	for _, o := range n.Objects {
		if v := o.GetRangeVar(); v != nil {
			r := a.relation(v)
			if r == nil {
				a.gone(v)
			}
			if !a.se.super() && !a.se.hasRole(a.se.currentUser(), r.owner) {
				raise("42501", "permission denied for table %s", r.name)
			}
			keys = append(keys, r.key())
		} else if schema := o.GetString_().GetSval(); n.Targtype == pg.GrantTargetType_ACL_TARGET_ALL_IN_SCHEMA {
			for k, r := range a.st.databases[a.se.database].relations {
				if r.schema == schema && (r.kind == 'S') == (n.Objtype == pg.ObjectType_OBJECT_SEQUENCE) {
					keys = append(keys, k)
				}
			}
		}
	}
	for _, g := range n.Grantees {
		who := a.roleName(g.GetRoleSpec())
		for _, p := range n.Privileges {
			grants = append(grants, who+" "+strings.ToUpper(p.GetAccessPriv().PrivName))
		}
		if len(n.Privileges) == 0 {
			grants = append(grants, who+" ALL")
		}
	}
	db := a.se.database
	a.catalogChange(func(s *state) {
		d := s.changing(db)
		for _, k := range keys {
			r := d.changing(k)
			old := r.grants
			r.grants = map[string]bool{}
			for g := range old {
				r.grants[g] = true
			}
			for _, g := range grants {
				if r.grants[g] = true; !n.IsGrant {
					delete(r.grants, g)
				}
			}
		}
	})
	return tag
}

// grantSchemas gives the right to create in schemas, or takes it.
func (a *analysis) grantSchemas(n *pg.GrantStmt) {
	creates := len(n.Privileges) == 0
	for _, p := range n.Privileges {
		creates = creates || p.GetAccessPriv().PrivName == "create"
	}
	var keys []string
	for _, o := range n.Objects {
		for _, g := range n.Grantees {
			keys = append(keys, o.GetString_().GetSval()+" "+a.roleName(g.GetRoleSpec()))
		}
	}
	db := a.se.database
	if !creates {
		return
	}
	a.catalogChange(func(s *state) {
		d := s.changingAll(db)
		old := d.creators
		d.creators = map[string]bool{}
		for k := range old {
			d.creators[k] = true
		}
		for _, k := range keys {
			if d.creators[k] = true; !n.IsGrant {
				delete(d.creators, k)
			}
		}
	})
}

func (a *analysis) grantRole(n *pg.GrantRoleStmt) string {
	a.rules("grant role")
	tag := "GRANT ROLE"
	if !n.IsGrant {
		tag = "REVOKE ROLE"
	}
	a.se.refuseReadOnly(tag)
	a.catalogChange(func(s *state) {
		s.cloneShared()
		for _, g := range n.GranteeRoles {
			r := *s.roles[g.GetRoleSpec().Rolename]
			r.member = slices.Clone(r.member)
			for _, o := range n.GrantedRoles {
				name := o.GetAccessPriv().PrivName
				r.member = slices.DeleteFunc(r.member, func(m string) bool { return m == name })
				if n.IsGrant {
					r.member = append(r.member, name)
				}
			}
			s.roles[g.GetRoleSpec().Rolename] = &r
		}
	})
	return tag
}
