package scram

import (
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// prep is SASLprep in the order PostgreSQL applies its tables: a zero width
// space, which stands in two of them, becomes a space and does not vanish.
var prep = func() stringprep.Profile {
	p := stringprep.SASLprep
	p.Mappings = []stringprep.Mapping{{0x200B: []rune{' '}}}
	p.Mappings = append(p.Mappings, stringprep.SASLprep.Mappings...)
	return p
}()

// Prepare normalises a password as PostgreSQL does: SASLprep, or the bytes as they
// are where that is impossible (not UTF-8, a prohibited character) or leaves nothing.
func Prepare(password string) string {
	if isASCII(password) || !utf8.ValidString(password) {
		return password
	}
	prepared, err := prep.Prepare(password)
	if err != nil || prepared == "" {
		return password
	}
	return prepared
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
