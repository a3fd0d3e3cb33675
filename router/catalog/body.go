package catalog

import (
	"slices"
	"strings"
)

// body is what the source text of a LANGUAGE sql or plpgsql function shows. The
// scan is by words, not by grammar: what it cannot be sure of it counts as bad.
type body struct {
	unclean   string   // why the text itself can leave session state; empty if it cannot
	words     []string // names, folded: relations or types may be among them
	calls     []string // names that may be functions
	operators []string
	writes    bool // it may write to the relations it names

	// touches are the custom settings it may set, by SET or set_config; sets: it may
	// set settings beyond its transaction.
	touches []string
	sets    bool

	refs string // in place of all the above: references of a parsed expression or body
}

// scanBody reads a function's source.
func scanBody(text string) body {
	s := bodyScan{seen: map[string]bool{}}
	s.run(text)
	if s.dynamic { // what its strings say may be run
		for i := 0; i < len(s.strings); i++ { // grows: strings within strings
			s.run(s.strings[i])
		}
	}
	return s.body
}

type bodyScan struct {
	body
	seen    map[string]bool
	strings []string
	dynamic bool // EXECUTE or DO is there
	lexer   lexer

	// of the statement being read
	prev   string // the token before, folded; "" at the start
	update bool   // the word UPDATE came by
}

func (s *bodyScan) run(text string) {
	s.prev, s.update = "", false
	s.lexer = lexer{text: text}
	var last token
	for {
		t := s.lexer.next()
		switch t.kind {
		case tokenEnd:
			return
		case tokenBroken:
			s.fail("its source cannot be read with certainty")
			return
		case tokenString:
			s.strings = append(s.strings, t.text)
		case tokenWord, tokenQuoted:
			s.word(t, last)
		case tokenOperator:
			s.note("o", t.text, &s.operators)
		case tokenPunct:
			s.punct(t, last)
		}
		s.prev = t.text
		if t.kind == tokenQuoted || t.kind == tokenString {
			s.prev = "x" // no keyword, whatever it says
		}
		last = t
	}
}

func (s *bodyScan) punct(t, last token) {
	switch t.text {
	case ";":
		s.update = false
	case "(":
		if last.kind != tokenWord && last.kind != tokenQuoted || last.text == "set_config" && s.setConfig() {
			return
		}
		s.note("f", last.text, &s.calls)
	}
}

// starters are the tokens after which a statement may begin.
var starters = []string{"", ";", "begin", "atomic", "then", "else", "loop", ">>", "explain", "analyze", "verbose", "also", "instead"}

func (s *bodyScan) word(t, last token) {
	s.note("w", t.text, &s.words)
	if last.kind == tokenPunct && last.text == "." && !(t.text == "set_config" && s.opens()) { // t.f is f(t), if t is a row
		s.note("f", t.text, &s.calls)
	}
	if t.kind == tokenQuoted {
		return
	}
	starts := slices.Contains(starters, s.prev)
	switch t.text {
	case "update":
		s.update, s.writes = true, true
	case "insert", "delete", "merge", "truncate", "copy", "refresh":
		s.writes = true
	case "set":
		if (starts || !s.update) && !s.setStatement() {
			s.fail("its source has SET")
		}
	case "execute":
		s.dynamic, s.writes = true, true
		s.fail("its source has dynamic SQL")
	case "create", "temp", "temporary", "pg_temp", "hold":
		s.fail("its source has " + strings.ToUpper(t.text))
	case "do":
		if starts {
			s.dynamic, s.writes = true, true
			s.fail("its source has DO")
		}
	case "reset":
		if starts && !s.reset() {
			s.fail("its source has RESET")
		}
	case "listen", "unlisten", "prepare", "deallocate", "load", "discard", "alter", "import", "security":
		if starts {
			s.fail("its source has " + strings.ToUpper(t.text))
		}
	}
}

// setStatement looks at what follows the word SET. It reports whether that is a setting with a plain name.
func (s *bodyScan) setStatement() bool {
	l := s.lexer // a copy: what follows is scanned as anything else
	t := l.next()
	local := t.kind == tokenWord && t.text == "local"
	if local || t.kind == tokenWord && t.text == "session" {
		t = l.next()
	}
	if t.kind != tokenWord && t.kind != tokenQuoted {
		return false
	}
	name := strings.ToLower(t.text)
	for t = l.next(); t.kind == tokenPunct && t.text == "."; t = l.next() {
		part := l.next()
		if part.kind != tokenWord && part.kind != tokenQuoted {
			return false
		}
		name += "." + strings.ToLower(part.text)
	}
	follows := t.kind == tokenOperator && t.text == "=" || t.kind == tokenWord && t.text == "to"
	if !follows && name != "role" {
		return false // TRANSACTION, CONSTRAINTS, TIME ZONE and others
	}
	s.setting(name, local)
	return !strings.HasPrefix(name, "transaction_")
}

// reset looks at what follows the word RESET.
func (s *bodyScan) reset() bool {
	l := s.lexer
	t := l.next()
	if t.kind != tokenWord && t.kind != tokenQuoted || t.text == "all" || t.text == "session" {
		return false
	}
	name := strings.ToLower(t.text)
	for t = l.next(); t.kind == tokenPunct && t.text == "."; t = l.next() {
		name += "." + strings.ToLower(l.next().text)
	}
	s.setting(name, false)
	return true
}

