// Package grammar is PostgreSQL's grammar for texts that anybody may have written: its
// parser within bounds that no text can make it leave, and a lexer in linear time.
//
// All that parses SQL goes through here. The library's own functions end the process on a
// text that is too deep for the stack they run on.
package grammar

import (
	"errors"

	pg "github.com/pganalyze/pg_query_go/v5"
	"github.com/pganalyze/pg_query_go/v5/parser"
)

// ErrTooDeep is the error for texts that are too deep to be parsed.
var ErrTooDeep = errors.New("the text is too deep")

// placeholder stands for literals whose meaning does not matter.
const placeholder = "pgweir"

// Parse is the tree of a text. The error is the parser's, or ErrTooDeep.
// Long literals in the tree may be parts of text; to the parser, and so to its error, they
// are short.
func Parse(text string) (*pg.ParseResult, error) { return parse(text, longLiteral) }

// Valid tells whether the parser takes a text. The error is the parser's, or ErrTooDeep.
func Valid(text string) error {
	text = shorten(text, placeholder, longLiteral).text
	if TooDeep(text) {
		return ErrTooDeep
	}
	_, err := parser.ParseToProtobuf(text)
	return err
}

// Fingerprint is equal for texts that differ in literals only, 16 hexadecimal digits; empty
// for what the parser refuses. It costs as much as parsing does.
func Fingerprint(text string) string {
	text = shorten(text, placeholder, longLiteral).text
	if TooDeep(text) {
		return ""
	}
	f, _ := pg.Fingerprint(text)
	return f
}
