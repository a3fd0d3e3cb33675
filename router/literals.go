package router

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/setting"
)

// Literals is what the literals of a statement's text mean, once it is prepared.
type Literals uint8

const (
	// LiteralsNone: no literal but numbers; it means the same in every session.
	LiteralsNone Literals = iota
	// LiteralsSome: strings, or bytes that an encoding gives their meaning: the session's
	// settings decide how they are read (DateStyle, standard_conforming_strings, …).
	LiteralsSome
	// LiteralsTimed: one may stand for the time when it is read: 'now', 'today', ….
	LiteralsTimed
)

// LiteralsOf is what the literals of a text mean whose Plan nobody has.
func LiteralsOf(text string) Literals {
	found := LiteralsNone
	l := grammar.Lexer{Text: text}
	for {
		t := l.Next()
		s := text[t.Start:t.End]
		switch t.Kind {
		case grammar.End:
			return found
		case grammar.Bad:
			return LiteralsTimed // nothing is known of it
		case grammar.Literal:
			if isNumber(s) {
				continue
			}
			if found = LiteralsSome; mayBeTime(s) {
				return LiteralsTimed
			}
		case grammar.Word, grammar.Quoted, grammar.Other:
			if !ascii(s) {
				found = LiteralsSome
			}
		case grammar.Comment:
		}
	}
}

// LiteralsOf is what the literals of text mean, which is p's or differs from it in
// literals only.
func (p *Plan) LiteralsOf(text []byte) Literals {
	if p.literals.plain {
		return LiteralsNone
	}
	return LiteralsOf(string(text))
}

// isNumber reports whether a literal is a number or $1.
func isNumber(s string) bool {
	return s[0] >= '0' && s[0] <= '9' || s[0] == '$' && len(s) > 1 && isDigit(s[1])
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// maxTime is the length of what PostgreSQL reads as a date (MAXDATELEN and its fields),
// with room for quotes.
const maxTime = 512

// mayBeTime reports whether a string, with its quotes, may be a date that names the time
// it is read at. One with escapes may spell any word.
func mayBeTime(s string) bool {
	if len(s) > maxTime {
		return false
	}
	switch {
	case s[0]|0x20 == 'u', s[0]|0x20 == 'e' && strings.Contains(s, `\`):
		return true
	case strings.ContainsAny(s, "\r\n") && strings.Contains(s[1:len(s)-1], "'"):
		return true // a literal in parts, perhaps, of which each is half a word
	}
	word := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && (s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z') {
			continue
		}
		switch setting.Fold(s[word:i]) {
		case "now", "today", "tomorrow", "yesterday":
			return true
		}
		word = i + 1
	}
	return false
}

// literal reads a constant as text. If the mask leaves the constant out of the
// key, the Plan depends on it.
func (a *analysis) literal(n *pg.Node) (string, bool) {
	if cast := n.GetTypeCast(); cast != nil {
		n = cast.GetArg()
	}
	switch v := n.GetNode().(type) {
	case *pg.Node_AConst:
		return a.constant(v.AConst)
	case *pg.Node_String_:
		a.dependent = true
		return v.String_.GetSval(), true
	case *pg.Node_Integer:
		a.dependent = true
		return strconv.Itoa(int(v.Integer.GetIval())), true
	case *pg.Node_Float:
		a.dependent = true
		return v.Float.GetFval(), true
	case *pg.Node_Boolean:
		return strconv.FormatBool(v.Boolean.GetBoolval()), true
	}
	return "", false
}

func (a *analysis) constant(c *pg.A_Const) (string, bool) {
	switch v := c.GetVal().(type) {
	case *pg.A_Const_Boolval:
		return strconv.FormatBool(v.Boolval.GetBoolval()), true
	case *pg.A_Const_Sval:
		if !a.kept(int(c.GetLocation())) {
			a.dependent = true
		}
		return v.Sval.GetSval(), true
	case *pg.A_Const_Ival:
		a.dependent = true
		return strconv.Itoa(int(v.Ival.GetIval())), true
	case *pg.A_Const_Fval:
		a.dependent = true
		return v.Fval.GetFval(), true
	}
	return "", false
}

// kept reports whether the string literal at offset is part of the key as it is.
func (a *analysis) kept(offset int) bool {
	_, found := slices.BinarySearch(a.rec.kept, offset)
	return found
}
