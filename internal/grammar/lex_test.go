package grammar

import (
	"os"
	"path/filepath"
	"strings"
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
	files, _ := filepath.Glob("../../router/testdata/plans/*.txt")
	if len(files) == 0 {
		t.Fatal("no statements to compare")
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.Split(string(raw), "\n")...)
	}
	for _, text := range texts {
		agree(t, text)
	}
}

// TestLexerContinuesLiterals: the parser as a library does not see that a line
// comment may stand inside a continued literal; PostgreSQL does.
func TestLexerContinuesLiterals(t *testing.T) {
	l := Lexer{Text: "E'a' -- '\n'\\'b' x"}
	first, second := l.Next(), l.Next()
	if first.Kind != Literal || l.Word(second) != "x" {
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
	l := Lexer{Text: text}
	n := 0
	for tok := l.Next(); tok.Kind != End; tok = l.Next() {
		at := span{tok.Start, tok.End}
		switch tok.Kind {
		case Bad:
			t.Errorf("%q: bad token at %d", text, tok.Start)
			return
		case Comment:
			n++
			if !comments[at] {
				t.Errorf("%q: no comment at %v: %q", text, at, text[at[0]:at[1]])
			}
		case Word, Quoted:
			if !words[at] && tok.Kind == Word {
				t.Errorf("%q: no word at %v: %q", text, at, text[at[0]:at[1]])
			}
		}
	}
	if n != len(comments) {
		t.Errorf("%q: %d comments, PostgreSQL finds %d", text, n, len(comments))
	}
}
