package tenant

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/router/catalog"
)

// createAs is CREATE MATERIALIZED VIEW and CREATE TABLE AS: the columns have the
// names of the query's output, and types nobody knows before it runs.
func (d *ddl) createAs(s *pg.CreateTableAsStmt) {
	into := s.GetInto()
	if s.GetIfNotExists() && d.find(into.GetRel()) != nil {
		return
	}
	kind := byte('r')
	if s.GetObjtype() == pg.ObjectType_OBJECT_MATVIEW {
		kind = 'm'
	}
	names := texts(into.GetColNames())
	sel := s.GetQuery().GetSelectStmt()
	for sel.GetLarg() != nil {
		sel = sel.GetLarg()
	}
	t := d.add(into.GetRel(), kind)
	for i, target := range sel.GetTargetList() {
		name := outputName(target.GetResTarget())
		if i < len(names) {
			name = names[i]
		}
		t.Columns = append(t.Columns, catalog.Column{Name: name})
	}
}

// view keeps the definition; the names of its columns are found when it is used,
// but for those the statement itself gives.
func (d *ddl) view(s *pg.ViewStmt) {
	t := d.add(s.GetView(), 'v')
	for _, name := range texts(s.GetAliases()) {
		t.Columns = append(t.Columns, catalog.Column{Name: name})
	}
	text, err := pg.Deparse(&pg.ParseResult{Stmts: []*pg.RawStmt{{Stmt: s.GetQuery()}}})
	if err == nil {
		t.View = text
	}
}

func (d *ddl) alter(s *pg.AlterTableStmt) {
	t := d.find(s.GetRelation())
	if t == nil {
		return // another kind of relation
	}
	for _, n := range s.GetCmds() {
		d.alterOne(t, n.GetAlterTableCmd())
	}
}

func (d *ddl) alterOne(t *catalog.Table, c *pg.AlterTableCmd) {
	on := []string{c.GetName()}
	switch c.GetSubtype() {
	case pg.AlterTableType_AT_AddColumn:
		d.column(t, c.GetDef().GetColumnDef())
		for _, child := range t.Children {
			d.alterOne(child, c)
		}
	case pg.AlterTableType_AT_DropColumn:
		t.Columns = slices.DeleteFunc(t.Columns, func(o catalog.Column) bool { return o.Name == c.GetName() })
	case pg.AlterTableType_AT_AlterColumnType:
		if col, ok := t.Column(c.GetName()); ok {
			col.Type = columnType(c.GetDef().GetColumnDef().GetTypeName())
		}
	case pg.AlterTableType_AT_AddConstraint:
		d.constraint(t, c.GetDef().GetConstraint(), nil)
	case pg.AlterTableType_AT_DropConstraint:
		t.Keys = slices.DeleteFunc(t.Keys, func(k catalog.Key) bool { return k.Name == c.GetName() })
		t.Indexes = slices.DeleteFunc(t.Indexes, func(x catalog.Index) bool { return x.Name == c.GetName() })
	case pg.AlterTableType_AT_SetNotNull:
		setNotNull(t, on, true)
	case pg.AlterTableType_AT_DropNotNull:
		setNotNull(t, on, false)
	case pg.AlterTableType_AT_ColumnDefault:
		setDefault(t, on, c.GetDef())
	case pg.AlterTableType_AT_ChangeOwner:
		t.Owner = c.GetNewowner().GetRolename()
	case pg.AlterTableType_AT_EnableRowSecurity, pg.AlterTableType_AT_DisableRowSecurity:
		t.RowSecurity = c.GetSubtype() == pg.AlterTableType_AT_EnableRowSecurity
	case pg.AlterTableType_AT_ForceRowSecurity, pg.AlterTableType_AT_NoForceRowSecurity:
		t.ForcedRowSecurity = c.GetSubtype() == pg.AlterTableType_AT_ForceRowSecurity
	case pg.AlterTableType_AT_AttachPartition:
		if child := d.find(c.GetDef().GetPartitionCmd().GetName()); child != nil {
			inherit(t, child)
		}
	case pg.AlterTableType_AT_DetachPartition:
		disinherit(t, d.find(c.GetDef().GetPartitionCmd().GetName()))
	case pg.AlterTableType_AT_AddInherit:
		if parent := d.find(c.GetDef().GetRangeVar()); parent != nil {
			inherit(parent, t)
		}
	case pg.AlterTableType_AT_DropInherit:
		disinherit(d.find(c.GetDef().GetRangeVar()), t)
	}
}

func disinherit(parent, child *catalog.Table) {
	if parent == nil || child == nil {
		return
	}
	parent.Children = slices.DeleteFunc(parent.Children, func(o *catalog.Table) bool { return o == child })
	child.Parents = slices.DeleteFunc(child.Parents, func(o *catalog.Table) bool { return o == parent })
}

