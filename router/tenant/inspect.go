package tenant

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/router/catalog"
)

// Inspection is what a database itself does to keep tenants apart. It is immutable.
type Inspection struct {
	Gaps   []Gap               // the gravest first
	Tables int                 // tenant tables
	guards map[string][]guard  // by name
	views  map[string][]string // owners, by name with and without schema
	roles  *Roles
}

// guard is what protects one table.
type guard struct {
	schema, owner  string
	secure, forced bool
	openTo         map[string]bool // logins its policies let read everything; "" is who has no policy of its own
}

// Inspect looks for gaps in what protects the tenant tables from sessions of the
// given login roles; without any, from those of every role that may log in and is no
// superuser. Without roles (nil) nothing is said of roles.
func Inspect(s Schema, p *Policy, roles *Roles, logins []string) *Inspection {
	in := &Inspection{guards: map[string][]guard{}, views: map[string][]string{}, roles: roles}
	if roles == nil {
		in.roles = &Roles{}
	} else if len(logins) == 0 {
		logins = roles.Logins()
	}
	for _, t := range s.AllTables() {
		if t.Kind == 'v' {
			for _, name := range []string{t.Name, dotted(t.Schema, t.Name)} {
				in.views[name] = append(in.views[name], t.Owner)
			}
		}
		column := p.tenantColumn(t)
		if column == "" || !stored(t.Kind) {
			continue
		}
		in.Tables++
		in.table(inspected{Table: t, column: column, policy: p, roles: in.roles, logins: logins})
	}
	for _, name := range logins {
		if why, ok := in.roles.exempt(name); ok && in.Tables > 0 {
			in.add(Gap{Kind: GapRoleBypasses, Role: name,
				Detail: fmt.Sprintf("role %s %s: no row-level security binds it", name, why),
				Remedy: "log in as a role that is neither superuser nor has BYPASSRLS"})
		}
	}
	sortGaps(in.Gaps)
	return in
}

// stored reports whether relations of a kind hold rows.
func stored(kind byte) bool { return strings.IndexByte("rpmf", kind) >= 0 }

func (in *Inspection) add(g Gap) {
	g.Severity = gapSeverities[g.Kind]
	in.Gaps = append(in.Gaps, g)
}

// Covers reports whether row-level security keeps a role's statements to one tenant's
// rows of a table that they use. Where its schema is not known, it must be so of all
// tables of the name. The login "" is a role without special rights. A table is read through a view as the view's owner, unless the
// view says otherwise; that is not known, so it must be so of both.
func (in *Inspection) Covers(login string, t *Table) bool {
	if in == nil || !in.binds(login, t) {
		return false
	}
	if t.Via == "" {
		return true
	}
	owners := in.views[t.Via]
	return len(owners) > 0 && !slices.ContainsFunc(owners, func(owner string) bool { return !in.binds(owner, t) })
}

// binds reports whether row-level security binds a role on a table.
func (in *Inspection) binds(login string, t *Table) bool {
	if _, exempt := in.roles.exempt(login); exempt || login != "" && len(in.roles.byName) == 0 {
		return false
	}
	found := false
	for _, g := range in.guards[t.Name] {
		if t.Schema != "" && t.Schema != g.schema {
			continue
		}
		open, inspected := g.openTo[login]
		if !inspected {
			open = g.openTo[""]
		}
		if !g.secure || open || !g.forced && (login == "" || in.roles.has(login, g.owner)) {
			return false
		}
		found = true
	}
	return found
}

// inspected is a tenant table being inspected.
type inspected struct {
	*catalog.Table
	column string
	policy *Policy
	roles  *Roles
	logins []string
}

func (in *Inspection) table(t inspected) {
	g := guard{schema: t.Schema, owner: t.Owner, secure: t.RowSecurity, forced: t.ForcedRowSecurity}
	defer func() { in.guards[t.Name] = append(in.guards[t.Name], g) }()
	add := func(x Gap) {
		x.Schema, x.Table, x.Column = t.Schema, t.Name, t.column
		in.add(x)
	}
	if t.Kind == 'm' || t.Kind == 'f' {
		add(Gap{Kind: GapNoRLS, Detail: "a materialized view or foreign table has no row-level security", Remedy: "REVOKE it from applications"})
		return
	}
	name := quoteIdent(t.Schema) + "." + quoteIdent(t.Name)
	if !t.RowSecurity && t.parentSecure() {
		// Only who names the partition itself gets around its parent's policies.
		add(Gap{Kind: GapPartition, Detail: "row-level security is off on a partition: whoever names it directly sees all of it",
			Remedy: fmt.Sprintf("REVOKE ALL ON %s FROM applications, or secure it as its parent is", name)})
	} else if !t.RowSecurity {
		add(Gap{Kind: GapNoRLS, Detail: "row-level security is off",
			Remedy: fmt.Sprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; and a policy", name)})
	} else {
		if !t.ForcedRowSecurity {
			add(Gap{Kind: GapNotForced, Detail: "row-level security does not bind the owner, " + t.Owner,
				Remedy: fmt.Sprintf("ALTER TABLE %s FORCE ROW LEVEL SECURITY", name)})
			t.owners(add, name)
		}
		g.openTo = t.policies(add)
	}
	t.tenancy(add, name)
}

// parentSecure reports whether the table is a partition or child of one with row-level security.
func (t *inspected) parentSecure() bool {
	return slices.ContainsFunc(t.Parents, func(p *catalog.Table) bool { return p.RowSecurity })
}

// owners finds the logins that a table's row-level security does not bind because it is theirs.
func (t *inspected) owners(add func(Gap), name string) {
	for _, login := range t.logins {
		if _, exempt := t.roles.exempt(login); !exempt && t.roles.has(login, t.Owner) {
			add(Gap{Kind: GapRoleBypasses, Role: login,
				Detail: fmt.Sprintf("role %s owns the table, or has its owner's privileges, and row-level security is not forced", login),
				Remedy: fmt.Sprintf("ALTER TABLE %s FORCE ROW LEVEL SECURITY", name)})
		}
	}
}

// tenancy looks at the tenant column itself. Partitions have what their parents have.
func (t *inspected) tenancy(add func(Gap), name string) {
	if len(t.Parents) > 0 {
		return
	}
	if c, ok := t.Table.Column(t.column); ok && !c.NotNull {
		add(Gap{Kind: GapNullable, Detail: "the tenant column may be null: such rows belong to nobody",
			Remedy: fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", name, quoteIdent(t.column))})
	}
	led := slices.ContainsFunc(t.Indexes, func(i catalog.Index) bool { return i.First == t.column && !i.Partial })
	if !led {
		add(Gap{Kind: GapNoIndex, Detail: "no index begins with the tenant column: one tenant's rows are found by reading all",
			Remedy: fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s)", name, quoteIdent(t.column))})
	}
}

// tenantColumn is the tenant column of a table, empty if the table has none, or is
// said to have none or to be exempt.
func (p *Policy) tenantColumn(t *catalog.Table) string {
	for _, name := range []string{t.Schema + "." + t.Name, t.Schema + ".*", t.Name} {
		if slices.Contains(p.ExemptTables, name) {
			return ""
		}
	}
	for _, name := range []string{t.Schema + "." + t.Name, t.Name} {
		if column, ok := p.Tables[name]; ok {
			return column
		}
	}
	for _, column := range p.Columns {
		if _, ok := t.Column(column); ok {
			return column
		}
	}
	return ""
}
