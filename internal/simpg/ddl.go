package simpg

import (
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/proto"
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

// relationChange notes a change of a relation, while there is one of the key.
func (a *analysis) relationChange(key string, f func(r *relation)) {
	db := a.se.database
	a.catalogChange(func(s *state) {
		if d := s.changing(db); d.relations[key] != nil {
			f(d.changing(key))
		}
	})
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

// locked finds the relation that a command is about and locks it.
func (a *analysis) locked(v *pg.RangeVar, mode lockMode) *relation {
	for {
		r := a.existing(v)
		if waited, _ := a.se.lock(tableID{a.se.database, r.oid}, mode, false, false); !waited {
			return r
		}
		a.se.takeSnapshot()
		a.st = a.se.see()
	}
}

// owns refuses what only the owner of a relation may do.
func (a *analysis) owns(r *relation) {
	if !a.se.isOwner(r) {
		raise("42501", "must be owner of %s %s", map[byte]string{'r': "table", 'v': "view", 'S': "sequence"}[r.kind], r.name)
	}
}
