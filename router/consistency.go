package router

import (
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/internal/grammar"
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

// ParseLSN reads an LSN, a place in the write-ahead log, as PostgreSQL writes it, such as
// 16/B374D848.
func ParseLSN(s string) (lsn uint64, ok bool) {
	high, low, ok := strings.Cut(s, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err != nil || err2 != nil {
		return 0, false
	}
	return h<<32 | l, true
}

// findWishes reads what the comments of text say of freshness:
// /* pgweir:consistency=session */ and /* pgweir:min_lsn=16/B374D848 */. Where they
// contradict each other, the stricter wins.
func findWishes(text string) (level Consistency, lsn uint64) {
	if !strings.Contains(text, hintPrefix) {
		return level, lsn
	}
	l := grammar.Lexer{Text: text}
	for t := l.Next(); t.Kind != grammar.End && t.Kind != grammar.Bad; t = l.Next() {
		if t.Kind != grammar.Comment {
			continue
		}
		eachHint(text[t.Start:t.End], func(hint string) {
			name, value, _ := strings.Cut(hint, "=")
			switch name {
			case "consistency":
				c, _ := ParseConsistency(value)
				level = max(level, c)
			case "min_lsn":
				n, _ := ParseLSN(value)
				lsn = max(lsn, n)
			}
		})
	}
	return level, lsn
}

// eachHint hands over what follows each pgweir: of a comment, up to a space or the like.
func eachHint(comment string, f func(hint string)) {
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
			f(rest[:n])
		}
	}
}
