package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// ownSet reads SET [SESSION | LOCAL] pgweir.name {= | TO} word. PRIMARY is a
// reserved word, so PostgreSQL's grammar refuses `SET pgweir.route = primary`;
// the statement is the proxy's, so its grammar is too. Only what the parser
// refused comes here.
func ownSet(text string) (Own, bool) {
	if len(text) > shallowBytes || !strings.Contains(strings.ToLower(text), string(hintWord)) {
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
	scan, err := pg.Scan(text)
	if err != nil {
		return nil, false
	}
	var words []string
	ended := false
	for _, t := range scan.GetTokens() {
		switch k := t.GetToken(); {
		case k == pg.Token_SQL_COMMENT, k == pg.Token_C_COMMENT:
		case k == pg.Token_ASCII_59:
			ended = len(words) > 0
		case ended:
			return nil, false
		case k == pg.Token_IDENT, k == pg.Token_ASCII_46, k == pg.Token_ASCII_61,
			t.GetKeywordKind() != pg.KeywordKind_NO_KEYWORD:
			words = append(words, strings.ToLower(text[t.GetStart():t.GetEnd()]))
		default:
			return nil, false
		}
	}
	return words, true
}
