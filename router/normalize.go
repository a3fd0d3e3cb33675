package router

import (
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v5"
)

// Normalize is a statement with its literals replaced by parameters, for logs.
// A text the parser refuses is not shown at all: it may hold anything.
func Normalize(text string) string {
	if tooDeep(text) {
		return "<too deep>"
	}
	n, err := pg_query.Normalize(text)
	if err != nil {
		return "<unparsed>"
	}
	return n
}

// Shape is a statement on one line with neither literals nor comments, in which
// anything may stand, for people who compare statements.
func Shape(text string) string {
	n := Normalize(text)
	var b strings.Builder
	l := lexer{text: n}
	end := 0 // of the last token, comments included
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		if t.kind == tokenBad {
			return "<unparsed>" // Normalize would have refused it
		}
		if t.kind == tokenComment {
			continue
		}
		if t.start > end && b.Len() > 0 {
			b.WriteByte(' ')
		}
		end = t.end
		if word := n[t.start:t.end]; t.kind == tokenLiteral && !isParameter(word) {
			b.WriteByte('?') // Normalize leaves those of utility statements
		} else {
			b.WriteString(word)
		}
	}
	return b.String()
}

func isParameter(word string) bool {
	return len(word) > 1 && word[0] == '$' && word[1] >= '0' && word[1] <= '9'
}

// Fingerprint is equal for statements that differ in literals only, 16 hexadecimal
// digits; empty for what the parser refuses. It costs as much as parsing does.
func Fingerprint(text string) string {
	if tooDeep(text) {
		return ""
	}
	f, _ := pg_query.Fingerprint(text)
	return f
}
