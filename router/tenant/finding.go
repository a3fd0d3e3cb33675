package tenant

// Finding is what is known of one statement text. It is immutable.
type Finding struct {
	Verdict Verdict
	// Kind is the gravest among the tables without a filter; KindNone if there are none.
	Kind Kind
	// Tables are the occurrences of tenant tables, those without a filter first.
	Tables []Table
	// Values are the tenants the text names: what is to be compared with the
	// session's own tenant when the statement runs.
	Values []Value
	// Reason is given by the comment that makes the statement exempt:
	// /* pgweir:cross-tenant reason=monthly report */
	Reason string
	// Fingerprint is equal for statements that differ in literals only (pg_query's,
	// 16 hexadecimal digits). It is given unless the verdict is Filtered or NotTenant.
	Fingerprint string
}

// Table is one occurrence of a tenant table in a statement.
type Table struct {
	Schema string // empty if neither the text nor the catalog says which
	Name   string
	Alias  string // as the statement calls it; empty if by its name
	Via    string // the outermost view that brought it in, if any
	Column string // its tenant column
	Kind   Kind   // what the statement does with it
	// Bound: it has its filter.
	Bound bool
	// Suggestion is the predicate that is missing, or what else to do; empty if Bound.
	Suggestion string
}

// Value is one place where the statement says which tenant: exactly one of Param,
// Setting and Text counts, in that order.
type Value struct {
	Param   int    // 1 for $1 …
	Setting string // name of the setting in current_setting(name)
	Text    string // the literal as text
	// Offset is where the literal stands in the text that was judged, in bytes.
	// Another text of the same plan has its literal elsewhere: ask the Plan.
	Offset int
	// Array: the value is an array of tenants, as in = ANY ($1).
	Array bool
	// Stored: it is given to rows, by INSERT or SET; bound to NULL, a parameter makes
	// rows that are nobody's. Otherwise it is compared with, and NULL finds none.
	Stored bool
	// Column is the tenant column it is compared with or stored in.
	Column string
}

// Missing reports whether a filter is missing: whether there is something to report.
func (f *Finding) Missing() bool { return f != nil && f.Verdict == Missing }

// Unbound are the occurrences without a filter.
func (f *Finding) Unbound() []Table {
	for i := range f.Tables {
		if f.Tables[i].Bound {
			return f.Tables[:i]
		}
	}
	return f.Tables
}

// Verdict is the judgement of a statement.
type Verdict uint8

const (
	// NotTenant: no tenant table is read or written.
	NotTenant Verdict = iota
	// Filtered: every occurrence is bound to one tenant.
	Filtered
	// Many: every occurrence is bound, some to a list of tenants.
	Many
	// Exempt: a filter is missing, and a comment or the policy says that it may.
	Exempt
	// Unknown: the text cannot be parsed, so whether it filters is not known.
	Unknown
	// Missing: some occurrence is not bound.
	Missing
	// Verdicts is how many there are.
	Verdicts
)

var verdictNames = [Verdicts]string{"not_tenant", "filtered", "many", "exempt", "unknown", "missing"}

func (v Verdict) String() string { return nameOf(verdictNames[:], int(v)) }

// Kind is what a statement does with a tenant table. Greater is graver.
type Kind uint8

const (
	KindNone Kind = iota
	// KindUnparsed: the parser does not know the statement, which names the tenant column,
	// so whether it filters by it is not known.
	KindUnparsed
	// KindForeignKey: rows are loaded by what refers to them or what they refer to.
	KindForeignKey
	// KindLookup: rows are found by primary key or another unique key.
	KindLookup
	// KindInsert: rows are stored without saying whose they are (INSERT, COPY, MERGE).
	KindInsert
	// KindRowWrite: UPDATE or DELETE of rows found by a unique key.
	KindRowWrite
	// KindList: any other reading, also aggregates.
	KindList
	// KindBulkWrite: any other UPDATE, DELETE or MERGE.
	KindBulkWrite
	KindTruncate
	// Kinds is how many there are.
	Kinds
)

var kindNames = [Kinds]string{
	"none", "unparsed", "foreign_key", "lookup", "insert", "row_write", "list", "bulk_write", "truncate",
}

func (k Kind) String() string { return nameOf(kindNames[:], int(k)) }

// Writes reports whether rows are changed.
func (k Kind) Writes() bool {
	return k == KindInsert || k == KindRowWrite || k == KindBulkWrite || k == KindTruncate
}

// Severity is how much a finding matters, given what protects the rows besides.
type Severity uint8

const (
	Info Severity = iota
	Warning
	Danger
	// Severities is how many there are.
	Severities
)

var severityNames = [Severities]string{"info", "warning", "danger"}

func (s Severity) String() string { return nameOf(severityNames[:], int(s)) }

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "invalid"
}
