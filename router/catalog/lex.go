package catalog

import (
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenQuoted  // "identifier"
	tokenString  // text is what it says, on every server and in every session
	tokenEscaped // a string whose text is only a guess: escapes or settings have a say in it
	tokenOperator
	tokenPunct
	tokenNumber
	tokenBroken // the rest cannot be trusted
)

type token struct {
	kind tokenKind
	text string // words are folded, quotes are taken off
}

// name reports whether t is an identifier.
func (t token) name() bool { return t.kind == tokenWord || t.kind == tokenQuoted }

// is reports whether t is the unquoted word.
func (t token) is(word string) bool { return t.kind == tokenWord && t.text == word }

// punct reports whether t is the character c.
func (t token) punct(c string) bool { return t.kind == tokenPunct && t.text == c }

// lexer splits SQL or PL/pgSQL as PostgreSQL 15 to 18 do (scan.l; manual, "Lexical
// Structure"). What they, or sessions of other settings, may split in another way is a
// tokenBroken: then the rest cannot be trusted.
type lexer struct {
	text string
	pos  int
}

const (
	operatorChars = "+-*/<>=~!@#%^&|`?"
	spaceChars    = " \t\r\n\f\v"

	// maxIdentifier is the length PostgreSQL cuts identifiers to, in bytes (NAMEDATALEN - 1).
	maxIdentifier = 63
	// maxOperator bounds a run of operator characters, of which several tokens may be made.
	maxOperator = 1000
)

func (l *lexer) next() token {
	if !l.skipSpace() {
		return token{kind: tokenBroken}
	}
	if l.pos >= len(l.text) {
		return token{}
	}
	c := l.text[l.pos]
	switch {
	case c == '\'':
		return l.str(false)
	case c == '"':
		return l.identifier()
	case c == '$':
		return l.dollar()
	case isDigit(c):
		return l.number()
	case isWord(c):
		return l.word()
	case strings.IndexByte(operatorChars, c) >= 0:
		return l.operator()
	default:
		l.pos++
		return token{tokenPunct, string(c)}
	}
}

