package tenant

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// Same reports whether a value is one of a session's tenants, however it is written.
func Same(v string, session []string) bool {
	if slices.Contains(session, v) {
		return true
	}
	v = canonical(v)
	return slices.ContainsFunc(session, func(s string) bool { return canonical(s) == v })
}

// canonical writes equal numbers and equal UUIDs alike.
func canonical(v string) string {
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if len(v) >= 32 && len(v) <= 38 {
		plain := strings.ToLower(strings.NewReplacer("-", "", "{", "", "}", "").Replace(v))
		if _, err := hex.DecodeString(plain); err == nil && len(plain) == 32 {
			return plain
		}
	}
	return v
}

// Elements are those of an array in its text form, none if it is not one of plain values.
func Elements(v string) []string {
	inner, ok := strings.CutPrefix(v, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if !ok || !closed || strings.ContainsAny(inner, `"{}\`) || inner == "" {
		return nil
	}
	return slices.DeleteFunc(strings.Split(inner, ","), func(e string) bool { return e == "NULL" })
}
