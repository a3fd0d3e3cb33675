package router

import (
	"strings"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/lsn"
)

// Consistency is what a read must see of what was committed before. A later one
// promises all that an earlier one does.
type Consistency uint8

const (
	ConsistencyNone Consistency = iota // nobody said
	Eventual                           // nothing certain
	Session                            // what its session committed
	Tenant                             // what sessions of its tenant committed
	Database                           // what anybody committed through the proxy
	Strong                             // all there is when it arrives
	consistencyCount
)

var consistencyNames = [consistencyCount]string{"none", "eventual", "session", "tenant", "database", "strong"}

func (c Consistency) String() string { return consistencyNames[c] }

// Consistencies is how many there are; a Consistency indexes arrays of that length.
const Consistencies = int(consistencyCount)

// ParseConsistency reads a Consistency as operators and sessions write it.
func ParseConsistency(s string) (Consistency, bool) {
	for c := Eventual; c < consistencyCount; c++ {
		if consistencyNames[c] == s {
			return c, true
		}
	}
	return ConsistencyNone, false
}

// findWishes reads what the comments of text say of freshness:
// /* pgweir:consistency=session */ and /* pgweir:min_lsn=16/B374D848 */. Where they
// contradict each other, the stricter wins.
func findWishes(text string) (level Consistency, least lsn.LSN) {
	if !strings.Contains(text, hintPrefix) {
		return level, least
	}
	l := grammar.Lexer{Text: text}
	for t := l.Next(); t.Kind != grammar.End && t.Kind != grammar.Bad; t = l.Next() {
		if t.Kind != grammar.Comment {
			continue
		}
		eachHint(text[t.Start:t.End], func(hint, _ string) {
			name, value, _ := strings.Cut(hint, "=")
			switch name {
			case "consistency":
				c, _ := ParseConsistency(value)
				level = max(level, c)
			case "min_lsn":
				at, _ := lsn.Parse(value)
				least = max(least, at)
			}
		})
	}
	return level, least
}

// eachHint hands over what follows each pgweir: of a comment, up to a space or the like, and
// what is behind it.
func eachHint(comment string, f func(hint, behind string)) {
	for rest := comment; ; {
		i := strings.Index(rest, hintPrefix)
		if i < 0 {
			return
		}
		begins := i == 0 || !identByte[rest[i-1]]
		rest = rest[i+len(hintPrefix):]
		n := 0
		for n < len(rest) && (identByte[rest[n]] || rest[n] == '=' || rest[n] == '/' && !strings.HasPrefix(rest[n:], "/*")) {
			n++
		}
		if begins {
			f(rest[:n], rest[n:])
		}
	}
}