func (l *lexer) at(i int) byte {
	if i < len(l.text) {
		return l.text[i]
	}
	return 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isWord reports whether c may continue an identifier.
func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// skipSpace passes white space and comments, which nest; false is an open comment.
func (l *lexer) skipSpace() bool {
	for l.pos < len(l.text) {
		rest := l.text[l.pos:]
		switch {
		case strings.IndexByte(spaceChars, rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "--"):
			l.skipLine()
		case strings.HasPrefix(rest, "/*"):
			if !l.skipComment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

func (l *lexer) skipLine() {
	end := strings.IndexAny(l.text[l.pos:], "\r\n")
	if end < 0 {
		end = len(l.text) - l.pos
	}
	l.pos += end
}

func (l *lexer) skipComment() bool {
	for depth := 0; l.pos+1 < len(l.text); {
		switch l.text[l.pos : l.pos+2] {
		case "/*":
			depth++
			l.pos += 2
		case "*/":
			depth--
			l.pos += 2
		default:
			l.pos++
		}
		if depth == 0 {
			return true
		}
	}
	return false
}

// word reads an identifier or keyword, or what its prefix makes of a string.
func (l *lexer) word() token {
	start := l.pos
	for l.pos < len(l.text) && isWord(l.text[l.pos]) {
		l.pos++
	}
	t := token{tokenWord, setting.Fold(l.text[start:l.pos])}
	switch next := l.at(l.pos); {
	case next == '\'' && t.text == "e":
		return l.str(true)
	case next == '\'' && (t.text == "b" || t.text == "x"):
		t = l.str(false)
		if t.kind == tokenString {
			t.kind = tokenEscaped // bits
		}
		return t
	case next == '\'' && t.text == "n":
		return l.str(false)
	case next == '&' && t.text == "u" && (l.at(l.pos+1) == '\'' || l.at(l.pos+1) == '"'):
		return token{kind: tokenBroken} // Unicode escapes may spell any name
	}
	return cut(t)
}

// cut makes an identifier that PostgreSQL cuts a broken one: where depends on the encoding.
func cut(t token) token {
	if len(t.text) > maxIdentifier {
		return token{kind: tokenBroken}
	}
	return t
}

// identifier reads one in quotes.
func (l *lexer) identifier() token {
	var b strings.Builder
	for l.pos++; l.pos < len(l.text); l.pos++ {
		switch c := l.text[l.pos]; {
		case c == '"' && l.at(l.pos+1) == '"':
			l.pos++
			b.WriteByte('"')
		case c == '"':
			l.pos++
			return cut(token{tokenQuoted, b.String()})
		default:
			b.WriteByte(c)
		}
	}
	return token{kind: tokenBroken}
}

// str reads a string at its opening quote, with its parts on further lines. In a plain
// one a backslash means what standard_conforming_strings says when it is read, so what
// it says is a guess, and before a quote nothing after it is sure.
func (l *lexer) str(escapes bool) token {
	t := token{kind: tokenString}
	var b strings.Builder
	for l.pos++; l.pos < len(l.text); l.pos++ {
		c := l.text[l.pos]
		switch {
		case c == '\'' && l.at(l.pos+1) == '\'':
			l.pos++
			b.WriteByte(c)
		case c == '\'':
			l.pos++
			if l.continues() {
				continue
			}
			t.text = b.String()
			return t
		case c == '\\' && escapes:
			t.kind = tokenEscaped
			l.pos++
			b.WriteByte(c) // only dynamic SQL looks inside, and that is unclean already
		case c == '\\' && l.at(l.pos+1) == '\'':
			return token{kind: tokenBroken}
		case c == '\\':
			t.kind = tokenEscaped
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return token{kind: tokenBroken}
}

// continues moves to the quote of a string's next part, if there is one after white
// space and line comments in which a line ends.
func (l *lexer) continues() bool {
	ahead, newline := *l, false
	for {
		switch c := ahead.at(ahead.pos); {
		case c == '\n' || c == '\r':
			newline = true
			ahead.pos++
		case c != 0 && strings.IndexByte(spaceChars, c) >= 0:
			ahead.pos++
		case c == '-' && ahead.at(ahead.pos+1) == '-':
			ahead.skipLine()
		case c == '\'' && newline:
			l.pos = ahead.pos
			return true
		default:
			return false
		}
	}
}

// number reads digits with what belongs to them. 1..9 is a range of PL/pgSQL.
func (l *lexer) number() token {
	alnum := func() {
		for l.pos < len(l.text) && isWord(l.text[l.pos]) && l.text[l.pos] != '$' {
			l.pos++
		}
	}
	start := l.pos
	alnum()
	if l.at(l.pos) == '.' && l.at(l.pos+1) != '.' {
		l.pos++
		alnum()
	}
	if l.at(l.pos) == '$' {
		return token{kind: tokenBroken}
	}
	return token{tokenNumber, l.text[start:l.pos]}
}

// dollar reads $1 or $tag$ … $tag$.
func (l *lexer) dollar() token {
	end := l.pos + 1
	parameter := isDigit(l.at(end))
	for end < len(l.text) && isWord(l.text[end]) && l.text[end] != '$' {
		end++
	}
	if parameter && l.at(end) == '$' {
		return token{kind: tokenBroken}
	}
	if l.at(end) != '$' {
		l.pos = end
		return token{kind: tokenNumber}
	}
	tag := l.text[l.pos : end+1]
	size := strings.Index(l.text[end+1:], tag)
	if size < 0 {
		return token{kind: tokenBroken}
	}
	t := token{tokenString, l.text[end+1 : end+1+size]}
	l.pos = end + 1 + size + len(tag)
	return t
}

// operator reads the longest operator; comments end it, and it ends in + or -
// only if it has one of the unusual characters.
func (l *lexer) operator() token {
	start := l.pos
	for l.pos < len(l.text) && strings.IndexByte(operatorChars, l.text[l.pos]) >= 0 {
		if rest := l.text[l.pos:]; l.pos > start && (strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/*")) {
			break
		}
		l.pos++
	}
	op := l.text[start:l.pos]
	if len(op) > maxOperator {
		return token{kind: tokenBroken}
	}
	if !strings.ContainsAny(op, "~!@#%^&|`?") {
		for len(op) > 1 && (strings.HasSuffix(op, "+") || strings.HasSuffix(op, "-")) {
			op = op[:len(op)-1]
		}
		l.pos = start + len(op)
	}
	return token{tokenOperator, op}
}
