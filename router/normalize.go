package router

import (
	"errors"
	"strings"

	"github.com/pgweir/pgweir/internal/grammar"
)

// Normalize is a statement with its literals replaced by parameters, for logs.
// A text the parser refuses is not shown at all: it may hold anything.
func Normalize(text string) string {
	n, err := grammar.Normalize(text)
	switch {
	case errors.Is(err, grammar.ErrTooDeep):
		return "<too deep>"
	case err != nil:
		return "<unparsed>"
	}
	return n
}

// Shape is a statement on one line with neither literals nor comments, in which
// anything may stand, for people who compare statements.
func Shape(text string) string {
	n := Normalize(text)
	var b strings.Builder
	l := grammar.Lexer{Text: n}
	end := 0 // of the last token, comments included
	for t := l.Next(); t.Kind != grammar.End; t = l.Next() {
		if t.Kind == grammar.Bad {
			return "<unparsed>" // Normalize would have refused it
		}
		if t.Kind == grammar.Comment {
			continue
		}
		if t.Start > end && b.Len() > 0 {
			b.WriteByte(' ')
		}
		end = t.End
		if word := n[t.Start:t.End]; t.Kind == grammar.Literal && !isParameter(word) {
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
	f, _ := grammar.Fingerprint(text)
	return f
}
