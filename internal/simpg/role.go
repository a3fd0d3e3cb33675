package simpg

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/scram"
)

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
			r := a.existing(v)
			if !a.se.isOwner(r) {
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
			r.grants = granted(r.grants, grants, n.IsGrant)
		}
	})
	return tag
}

// granted is a copy of rights to which some are added, or from which they are taken.
func granted(rights map[string]bool, some []string, add bool) map[string]bool {
	now := map[string]bool{}
	maps.Copy(now, rights)
	for _, r := range some {
		if now[r] = true; !add {
			delete(now, r)
		}
	}
	return now
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
		d.creators = granted(d.creators, keys, n.IsGrant)
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
