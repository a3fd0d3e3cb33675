package router

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pgweir/pgweir/internal/grammar"
)

// maxShape bounds what Shape returns, in bytes.
const maxShape = 64 << 10

// Shape is a statement on one line with parameters in place of its literals, and without
// comments: all that may be written of a statement anywhere (logs, the audit, reports).
// Whatever the statement is, no literal of it is left: passwords, sources of functions,
// payloads, programs, words that a setting is given for a value. A text the parser
// refuses is not shown at all: it may hold anything.
func Shape(text string) string {
	err := grammar.Valid(text)
	switch {
	case errors.Is(err, grammar.ErrTooDeep):
		return "<too deep>"
	case err != nil, !utf8.ValidString(text):
		return "<unparsed>"
	}
	s := shaper{Lexer: grammar.Lexer{Text: text}, params: highestParam(text)}
	return s.run()
}

// shaper writes one Shape.
type shaper struct {
	grammar.Lexer
	out    strings.Builder
	end    int // of the last token, comments included
	params int // the number of the last parameter
	value  settingValue
}

func (s *shaper) run() string {
	for t := s.Next(); t.Kind != grammar.End; t = s.Next() {
		switch {
		case t.Kind == grammar.Comment:
			continue
		case t.Kind == grammar.Bad, s.out.Len() > maxShape, t.Kind == grammar.Literal && ambiguous(s.Text[t.Start:t.End]):
			s.write(t, "…")
			return s.out.String()
		case s.hides(t):
			s.params++
			s.write(t, "$"+strconv.Itoa(s.params))
		default:
			s.write(t, s.Text[t.Start:t.End])
		}
	}
	return s.out.String()
}

func (s *shaper) write(t grammar.Token, word string) {
	if t.Start > s.end && s.out.Len() > 0 {
		s.out.WriteByte(' ')
	}
	s.end = t.End
	s.out.WriteString(word)
}

// hides reports whether t is a literal, or stands for one.
func (s *shaper) hides(t grammar.Token) bool {
	given := s.value.next(&s.Lexer, t)
	return given || t.Kind == grammar.Literal && !isParameter(s.Text[t.Start:t.End])
}

// ambiguous reports whether a literal may end elsewhere, depending on settings of the
// session (standard_conforming_strings, client_encoding): nothing behind it is shown.
func ambiguous(s string) bool {
	plain := s[0] == '\''
	for i := 1; i < len(s); i++ {
		switch {
		case s[i-1] == '\\' && s[i] == '\'' && plain:
			return true
		case s[i] == '\\' && s[i-1] >= utf8.RuneSelf && s[0] != '$':
			return true
		}
	}
	return false
}

func isParameter(word string) bool {
	return len(word) > 1 && word[0] == '$' && isDigit(word[1])
}

// highestParam is the highest $n of a text.
func highestParam(text string) (highest int) {
	l := grammar.Lexer{Text: text}
	for t := l.Next(); t.Kind != grammar.End && t.Kind != grammar.Bad; t = l.Next() {
		if word := text[t.Start:t.End]; t.Kind == grammar.Literal && isParameter(word) {
			n, _ := strconv.Atoi(word[1:])
			highest = max(highest, n)
		}
	}
	return highest
}

// settingValue is where a text is within SET name {TO | =} value, …, alone or in ALTER
// and CREATE, whose values may be words, or within SET TIME ZONE value.
type settingValue uint8

const (
	atStart     settingValue = iota // of a statement
	elsewhere                       // in one that sets no settings
	inStatement                     // in one that may
	inName                          // behind SET
	inValue                         // a value is due
	behindValue                     // a comma may follow
)

// next takes the next token and reports whether it is the value of a setting.
func (v *settingValue) next(l *grammar.Lexer, t grammar.Token) (given bool) {
	word := l.Word(t)
	switch {
	case l.Is(t, ';'):
		*v = atStart
	case *v == atStart:
		if *v = elsewhere; word == "alter" || word == "create" {
			*v = inStatement
		} else if word == "set" {
			*v = inName
		}
	case *v == elsewhere:
	case *v == inName && (l.Is(t, '=') || word == "to" || word == "zone"):
		*v = inValue
	case *v == inName && word != "with" && (t.Kind == grammar.Word || t.Kind == grammar.Quoted || l.Is(t, '.')):
	case *v == behindValue && l.Is(t, ','):
		*v = inValue
	case *v == inValue && t.Kind != grammar.Other: // a sign is no value
		*v = behindValue
		return (t.Kind == grammar.Word || t.Kind == grammar.Quoted) && !plainValues[word]
	case *v != inValue:
		if *v = inStatement; word == "set" {
			*v = inName
		}
	}
	return false
}

// plainValues are words of SET that tell nothing.
var plainValues = wordSet(`on off true false default none local interval`)

// Fingerprint is equal for statements that differ in literals only, 16 hexadecimal
// digits; empty for what the parser refuses. It costs as much as parsing does.
func Fingerprint(text string) string {
	f, _ := grammar.Fingerprint(text)
	return f
}
