package simpg

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

func (se *session) sessionUser() string { return se.set.is("session_authorization") }

// currentUser is who the session acts as.
func (se *session) currentUser() string {
	if r := se.set.is("role"); r != "none" && r != "" {
		return r
	}
	return se.sessionUser()
}

// roleOf returns a role; one that is gone has no rights.
func (se *session) roleOf(name string) *role {
	if r := se.see().roles[name]; r != nil {
		return r
	}
	return &role{}
}

// super reports whether the session acts as a superuser.
func (se *session) super() bool { return se.roleOf(se.currentUser()).super }

// isOwner reports whether the session has the rights of a relation's owner.
func (se *session) isOwner(r *relation) bool {
	return se.super() || se.hasRole(se.currentUser(), r.owner)
}

// hasRole reports whether a role is another or a member of it.
func (se *session) hasRole(member, of string) bool {
	return member == of || slices.ContainsFunc(se.roleOf(member).member, func(m string) bool { return se.hasRole(m, of) })
}

// allowed refuses what the session's user may not do with a relation.
func (se *session) allowed(r *relation, privilege string) {
	user := se.currentUser()
	if se.super() || se.hasRole(user, r.owner) {
		return
	}
	for grant := range r.grants {
		who, what, _ := strings.Cut(grant, " ")
		if (what == privilege || what == "ALL") && (who == "public" || se.hasRole(user, who)) {
			return
		}
	}
	raise("42501", "permission denied for %s %s", map[byte]string{'r': "table", 'v': "view", 'S': "sequence"}[r.kind], r.name)
}

// who is the role whose rights count.
func (a *analysis) who() string {
	if a.user != "" {
		return a.user
	}
	return a.se.currentUser()
}

// both joins conditions of policies; nil is none.
func both(f, g func(e *env) bool) func(e *env) bool {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(e *env) bool { return f(e) && g(e) }
}

// exempt reports whether row security does not concern the session on a table.
func (a *analysis) exempt(r *relation) bool {
	user := a.who()
	u := a.se.roleOf(user)
	return !r.rowLevel || u.super || u.bypassRLS || !r.forced && a.se.hasRole(user, r.owner) || a.noRLS
}

// visible is the condition that policies put on the rows of a table for a command; nil is none.
// cols are the table's columns.
func (a *analysis) visible(r *relation, command byte, cols []scopeCol) func(e *env) bool {
	return a.policed(r, command, cols, false)
}

// checked is the condition that policies put on new rows; nil is none.
func (a *analysis) checked(r *relation, command byte) func(e *env) bool {
	return a.policed(r, command, a.table(r, nil).cols, true)
}

func (a *analysis) policed(r *relation, command byte, cols []scopeCol, check bool) func(e *env) bool {
	if a.exempt(r) {
		return nil
	}
	if !a.se.set.on("row_security") {
		if a.refused == nil { // it is found after all names are
			a.refused = failure("42501", `query would be affected by row-level security policy for table "%s"`, r.name)
		}
		return nil
	}
	var permissive, restrictive []func(e *env) datum
	user := a.who()
	for _, p := range r.policies {
		if p.command != '*' && p.command != command || len(p.roles) > 0 && !slices.ContainsFunc(p.roles, func(o string) bool { return a.se.hasRole(user, o) }) {
			continue
		}
		n := p.using
		if check && p.check != nil {
			n = p.check
		}
		c := a.policy(n, r, cols)
		if p.permissive {
			permissive = append(permissive, c)
		} else {
			restrictive = append(restrictive, c)
		}
	}
	return func(e *env) bool {
		for _, c := range restrictive {
			if c(e) != true {
				return false
			}
		}
		return slices.ContainsFunc(permissive, func(c func(e *env) datum) bool { return c(e) == true })
	}
}

// policy analyzes a policy's expression over a table's columns.
func (a *analysis) policy(n *pg.Node, r *relation, cols []scopeCol) func(e *env) datum {
	inner := &analysis{se: a.se, st: a.st, depth: 1}
	bare := slices.Clone(cols)
	for i := range bare {
		bare[i].rel = r.name
	}
	f := inner.where(n, &scope{cols: bare})
	a.tables = append(a.tables, inner.tables...)
	return f
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
	a.relationChange(r.key(), func(r *relation) { r.policies = append(slices.Clip(r.policies), p) })
	return "CREATE POLICY"
}
