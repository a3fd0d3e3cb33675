package grammar

import "regexp"

// newNumber is how numbers may be written since PostgreSQL 16.
var newNumber = regexp.MustCompile(`^[-+\s]*(?i:0[xob_]|[\d.]+_)`)

// IsNewNumber reports whether text begins with a number, be it signed, as only PostgreSQL 16 and
// newer read it: 0x1F, 0o17, 0b11, 1_000.
// https://www.postgresql.org/docs/16/sql-syntax-lexical.html#SQL-SYNTAX-CONSTANTS-NUMERIC
func IsNewNumber(text string) bool { return newNumber.MatchString(text) }
