package tenant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/router/catalog"
)

// Roles is what row-level security asks of roles, and the SQL functions policies
// call. It is immutable.
type Roles struct {
	byName    map[string]role
	functions map[string]string
}

type role struct {
	super, bypass bool
	login         bool
	member        map[string]bool // of what it has the privileges, of the roles that own a table or are named by a policy
}

// rolesQuery: name, superuser, BYPASSRLS, may log in, and the roles it has the
// privileges of, as a JSON list.
const rolesQuery = `
SELECT r.rolname, r.rolsuper, r.rolbypassrls, r.rolcanlogin,
  pg_catalog.array_to_json(ARRAY(SELECT o.rolname::pg_catalog.text FROM pg_catalog.pg_roles o
    WHERE o.oid IN (
      SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p')
      UNION SELECT pg_catalog.unnest(p.polroles) FROM pg_catalog.pg_policy p)
    AND pg_catalog.pg_has_role(r.oid, o.oid, 'USAGE')))
  FROM pg_catalog.pg_roles r
 ORDER BY r.rolname`

// policyFunctionsQuery: schema, name and source of functions without arguments that
// policies call and that are written in SQL.
const policyFunctionsQuery = `
SELECT DISTINCT n.nspname, p.proname, COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)
  FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass
   AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
   AND l.lanname = 'sql' AND p.pronargs = 0 AND NOT p.proretset`

var errRow = errors.New("the answer has another shape than expected")

// LoadRoles reads the roles from the database that q runs its queries in. Any role
// may ask, and a standby answers as well as a primary.
func LoadRoles(ctx context.Context, q catalog.Query) (*Roles, error) {
	r := &Roles{byName: map[string]role{}, functions: map[string]string{}}
	if err := read(ctx, q, rolesQuery, 5, r.addRole); err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	if err := read(ctx, q, policyFunctionsQuery, 3, r.addFunction); err != nil {
		return nil, fmt.Errorf("read functions of policies: %w", err)
	}
	return r, nil
}

func read(ctx context.Context, q catalog.Query, sql string, width int, row func([][]byte) error) error {
	return q(ctx, sql, func(values [][]byte) error {
		if len(values) != width {
			return errRow
		}
		return row(values)
	})
}

func (r *Roles) addRole(v [][]byte) error {
	flag := func(i int) bool { return string(v[i]) == "t" }
	var of []string
	if err := json.Unmarshal(v[4], &of); err != nil {
		return err
	}
	x := role{super: flag(1), bypass: flag(2), login: flag(3), member: map[string]bool{}}
	for _, name := range of {
		x.member[name] = true
	}
	r.byName[string(v[0])] = x
	return nil
}

// addFunction notes a function by both its names; which of several schemas an
// unqualified one means is not known, so then none is.
func (r *Roles) addFunction(v [][]byte) error {
	schema, name, source := string(v[0]), string(v[1]), bodyOf(string(v[2]))
	r.functions[schema+"."+name] = source
	if _, twice := r.functions[name]; twice {
		source = ""
	}
	r.functions[name] = source
	return nil
}

// Logins are the roles that may log in and are not superusers.
func (r *Roles) Logins() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(r.byName)) {
		if x := r.byName[name]; x.login && !x.super {
			names = append(names, name)
		}
	}
	return names
}

// exempt reports whether no table's row-level security binds the role, and by what.
func (r *Roles) exempt(name string) (why string, exempt bool) {
	switch x := r.byName[name]; {
	case x.super:
		return "is a superuser", true
	case x.bypass:
		return "has BYPASSRLS", true
	}
	return "", false
}

// has reports whether a role has the privileges of another.
func (r *Roles) has(name, of string) bool { return name == of || r.byName[name].member[of] }

// bodyOf makes a statement of a function's source: of a body that PostgreSQL keeps
// parsed it shows RETURN or BEGIN ATOMIC … END.
func bodyOf(source string) string {
	source = strings.TrimSpace(source)
	if expression, ok := strings.CutPrefix(source, "RETURN "); ok {
		return "SELECT " + expression
	}
	if statements, ok := strings.CutPrefix(source, "BEGIN ATOMIC"); ok {
		return strings.TrimSuffix(statements, "END")
	}
	return source
}