// setConfig looks at the arguments of a call of set_config, whose parenthesis is
// open. It reports whether the name is a literal.
func (s *bodyScan) setConfig() bool {
	l := s.lexer
	name, comma := l.next(), l.next()
	if name.kind != tokenString || comma.kind != tokenPunct || comma.text != "," || name.text == "" {
		return false
	}
	depth := 1
	for t := l.next(); depth > 0; t = l.next() { // the value may be any expression
		switch {
		case t.kind == tokenEnd, t.kind == tokenBroken:
			return false
		case t.kind == tokenPunct && (t.text == "(" || t.text == "["):
			depth++
		case t.kind == tokenPunct && (t.text == ")" || t.text == "]"):
			depth--
		case t.kind == tokenPunct && t.text == "," && depth == 1:
			local, end := l.next(), l.next()
			s.setting(strings.ToLower(name.text), local.text == "true" && end.text == ")")
			return true
		}
	}
	return false
}

// opens reports whether a parenthesis follows.
func (s *bodyScan) opens() bool {
	l := s.lexer
	return l.next().text == "("
}

func (s *bodyScan) setting(name string, local bool) {
	if strings.Contains(name, ".") {
		s.note("s", name, &s.touches)
	}
	s.sets = s.sets || !local
}

func (s *bodyScan) fail(why string) {
	if s.unclean == "" {
		s.unclean = why
	}
}

func (s *bodyScan) note(class, name string, into *[]string) {
	if key := class + name; !s.seen[key] {
		s.seen[key] = true
		*into = append(*into, name)
	}
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenQuoted // "identifier"
	tokenString
	tokenOperator
	tokenPunct
	tokenNumber
	tokenBroken // the rest cannot be trusted
)

type token struct {
	kind tokenKind
	text string // words are folded, quotes are taken off
}

// lexer splits SQL or PL/pgSQL (see the manual, "Lexical Structure").
type lexer struct {
	text string
	pos  int
}

const operatorChars = "+-*/<>=~!@#%^&|`?"

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
		return l.quoted('\'', false)
	case c == '"':
		return l.quoted('"', false)
	case c == '$':
		return l.dollar()
	case c >= '0' && c <= '9':
		return l.span(tokenNumber, func(c byte) bool { return isWord(c) || c == '.' })
	case isWord(c):
		return l.word()
	case strings.IndexByte(operatorChars, c) >= 0:
		return l.operator()
	default:
		l.pos++
		return token{tokenPunct, string(c)}
	}
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (l *lexer) span(k tokenKind, in func(byte) bool) token {
	start := l.pos
	for l.pos < len(l.text) && in(l.text[l.pos]) {
		l.pos++
	}
	return token{k, l.text[start:l.pos]}
}

// skipSpace passes white space and comments, which nest; false is an open comment.
func (l *lexer) skipSpace() bool {
	for l.pos < len(l.text) {
		rest := l.text[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "--"):
			end := strings.IndexAny(rest, "\r\n")
			if end < 0 {
				end = len(rest)
			}
			l.pos += end
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
	t := l.span(tokenWord, isWord)
	t.text = strings.ToLower(t.text)
	if l.pos < len(l.text) {
		switch next := l.text[l.pos]; {
		case next == '\'' && t.text == "e":
			return l.quoted('\'', true)
		case next == '\'' && (t.text == "b" || t.text == "x" || t.text == "n"):
			return l.quoted('\'', false)
		case next == '&' && t.text == "u" && l.pos+1 < len(l.text) && strings.IndexByte(`'"`, l.text[l.pos+1]) >= 0:
			return token{kind: tokenBroken} // Unicode escapes may spell any name
		}
	}
	return t
}

// quoted reads a string or quoted identifier at its opening quote. In a plain
// string a backslash before a quote means what standard_conforming_strings said
// when it is read, so nothing after it is sure.
func (l *lexer) quoted(quote byte, escapes bool) token {
	var b strings.Builder
	for l.pos++; l.pos < len(l.text); l.pos++ {
		c := l.text[l.pos]
		switch {
		case c == quote && l.pos+1 < len(l.text) && l.text[l.pos+1] == quote:
			l.pos++
			b.WriteByte(quote)
		case c == quote:
			l.pos++
			if quote == '"' {
				return token{tokenQuoted, b.String()}
			}
			return token{tokenString, b.String()}
		case c == '\\' && quote == '\'' && escapes:
			if l.pos++; l.pos < len(l.text) {
				b.WriteByte(' ') // only dynamic SQL looks inside, and that is unclean already
			}
		case c == '\\' && quote == '\'' && l.pos+1 < len(l.text) && l.text[l.pos+1] == quote:
			return token{kind: tokenBroken}
		default:
			b.WriteByte(c)
		}
	}
	return token{kind: tokenBroken}
}

// dollar reads $1 or $tag$ … $tag$.
func (l *lexer) dollar() token {
	end := l.pos + 1
	for end < len(l.text) && isWord(l.text[end]) && l.text[end] != '$' {
		end++
	}
	if end >= len(l.text) || l.text[end] != '$' {
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
	if !strings.ContainsAny(op, "~!@#%^&|`?") {
		for len(op) > 1 && (strings.HasSuffix(op, "+") || strings.HasSuffix(op, "-")) {
			op = op[:len(op)-1]
		}
		l.pos = start + len(op)
	}
	return token{tokenOperator, op}
}
