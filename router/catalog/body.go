package catalog

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pgweir/pgweir/internal/setting"
)

// body is what the source text of a LANGUAGE sql or plpgsql function shows. The
// scan is by words, not by grammar: what it cannot be sure of it counts as bad.
type body struct {
	unclean   string   // why the text itself can leave session state; empty if it cannot
	words     []string // names, folded: relations or types may be among them
	calls     []string // names that may be functions
	operators []string
	writes    bool // it may write to the relations it names, or otherwise run what writing runs
	ddl       bool // it may run what event triggers see

	// touches are the custom settings it may set, by SET or set_config; sets: it may
	// set settings beyond its transaction.
	touches []string
	sets    bool

	refs string // in place of all the above: references of a parsed expression or body
}

// What a scan does is bounded by the length of the source, whatever that says.
const (
	// dynamicTimes and shortBody bound the strings looked into: strings within strings
	// could be as deep as the text is long. Dynamic SQL is unclean already.
	dynamicTimes = 4
	shortBody    = 4 << 10
	// maxArguments bounds the tokens of a set_config whose end is looked for.
	maxArguments = 100
	// maxSetting bounds the name of a setting, in bytes.
	maxSetting = 500
)

// scanBody reads a function's source.
func scanBody(text string) body {
	s := bodyScan{seen: map[string]bool{}}
	s.run(text)
	if s.dynamic { // what its strings say may be run
		left := dynamicTimes*len(text) + shortBody
		for i := 0; i < len(s.strings) && left > 0; i++ { // grows: strings within strings
			left -= len(s.strings[i])
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
		case tokenString, tokenEscaped:
			s.strings = append(s.strings, t.text)
		case tokenWord, tokenQuoted:
			s.word(t, last)
		case tokenOperator:
			s.note("o", t.text, &s.operators)
		case tokenPunct:
			s.punct(t, last)
		case tokenNumber:
		}
		s.prev = t.text
		if t.kind == tokenQuoted || t.kind == tokenString || t.kind == tokenEscaped {
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
		if !last.name() || last.text == "set_config" && s.setConfig() {
			return
		}
		s.name("f", last, &s.calls)
	}
}

// starters are the tokens after which a statement may begin.
var starters = []string{"", ";", "begin", "atomic", "then", "else", "loop", ">>", "explain", "analyze", "verbose", "also", "instead"}

func (s *bodyScan) word(t, last token) {
	s.name("w", t, &s.words)
	if last.punct(".") && !(t.text == "set_config" && s.opens()) { // t.f is f(t), if t is a row
		s.name("f", t, &s.calls)
	}
	if t.kind == tokenQuoted {
		return
	}
	starts := slices.Contains(starters, s.prev)
	switch t.text {
	case "update":
		s.update, s.writes = true, true
	case "insert", "delete", "merge", "truncate", "copy":
		s.writes = true
	case "analyze", "analyse", "cluster", "vacuum", "reindex", "refresh":
		s.writes, s.ddl = true, true // they compute expressions of indexes and the like
	case "drop", "grant", "revoke", "comment":
		s.ddl = s.ddl || starts
	case "into":
		s.ddl = true // SELECT INTO, of LANGUAGE sql
	case "set":
		if (starts || !s.update) && !s.setStatement() {
			s.fail("its source has SET")
		}
	case "execute":
		s.dynamic, s.writes = true, true
		s.fail("its source has dynamic SQL")
	case "create", "temp", "temporary", "pg_temp", "hold":
		s.ddl = true
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
	local := t.is("local")
	if local || t.is("session") {
		t = l.next()
	}
	name, t, ok := l.settingName(t)
	follows := t.kind == tokenOperator && t.text == "=" || t.is("to")
	if !ok || !follows && name != "role" {
		return false // TRANSACTION, CONSTRAINTS, TIME ZONE and others
	}
	return s.setting(name, local) && !strings.HasPrefix(name, "transaction_")
}

// settingName reads the name of a setting that begins with t. It returns what follows.
func (l *lexer) settingName(t token) (name string, after token, ok bool) {
	if !t.name() {
		return "", t, false
	}
	name = setting.Fold(t.text)
	for after = l.next(); after.punct("."); after = l.next() {
		part := l.next()
		if !part.name() || len(name) > maxSetting {
			return "", part, false
		}
		name += "." + setting.Fold(part.text)
	}
	return name, after, true
}

// reset looks at what follows the word RESET.
func (s *bodyScan) reset() bool {
	l := s.lexer
	t := l.next()
	if t.text == "all" || t.text == "session" {
		return false
	}
	name, _, ok := l.settingName(t)
	return ok && s.setting(name, false)
}

// setConfig looks at the arguments of a call of set_config, whose parenthesis is
// open. It reports whether the name is a string of which there is no doubt.
func (s *bodyScan) setConfig() bool {
	l := s.lexer
	name, comma := l.next(), l.next()
	if name.kind != tokenString || !comma.punct(",") || name.text == "" {
		return false
	}
	depth, tokens := 1, 0
	for t := l.next(); depth > 0 && tokens < maxArguments; t = l.next() { // the value may be any expression
		tokens++
		switch {
		case t.kind == tokenEnd, t.kind == tokenBroken:
			return false
		case t.punct("("), t.punct("["):
			depth++
		case t.punct(")"), t.punct("]"):
			depth--
		case t.punct(",") && depth == 1:
			local, end := l.next(), l.next()
			return s.setting(setting.Fold(name.text), (local.is("true") || local.kind == tokenString && local.text == "true") && end.punct(")"))
		}
	}
	return false
}

// opens reports whether a parenthesis follows.
func (s *bodyScan) opens() bool {
	l := s.lexer
	return l.next().punct("(")
}

// setting notes a change of a setting. It reports whether the session can know it by the
// name: beyond ASCII, servers of different encodings spell it differently.
func (s *bodyScan) setting(name string, local bool) bool {
	if strings.Contains(name, ".") {
		s.note("s", name, &s.touches)
	}
	s.sets = s.sets || !local
	return !strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf })
}

// name notes an identifier. Servers of a one-byte encoding fold letters beyond ASCII too.
func (s *bodyScan) name(class string, t token, into *[]string) {
	s.note(class, t.text, into)
	if lower := strings.ToLower(t.text); t.kind == tokenWord && lower != t.text {
		s.note(class, lower, into)
	}
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
