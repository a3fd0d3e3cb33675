package grammar

import (
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
)

// Lexer splits a text into PostgreSQL's tokens (manual, section 4.1), as far as
// hints, names and depth need: where comments, literals and words are. It takes
// time in proportion to the text, which the parser's own scanner does not.
type Lexer struct {
	Text string
	pos  int
}

// Kind is what a Token is.
type Kind uint8

const (
	End     Kind = iota
	Bad          // a literal or comment that does not end
	Word         // an identifier or key word
	Quoted       // "identifier", U&"identifier"
	Literal      // a string or number of any form, $1
	Comment
	Other // one character
)

// Token is the text's bytes [start, end).
type Token struct {
	Kind       Kind
	Start, End int
}

// Next is the next token, comments included. After Bad the Lexer is of no use.
func (l *Lexer) Next() Token {
	for l.pos < len(l.Text) && isSpace(l.Text[l.pos]) {
		l.pos++
	}
	start := l.pos
	if start >= len(l.Text) {
		return Token{End, start, start}
	}
	kind := l.scan(l.Text[start])
	return Token{kind, start, l.pos}
}

// Word is t as a word in lower case, or "" if it is none.
func (l *Lexer) Word(t Token) string {
	if t.Kind != Word {
		return ""
	}
	return setting.Fold(l.Text[t.Start:t.End])
}

// Is reports whether t is the one character c.
func (l *Lexer) Is(t Token, c byte) bool { return t.Kind == Other && l.Text[t.Start] == c }

// isIdent reports whether c may continue an identifier.
func isIdent(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 || isDigit(c) || c == '$'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func (l *Lexer) scan(c byte) Kind {
	switch {
	case isIdent(c) && !isDigit(c) && c != '$':
		return l.scanWord(c)
	case isDigit(c):
		for l.pos < len(l.Text) && (isIdent(l.Text[l.pos]) || l.Text[l.pos] == '.') {
			l.pos++
		}
		return Literal
	case c == '\'':
		return l.quoted(Literal, false)
	case c == '"':
		return l.quoted(Quoted, false)
	case c == '$':
		return l.dollar()
	case c == '-', c == '/':
		return l.dashOrSlash(c)
	}
	l.pos++
	return Other
}

func (l *Lexer) at(i int) byte {
	if i < len(l.Text) {
		return l.Text[i]
	}
	return 0
}

func (l *Lexer) scanWord(c byte) Kind {
	for l.pos++; l.pos < len(l.Text) && isIdent(l.Text[l.pos]); l.pos++ {
	}
	n := l.pos
	if n-1 >= 0 && n < len(l.Text) && l.single() {
		switch next := l.Text[n]; {
		case next == '\'' && (c|0x20 == 'e'):
			return l.quoted(Literal, true)
		case next == '\'' && (c|0x20 == 'b' || c|0x20 == 'x' || c|0x20 == 'n'):
			return l.quoted(Literal, false)
		case next == '&' && c|0x20 == 'u' && (l.at(n+1) == '\'' || l.at(n+1) == '"'):
			l.pos++
			if l.at(n+1) == '"' {
				return l.quoted(Quoted, false)
			}
			return l.quoted(Literal, false)
		}
	}
	return Word
}

// single reports whether the word before pos is one byte long.
func (l *Lexer) single() bool {
	return l.pos < 2 || !isIdent(l.Text[l.pos-2])
}

// quoted passes '…' or "…" from its opening quote, with its continuations on
// later lines.
func (l *Lexer) quoted(kind Kind, escapes bool) Kind {
	q := l.Text[l.pos]
	for l.pos++; l.pos < len(l.Text); l.pos++ {
		if !escapes { // the quote is all that matters
			n := strings.IndexByte(l.Text[l.pos:], q)
			if n < 0 {
				break
			}
			l.pos += n
		}
		c := l.Text[l.pos]
		switch {
		case escapes && c == '\\':
			l.pos++
		case c == q && l.at(l.pos+1) == q:
			l.pos++
		case c == q:
			l.pos++
			if q == '\'' && l.continues() {
				continue
			}
			return kind
		}
	}
	l.pos = len(l.Text)
	return Bad
}

// continues moves to the quote of a continuation, if there is one after white
// space and line comments that hold a newline.
func (l *Lexer) continues() bool {
	newline := false
	i := l.pos
	for i < len(l.Text) {
		c := l.Text[i]
		switch {
		case c == '\n' || c == '\r':
			newline = true
			i++
		case isSpace(c):
			i++
		case newline && c == '\'':
			l.pos = i
			return true
		case c == '-' && l.at(i+1) == '-':
			i = endOfLine(l.Text, i)
		default:
			return false
		}
	}
	return false
}

func endOfLine(text string, i int) int {
	for i < len(text) && text[i] != '\n' && text[i] != '\r' {
		i++
	}
	return i
}

// dollar passes $1, $$…$$ or $tag$…$tag$.
func (l *Lexer) dollar() Kind {
	i := l.pos + 1
	if isDigit(l.at(i)) {
		for isDigit(l.at(i)) {
			i++
		}
		l.pos = i
		return Literal
	}
	for i < len(l.Text) && isIdent(l.Text[i]) && l.Text[i] != '$' {
		i++
	}
	if l.at(i) != '$' {
		l.pos++
		return Other
	}
	tag := l.Text[l.pos : i+1]
	for i++; i+len(tag) <= len(l.Text); i++ {
		if l.Text[i] == '$' && l.Text[i:i+len(tag)] == tag {
			l.pos = i + len(tag)
			return Literal
		}
	}
	l.pos = len(l.Text)
	return Bad
}

func (l *Lexer) dashOrSlash(c byte) Kind {
	switch next := l.at(l.pos + 1); {
	case c == '-' && next == '-':
		l.pos = endOfLine(l.Text, l.pos)
		return Comment
	case c == '/' && next == '*':
		return l.blockComment()
	}
	l.pos++
	return Other
}

func (l *Lexer) blockComment() Kind {
	depth := 0
	for l.pos+1 < len(l.Text) {
		switch {
		case l.Text[l.pos] == '/' && l.Text[l.pos+1] == '*':
			depth++
			l.pos += 2
		case l.Text[l.pos] == '*' && l.Text[l.pos+1] == '/':
			depth--
			l.pos += 2
			if depth == 0 {
				return Comment
			}
		default:
			l.pos++
		}
	}
	l.pos = len(l.Text)
	return Bad
}
