package setting

import (
	"encoding/hex"
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
