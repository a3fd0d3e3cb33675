package setting

import (
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Literal is s as an expression that means the same whatever standard_conforming_strings
// is, and whatever client_encoding: in some, a byte that looks like a quote or a backslash
// is half of a character. It is a string constant where IsPlain.
func Literal(s string) string {
	switch {
	case !IsPlain(s):
		return "pg_catalog.convert_from(pg_catalog.decode('" + hex.EncodeToString([]byte(s)) + "', 'hex'), pg_catalog.pg_client_encoding())"
	case strings.Contains(s, `\`):
		return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// IsPlain reports whether s can be quoted without knowing its encoding.
func IsPlain(s string) bool {
	return !strings.ContainsAny(s, `'\`) || !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// Identifier writes a name so that it means what it is.
func Identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quotedLists are settings for which SET quotes each of its values as an identifier, while
// set_config takes the list as it is (GUC_LIST_QUOTE; libraries cannot have such).
var quotedLists = []string{"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

// SQL is the statement that makes the change. It is SET, which unlike a query may stand before
// what must come before any query of its transaction, unless SET cannot say the value.
// https://www.postgresql.org/docs/current/sql-set-transaction.html
func (c Change) SQL() string {
	value, ok := c.operand()
	if !ok {
		return "SELECT pg_catalog.set_config(" + Literal(c.Name) + ", " + Literal(c.Value) + ", " + strconv.FormatBool(c.Local) + ")"
	}
	var parts []string
	for part := range strings.SplitSeq(c.Name, ".") {
		parts = append(parts, Identifier(part))
	}
	verb := "SET "
	if c.Local {
		verb = "SET LOCAL "
	}
	return verb + strings.Join(parts, ".") + " TO " + value
}

// operand is the value as SET takes it; ok is false if that cannot be.
func (c Change) operand() (value string, ok bool) {
	switch {
	case c.Reset:
		return "DEFAULT", true
	case !IsPlain(c.Value):
		return "", false
	case !slices.Contains(quotedLists, c.Name):
		return Literal(c.Value), true
	}
	names := strings.Split(c.Value, ", ")
	for i, name := range names {
		if !listed.MatchString(name) {
			return "", false
		}
		names[i] = Literal(strings.Trim(name, `"`))
	}
	return strings.Join(names, ", "), true
}

// listed are names that a list has as SET writes them, quoted or not.
var listed = regexp.MustCompile(`^([_a-z][$_a-z0-9]*|"[^"]+")$`)
