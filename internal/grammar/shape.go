package grammar

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxShape bounds what Shape returns, in bytes.
const maxShape = 64 << 10

// Shape is a statement on one line with parameters in place of its literals, and without
// comments: all that may be written of a statement anywhere (logs, the audit, reports).
// Whatever the statement is, no literal of it is left: passwords, sources of functions,
// payloads, programs, words that a setting is given for a value. A text the parser
// refuses is not shown at all: it may hold anything.
func Shape(text string) string {
	err := Valid(text)
	switch {
	case errors.Is(err, ErrTooDeep):
		return "<too deep>"
	case err != nil, !utf8.ValidString(text):
		return "<unparsed>"
	}
	s := shaper{Lexer: Lexer{Text: text}, params: Parameters(text)}
	return s.run()
}

// shaper writes one Shape.
type shaper struct {
	Lexer
	out    strings.Builder
	end    int // of the last token, comments included
	params int // the number of the last parameter
	value  settingValue
}

func (s *shaper) run() string {
	for t := s.Next(); t.Kind != End; t = s.Next() {
		switch {
		case t.Kind == Comment:
			continue
		case t.Kind == Bad, s.out.Len() > maxShape, t.Kind == Literal && ambiguous(s.Text[t.Start:t.End]):
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

func (s *shaper) write(t Token, word string) {
	if t.Start > s.end && s.out.Len() > 0 {
		s.out.WriteByte(' ')
	}
	s.end = t.End
	s.out.WriteString(word)
}

// hides reports whether t is a literal, or stands for one.
func (s *shaper) hides(t Token) bool {
	given := s.value.next(&s.Lexer, t)
	return given || t.Kind == Literal && !isParameter(s.Text[t.Start:t.End])
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

// Parameters returns how many parameters a statement has: the highest $n in its text, or 0
// of a text with a literal or comment that does not end.
func Parameters(text string) (n int) {
	l := Lexer{Text: text}
	for t := l.Next(); t.Kind != End; t = l.Next() {
		if t.Kind == Bad {
			return 0
		}
		if word := text[t.Start:t.End]; t.Kind == Literal && isParameter(word) {
			i, _ := strconv.Atoi(word[1:])
			n = max(n, i)
		}
	}
	return n
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
func (v *settingValue) next(l *Lexer, t Token) (given bool) {
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
	case *v == inName && word != "with" && (t.Kind == Word || t.Kind == Quoted || l.Is(t, '.')):
	case *v == behindValue && l.Is(t, ','):
		*v = inValue
	case *v == inValue && t.Kind != Other: // a sign is no value
		*v = behindValue
		return (t.Kind == Word || t.Kind == Quoted) && !plainValues[word]
	case *v != inValue:
		if *v = inStatement; word == "set" {
			*v = inName
		}
	}
	return false
}

// plainValues are words of SET that tell nothing.
var plainValues = map[string]bool{"on": true, "off": true, "true": true, "false": true, "default": true, "none": true, "local": true, "interval": true}
