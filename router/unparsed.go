package router

import (
	"strings"
	"unicode/utf8"

	"github.com/pgweir/pgweir/internal/grammar"
)

// A text that the parser refuses may be valid for a newer server. It is taken apart by the
// lexer: which statements it holds, by their first words, and what any of its names may be,
// of which the worst counts, as in the source of a function. What it leaves behind all the
// same is asked of its server.

// takenApart is a text in which the first words of its statements are looked at.
type takenApart struct {
	grammar.Lexer
	source     []byte // the text, without words that mean something else in the source of a function
	statements int
	flags      Flags

	targets []string // relations that are written to

	verb   string // of the statement being read; empty before it
	ddl    bool   // it changes the catalog
	target bool   // the next name is that of one
	last   grammar.Token
}

// run reports whether all statements are of kinds that leave nothing but what their names do.
func (u *takenApart) run() bool {
	for t := u.Next(); t.Kind != grammar.End; t = u.Next() {
		word, ok := u.Word(t), true
		switch {
		case t.Kind == grammar.Comment:
			continue
		case u.Is(t, ';'):
			u.verb = ""
		case u.verb == "" && !u.Is(t, '('):
			ok = u.begin(word, t)
		default:
			ok = u.word(word, t)
		}
		named := t.Kind == grammar.Word || t.Kind == grammar.Quoted
		u.findTarget(word, t, named)
		if !ok || t.Kind == grammar.Bad || named && !utf8.ValidString(u.Text[t.Start:t.End]) { // of another encoding: nobody knows it
			return false
		}
		u.last = t
	}
	return u.statements > 0
}

// begin takes the first word of a statement.
func (u *takenApart) begin(word string, t grammar.Token) bool {
	u.verb, u.ddl = word, false
	u.statements++
	switch word {
	case "insert", "merge", "with", "copy", "explain":
		u.flags |= FlagDraws
		return true
	case "select", "values", "table", "update", "delete", "truncate":
		return true
	case "create":
		u.flags |= FlagCreates
		fallthrough
	case "alter", "drop":
		// Checks, defaults, expressions of indexes may be computed, as they are for COPY.
		copy(u.source[t.Start:], "copy  "[:t.End-t.Start])
		fallthrough
	case "comment", "grant", "revoke":
		u.flags |= FlagDDL | FlagRedefines | FlagRemoves | FlagHooks
		u.ddl = true
		return true
	}
	return false
}

func (u *takenApart) word(word string, t grammar.Token) bool {
	switch before := u.Word(u.last); {
	case word == "into" && before != "insert" && before != "merge": // SELECT INTO
		u.flags |= FlagDDL | FlagCreates | FlagRedefines | FlagRemoves | FlagHooks
	case word == "stdin" && u.verb == "copy":
		u.flags |= FlagCopyIn
	case u.verb == "explain" && (word == "create" || word == "alter" || word == "drop"):
		u.begin(word, t)
		u.statements--
	case !u.ddl:
	case word == "extension":
		return false // its script is not in the text
	case before == "execute" && (word == "function" || word == "procedure"): // of a trigger
		u.blank(u.last)
	case ddlWords[word]:
		u.blank(t)
	}
	return true
}

// findTarget notes the name behind INTO, UPDATE and DELETE FROM, without its schema.
func (u *takenApart) findTarget(word string, t grammar.Token, named bool) {
	switch {
	case word == "into", word == "update", word == "from" && u.Word(u.last) == "delete":
		u.target = true
	case !u.target, word == "only":
	case u.Is(t, '.') && len(u.targets) > 0:
		u.targets = u.targets[:len(u.targets)-1]
	case named && !notTargets[word] && (u.Is(u.last, '.') || beforeTarget[u.Word(u.last)]):
		if t.Kind == grammar.Quoted {
			quoted := u.Text[t.Start : t.End-1]
			word = strings.ReplaceAll(quoted[strings.IndexByte(quoted, '"')+1:], `""`, `"`)
		}
		u.targets = append(u.targets, word)
	default:
		u.target = false
	}
}

var (
	beforeTarget = map[string]bool{"into": true, "update": true, "from": true, "only": true}
	// notTargets may stand behind UPDATE: DO UPDATE SET, FOR UPDATE OF.
	notTargets = map[string]bool{"set": true, "of": true, "nowait": true, "skip": true}
)

// ddlWords do not act on the session in a statement that changes the catalog.
var ddlWords = map[string]bool{"create": true, "alter": true, "drop": true, "set": true, "reset": true, "comment": true, "security": true,
	"temp": true, "temporary": true}

// blank takes a word out of the source.
func (u *takenApart) blank(t grammar.Token) {
	for i := t.Start; i < t.End; i++ {
		u.source[i] = ' '
	}
}
