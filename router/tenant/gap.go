package tenant

import (
	"cmp"
	"slices"
	"strings"
)

// Gap is something by which a database itself lets a tenant's rows be mixed up.
type Gap struct {
	Kind     GapKind
	Severity Severity
	// Schema and Table are empty for what is true of a role in the whole database.
	Schema, Table string
	Column        string   // the tenant column
	Policies      []string // those that are to blame
	Commands      []string // SELECT, INSERT, UPDATE, DELETE, where they matter
	Role          string   // the login role it is about, if it is about one
	Detail        string   // what is so, in words
	Remedy        string   // SQL or words
}

// Qualified is the table with its schema.
func (g *Gap) Qualified() string {
	if g.Schema == "" {
		return g.Table
	}
	return g.Schema + "." + g.Table
}

// GapKind is what kind of gap there is.
type GapKind uint8

const (
	// GapNoRLS: a table with a tenant column has no row-level security.
	GapNoRLS GapKind = iota
	// GapPolicyOpen: the policies let every row through, whatever is set.
	GapPolicyOpen
	// GapRoleBypasses: a login role is not bound by row-level security.
	GapRoleBypasses
	// GapPolicyOpenUnset: they do as long as the tenant's setting has no value.
	GapPolicyOpenUnset
	// GapNotForced: row-level security does not bind the table's owner.
	GapNotForced
	// GapPartition: a partition or child has no row-level security of its own.
	GapPartition
	// GapNullable: the tenant column may be null, so rows may belong to nobody.
	GapNullable
	// GapNoPolicy: no policy permits a command, which therefore finds no row.
	GapNoPolicy
	// GapPolicyUnclear: what the policies let through depends on what cannot be judged here.
	GapPolicyUnclear
	// GapNoIndex: no index begins with the tenant column.
	GapNoIndex
	// GapKinds is how many there are.
	GapKinds
)

var gapNames = [GapKinds]string{
	"no_rls", "policy_open", "role_bypasses", "policy_open_unset", "not_forced", "partition", "nullable", "no_policy",
	"policy_unclear", "no_index",
}

func (k GapKind) String() string { return nameOf(gapNames[:], int(k)) }

// gapSeverities: what lets rows of other tenants be read is danger, what does so
// if something else goes wrong a warning.
var gapSeverities = [GapKinds]Severity{
	GapNoRLS: Danger, GapPolicyOpen: Danger, GapRoleBypasses: Danger,
	GapPolicyOpenUnset: Warning, GapNotForced: Warning, GapPartition: Warning, GapNullable: Warning,
	GapNoPolicy: Info, GapPolicyUnclear: Info, GapNoIndex: Info,
}

// SeverityOf is the severity of a kind of gap.
func SeverityOf(k GapKind) Severity { return gapSeverities[k] }

// sortGaps puts the gravest first, then goes by table.
func sortGaps(gaps []Gap) {
	slices.SortStableFunc(gaps, func(a, b Gap) int {
		return cmp.Or(-cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Role, b.Role),
			cmp.Compare(strings.Join(a.Commands, ","), strings.Join(b.Commands, ",")))
	})
}
