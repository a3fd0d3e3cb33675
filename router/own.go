package router

import (
	"strings"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/setting"
)

// maxOwn is the length of the longest text that is looked into for a setting of the proxy.
const maxOwn = 8 << 10

// ownSet reads SET [SESSION | LOCAL] pgweir.name {= | TO} word. PRIMARY is a
// reserved word, so PostgreSQL's grammar refuses `SET pgweir.route = primary`;
// the statement is the proxy's, so its grammar is too. Only what the parser
// refused comes here.
func ownSet(text string) (Own, bool) {
	if len(text) > maxOwn || !strings.Contains(strings.ToLower(text), string(hintWord)) {
		return Own{}, false
	}
	words, ok := ownWords(text)
	if !ok || len(words) < 6 || words[0] != "set" {
		return Own{}, false
	}
	own := Own{Verb: OwnSet}
	words = words[1:]
	if words[0] == "local" || words[0] == "session" {
		own.Local = words[0] == "local"
		words = words[1:]
	}
	if len(words) != 5 || words[0] != "pgweir" || words[1] != "." || words[3] != "=" && words[3] != "to" {
		return Own{}, false
	}
	own.Name, own.Value = words[2], words[4]
	return own, true
}

// ownWords are the tokens of text in lower case, without comments and the
// semicolons at the end. Anything but words, "." and "=" is not ours.
func ownWords(text string) ([]string, bool) {
	var words []string
	l := grammar.Lexer{Text: text}
	ended := false
	for t := l.Next(); t.Kind != grammar.End; t = l.Next() {
		switch {
		case t.Kind == grammar.Comment:
		case l.Is(t, ';'):
			ended = len(words) > 0
		case ended:
			return nil, false
		case t.Kind == grammar.Word, l.Is(t, '.'), l.Is(t, '='):
			words = append(words, setting.Fold(text[t.Start:t.End]))
		default:
			return nil, false
		}
	}
	return words, true
}
