package router

// lexer splits a text into PostgreSQL's tokens (manual, section 4.1), as far as
// hints, names and depth need: where comments, literals and words are. It takes
// time in proportion to the text, which the parser's own scanner does not.
type lexer struct {
	text string
	pos  int
}

type tokenKind uint8

const (
	tokenEnd     tokenKind = iota
	tokenBad               // a literal or comment that does not end
	tokenWord              // an identifier or key word
	tokenQuoted            // "identifier", U&"identifier"
	tokenLiteral           // a string or number of any form, $1
	tokenComment
	tokenOther // one character
)

// token is the text's bytes [start, end).
type token struct {
	kind       tokenKind
	start, end int
}

// next is the next token, comments included. After tokenBad the lexer is of no use.
func (l *lexer) next() token {
	for l.pos < len(l.text) && byteKind[l.text[l.pos]] == byteSpace {
		l.pos++
	}
	start := l.pos
	if start >= len(l.text) {
		return token{tokenEnd, start, start}
	}
	kind := l.scan(l.text[start])
	return token{kind, start, l.pos}
}

// word is the token as a word in lower case, or "" if it is none.
func (l *lexer) word(t token) string {
	if t.kind != tokenWord {
		return ""
	}
	return lowerASCII(l.text[t.start:t.end])
}

// is reports whether t is the one character c.
func (l *lexer) is(t token, c byte) bool { return t.kind == tokenOther && l.text[t.start] == c }

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

func (l *lexer) scan(c byte) tokenKind {
	switch byteKind[c] {
	case byteIdent:
		return l.scanWord(c)
	case byteDigit:
		for l.pos < len(l.text) && (identByte[l.text[l.pos]] || l.text[l.pos] == '.') {
			l.pos++
		}
		return tokenLiteral
	case byteQuote:
		return l.quoted(tokenLiteral, false)
	case byteDoubleQuote:
		return l.quoted(tokenQuoted, false)
	case byteDollar:
		return l.dollar()
	case byteDash, byteSlash:
		return l.dashOrSlash(c)
	}
	l.pos++
	return tokenOther
}

func (l *lexer) at(i int) byte {
	if i < len(l.text) {
		return l.text[i]
	}
	return 0
}

func (l *lexer) scanWord(c byte) tokenKind {
	for l.pos++; l.pos < len(l.text) && identByte[l.text[l.pos]]; l.pos++ {
	}
	n := l.pos
	if n-1 >= 0 && n < len(l.text) && l.single() {
		switch next := l.text[n]; {
		case next == '\'' && (c|0x20 == 'e'):
			return l.quoted(tokenLiteral, true)
		case next == '\'' && (c|0x20 == 'b' || c|0x20 == 'x' || c|0x20 == 'n'):
			return l.quoted(tokenLiteral, false)
		case next == '&' && c|0x20 == 'u' && (l.at(n+1) == '\'' || l.at(n+1) == '"'):
			l.pos++
			if l.at(n+1) == '"' {
				return l.quoted(tokenQuoted, false)
			}
			return l.quoted(tokenLiteral, false)
		}
	}
	return tokenWord
}

// single reports whether the word before pos is one byte long.
func (l *lexer) single() bool {
	return l.pos < 2 || !identByte[l.text[l.pos-2]]
}

// quoted passes '…' or "…" from its opening quote, with its continuations on
// later lines.
func (l *lexer) quoted(kind tokenKind, escapes bool) tokenKind {
	q := l.text[l.pos]
	for l.pos++; l.pos < len(l.text); l.pos++ {
		c := l.text[l.pos]
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
	l.pos = len(l.text)
	return tokenBad
}

// continues moves to the quote of a continuation, if there is one after white
// space and line comments that hold a newline.
func (l *lexer) continues() bool {
	newline := false
	i := l.pos
	for i < len(l.text) {
		c := l.text[i]
		switch {
		case c == '\n' || c == '\r':
			newline = true
			i++
		case byteKind[c] == byteSpace:
			i++
		case newline && c == '\'':
			l.pos = i
			return true
		case c == '-' && l.at(i+1) == '-':
			i = endOfLine(l.text, i)
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
func (l *lexer) dollar() tokenKind {
	i := l.pos + 1
	if isDigit(l.at(i)) {
		for isDigit(l.at(i)) {
			i++
		}
		l.pos = i
		return tokenLiteral
	}
	for i < len(l.text) && identByte[l.text[i]] && l.text[i] != '$' {
		i++
	}
	if l.at(i) != '$' {
		l.pos++
		return tokenOther
	}
	tag := l.text[l.pos : i+1]
	for i++; i+len(tag) <= len(l.text); i++ {
		if l.text[i] == '$' && l.text[i:i+len(tag)] == tag {
			l.pos = i + len(tag)
			return tokenLiteral
		}
	}
	l.pos = len(l.text)
	return tokenBad
}

func (l *lexer) dashOrSlash(c byte) tokenKind {
	switch next := l.at(l.pos + 1); {
	case c == '-' && next == '-':
		l.pos = endOfLine(l.text, l.pos)
		return tokenComment
	case c == '/' && next == '*':
		return l.blockComment()
	}
	l.pos++
	return tokenOther
}

func (l *lexer) blockComment() tokenKind {
	depth := 0
	for l.pos+1 < len(l.text) {
		switch {
		case l.text[l.pos] == '/' && l.text[l.pos+1] == '*':
			depth++
			l.pos += 2
		case l.text[l.pos] == '*' && l.text[l.pos+1] == '/':
			depth--
			l.pos += 2
			if depth == 0 {
				return tokenComment
			}
		default:
			l.pos++
		}
	}
	l.pos = len(l.text)
	return tokenBad
}
