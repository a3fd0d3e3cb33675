package console

import (
	"strings"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/wire"
)

// statement is what a client asks: its words, without the semicolon. Comments are left out,
// quotes taken off. Key words are looked for in upper; names and values are in text.
type statement struct {
	text   []string
	upper  []string
	quoted []bool // whether it begins with a quote
}

// word is the i-th word in upper case, "" behind the last.
func (s statement) word(i int) string {
	if i < len(s.upper) {
		return s.upper[i]
	}
	return ""
}

// parse takes a string of statements apart.
func parse(text string) (all []statement, err *wire.Error) {
	l := grammar.Lexer{Text: text}
	var s statement
	end := 0 // of the last token, which the next one may continue
	for {
		t := l.Next()
		switch {
		case t.Kind == grammar.Bad:
			return nil, wire.Errorf("42601", "unterminated quoted string or comment")
		case t.Kind == grammar.Comment:
			continue
		case t.Kind == grammar.End || l.Is(t, ';'):
			if len(s.text) > 0 {
				all = append(all, s)
			}
			if s = (statement{}); t.Kind == grammar.End {
				return all, nil
			}
			continue
		}
		word := unquote(text[t.Start:t.End])
		if n := len(s.text); n > 0 && t.Start == end && joins(l, t, text[end-1]) {
			s.text[n-1] += word
			s.upper[n-1] += strings.ToUpper(word)
		} else {
			s.text, s.upper = append(s.text, word), append(s.upper, strings.ToUpper(word))
			s.quoted = append(s.quoted, text[t.Start] == '"' || text[t.Start] == '\'')
		}
		end = t.End
	}
}

// joins reports whether a token goes on with the word that ends right before it, in c: names have
// dots, addresses colons, and times and memory units.
func joins(l grammar.Lexer, t grammar.Token, c byte) bool {
	const within = ".:-/[]@"
	return t.Kind == grammar.Other && strings.IndexByte(within, l.Text[t.Start]) >= 0 ||
		strings.IndexByte(within, c) >= 0 || t.Kind == grammar.Word && c >= '0' && c <= '9'
}

// unquote takes off the quotes of a name or string.
func unquote(s string) string {
	if n := len(s); n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		q := s[:1]
		return strings.ReplaceAll(s[1:n-1], q+q, q)
	}
	return s
}
