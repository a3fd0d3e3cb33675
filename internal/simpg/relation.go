package simpg

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

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
	a.relationChange(r.key(), func(r *relation) {
		if n.Unique {
			r.keys = append(slices.Clip(r.keys), k)
		}
	})
}

// schemaFor is the schema that a new relation goes to; it makes the temporary one.
func (a *analysis) schemaFor(v *pg.RangeVar, word string) string {
	se := a.se
	se.refuseReadOnly(word)
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
	inner := p.about(query)
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

func (a *analysis) alterTable(n *pg.AlterTableStmt) string {
	a.se.refuseReadOnly("ALTER TABLE")
	r := a.locked(n.Relation, lockExclusive)
	a.owns(r)
	for _, c := range n.Cmds {
		a.alter(r.key(), c.GetAlterTableCmd())
	}
	return "ALTER TABLE"
}

// existing is where a column is that ALTER TABLE names.
func (r *relation) existing(name string) int {
	i := r.column(name)
	if i < 0 {
		raise("42703", `column "%s" of relation "%s" does not exist`, name, r.name)
	}
	return i
}

func (a *analysis) alter(key string, c *pg.AlterTableCmd) {
	change := func(f func(r *relation)) { a.relationChange(key, f) }
	r := a.st.databases[a.se.database].relations[key]
	switch c.Subtype {
	case pg.AlterTableType_AT_AddColumn:
		a.alterAdd(r, c, change)
	case pg.AlterTableType_AT_DropColumn:
		i := r.existing(c.Name)
		change(func(r *relation) {
			r.columns = slices.Delete(slices.Clone(r.columns), i, i+1)
			r.rows = slices.Clone(r.rows)
			for k := range r.rows {
				r.rows[k].vals = slices.Delete(slices.Clone(r.rows[k].vals), i, i+1)
			}
		})
	case pg.AlterTableType_AT_AlterColumnType:
		i := r.existing(c.Name)
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

func (a *analysis) truncate(n *pg.TruncateStmt) string {
	a.se.refuseReadOnly("TRUNCATE TABLE")
	for _, o := range n.Relations {
		v := o.GetRangeVar()
		r := a.locked(v, lockExclusive)
		a.se.allowed(r, "TRUNCATE")
		a.relationChange(r.key(), func(r *relation) { r.rows = nil })
	}
	return "TRUNCATE TABLE"
}
