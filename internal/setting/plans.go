package setting

// PlannedBy are the built-in settings that decide what a literal or a constant expression means
// when a statement is parsed or planned, which servers do once for many executions. A
// search_path is not among them: servers parse anew when that changes.
var PlannedBy = [...]string{"array_nulls", "backslash_quote", "bytea_output", "client_encoding", "datestyle", "extra_float_digits",
	"intervalstyle", "lc_monetary", "quote_all_identifiers", "standard_conforming_strings", "timezone", "timezone_abbreviations",
	"transform_null_equals", "xmloption"}