func (d *ddl) rename(s *pg.RenameStmt) {
	t := d.find(s.GetRelation())
	if t == nil {
		return
	}
	switch s.GetRenameType() {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_FOREIGN_TABLE:
		t.Name = s.GetNewname()
	case pg.ObjectType_OBJECT_COLUMN:
		renameColumn(t, s.GetSubname(), s.GetNewname())
	case pg.ObjectType_OBJECT_POLICY:
		for i := range t.Policies {
			if t.Policies[i].Name == s.GetSubname() {
				t.Policies[i].Name = s.GetNewname()
			}
		}
	}
}

func renameColumn(t *catalog.Table, from, to string) {
	if c, ok := t.Column(from); ok {
		c.Name = to
	}
	for i := range t.Keys {
		replace(t.Keys[i].Columns, from, to)
	}
	for i := range t.Foreign {
		replace(t.Foreign[i].Columns, from, to)
	}
	for i := range t.Indexes {
		if t.Indexes[i].First == from {
			t.Indexes[i].First = to
		}
	}
	for _, child := range t.Children {
		renameColumn(child, from, to)
	}
}

func replace(list []string, from, to string) {
	if i := slices.Index(list, from); i >= 0 {
		list[i] = to
	}
}

func (d *ddl) index(s *pg.IndexStmt) {
	t := d.find(s.GetRelation())
	if t == nil {
		return
	}
	x := catalog.Index{Name: s.GetIdxname(), Partial: s.GetWhereClause() != nil}
	columns, plain := make([]string, 0, len(s.GetIndexParams())), true
	for i, p := range s.GetIndexParams() {
		name := p.GetIndexElem().GetName()
		if i == 0 {
			x.First = name
		}
		columns, plain = append(columns, name), plain && name != ""
	}
	t.Indexes = append(t.Indexes, x)
	if s.GetUnique() && plain && !x.Partial {
		addKey(t, catalog.Key{Name: x.Name, Columns: columns})
	}
}

var policyCommands = map[string]byte{"all": '*', "select": 'r', "insert": 'a', "update": 'w', "delete": 'd'}

func (d *ddl) policy(s *pg.CreatePolicyStmt) {
	t := d.find(s.GetTable())
	if t == nil {
		return
	}
	t.Policies = append(t.Policies, catalog.Policy{
		Name: s.GetPolicyName(), Command: policyCommands[s.GetCmdName()], Permissive: s.GetPermissive(),
		Roles: roleNames(s.GetRoles()), Using: deparse(s.GetQual()), Check: deparse(s.GetWithCheck()),
	})
}

func (d *ddl) alterPolicy(s *pg.AlterPolicyStmt) {
	t := d.find(s.GetTable())
	if t == nil {
		return
	}
	for i := range t.Policies {
		p := &t.Policies[i]
		if p.Name != s.GetPolicyName() {
			continue
		}
		if len(s.GetRoles()) > 0 {
			p.Roles = roleNames(s.GetRoles())
		}
		if s.GetQual() != nil {
			p.Using = deparse(s.GetQual())
		}
		if s.GetWithCheck() != nil {
			p.Check = deparse(s.GetWithCheck())
		}
	}
}

// roleNames leaves PUBLIC out: no name is everybody.
func roleNames(list []*pg.Node) []string {
	var names []string
	for _, n := range list {
		r := n.GetRoleSpec()
		switch r.GetRoletype() {
		case pg.RoleSpecType_ROLESPEC_PUBLIC:
			return nil
		case pg.RoleSpecType_ROLESPEC_CSTRING:
			names = append(names, r.GetRolename())
		default:
			names = append(names, "CURRENT_USER")
		}
	}
	return names
}

func (d *ddl) drop(s *pg.DropStmt) {
	for _, o := range s.GetObjects() {
		list := texts(o.GetList().GetItems())
		switch s.GetRemoveType() {
		case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_FOREIGN_TABLE:
			if t := d.named(qualified(list)); t != nil {
				d.remove(t)
			}
		case pg.ObjectType_OBJECT_INDEX:
			d.dropIndex(list)
		case pg.ObjectType_OBJECT_POLICY:
			name := list[len(list)-1]
			if t := d.named(qualified(list[:len(list)-1])); t != nil {
				t.Policies = slices.DeleteFunc(t.Policies, func(p catalog.Policy) bool { return p.Name == name })
			}
		}
	}
}

// dropIndex looks for the index in the tables of its schema.
func (d *ddl) dropIndex(list []string) {
	schema, name := qualified(list)
	for _, t := range d.tables {
		if schema == "" || t.Schema == schema {
			t.Keys = slices.DeleteFunc(t.Keys, func(k catalog.Key) bool { return k.Name == name })
			t.Indexes = slices.DeleteFunc(t.Indexes, func(x catalog.Index) bool { return x.Name == name })
		}
	}
}

// qualified splits a dotted name into schema and name; a database is dropped.
func qualified(list []string) (schema, name string) {
	if n := len(list); n > 1 {
		return list[n-2], list[n-1]
	} else if n == 1 {
		return "", list[0]
	}
	return "", ""
}
