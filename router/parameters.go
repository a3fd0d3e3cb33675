package router

import (
	"strconv"

	"github.com/pgweir/pgweir/internal/grammar"
)

// Parameters returns how many parameters a statement has: the highest $n in its text, or 0
// of a text with a literal or comment that does not end.
func Parameters(text string) (n int) {
	l := grammar.Lexer{Text: text}
	for t := l.Next(); t.Kind != grammar.End; t = l.Next() {
		if t.Kind == grammar.Bad {
			return 0
		}
		if word := text[t.Start:t.End]; t.Kind == grammar.Literal && isParameter(word) {
			i, _ := strconv.Atoi(word[1:])
			n = max(n, i)
		}
	}
	return n
}
