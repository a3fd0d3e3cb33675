package router

import (
	"path/filepath"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// TestLexerAgreesWithPostgres: comments, words and literals stand where
// PostgreSQL's own scanner finds them.
func TestLexerAgreesWithPostgres(t *testing.T) {
	texts := []string{
		"SELECT E'a\\'b' 'c', E'x'\n 'y\\'z', 'a\\', $t$ ' $t$ $1, $$$$, U&'x' UESCAPE '!', U&\"d\", n'x', x'1f', b'0'",
		"SELECT 1 -- a\n, 'b' /* c */, 'd' /* /* e */ */ \"f\"\"g\", a$b, é, _x.y /* '*/ ' */'",
		"SELECT 'a'\n \n'c', 'd'\n\n/* x */, 'e' -- 'b",
		"SELECT a->>'b', c<-1, d*/**/2, $tag$ $ta$ $tag$",
	}
	files, _ := filepath.Glob("testdata/plans/*.txt")
	for _, path := range files {
		for _, e := range readData(t, path) {
			texts = append(texts, e.sql)
		}
	}
	for _, text := range texts {
		agree(t, text)
	}
}

// TestLexerContinuesLiterals: the parser as a library does not see that a line
// comment may stand inside a continued literal; PostgreSQL does.
func TestLexerContinuesLiterals(t *testing.T) {
	l := lexer{text: "E'a' -- '\n'\\'b' x"}
	first, second := l.next(), l.next()
	if first.kind != tokenLiteral || l.word(second) != "x" {
		t.Errorf("%+v %+v", first, second)
	}
}

// agree compares the places of comments and of words. It ignores texts
// PostgreSQL's scanner refuses.
func agree(t *testing.T, text string) {
	t.Helper()
	scan, err := pg.Scan(text)
	if err != nil {
		return
	}
	type span [2]int
	comments, words := map[span]bool{}, map[span]bool{}
	for _, tok := range scan.GetTokens() {
		at := span{int(tok.GetStart()), int(tok.GetEnd())}
		switch k := tok.GetToken(); {
		case k == pg.Token_SQL_COMMENT, k == pg.Token_C_COMMENT:
			comments[at] = true
		case k == pg.Token_IDENT, tok.GetKeywordKind() != pg.KeywordKind_NO_KEYWORD:
			words[at] = true
		}
	}
	l := lexer{text: text}
	n := 0
	for tok := l.next(); tok.kind != tokenEnd; tok = l.next() {
		at := span{tok.start, tok.end}
		switch tok.kind {
		case tokenBad:
			t.Errorf("%q: bad token at %d", text, tok.start)
			return
		case tokenComment:
			n++
			if !comments[at] {
				t.Errorf("%q: no comment at %v: %q", text, at, text[at[0]:at[1]])
			}
		case tokenWord, tokenQuoted:
			if !words[at] && tok.kind == tokenWord {
				t.Errorf("%q: no word at %v: %q", text, at, text[at[0]:at[1]])
			}
		}
	}
	if n != len(comments) {
		t.Errorf("%q: %d comments, PostgreSQL finds %d", text, n, len(comments))
	}
}
