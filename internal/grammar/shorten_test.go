package grammar

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/proto"
)

// literals are of every form, and what is none.
var literals = []string{
	"'long one'", "'it''s'", "''''", "''", `'back\slash'`, `'\'`, `'\'''`, "'é ü'", "'a'\n'b'", "'a' -- c\n'b'", "'a''' -- c\n '''b'", "'-- no comment'", "'/* none'", "'$$'",
	`E'long one'`, `e'it''s'`, `E'it\'s'`, `E'\\'`, `E'\n\r\t\"'`, `E'\x41'`, `E'\101'`, `E'\u0041'`, `E'\q'`, `E'é\é'`, "E'a'\n'b\\''", `E''''`, `E'\\'''`,
	"$$long one$$", "$t$it's $$ $a$ $t$", "$$'$$", "$$$$", "$é$x$é$", "$t$ $tt$t$ $t$", "$a1$\n$a1$",
	`U&'d\0061t'`, `U&'x' UESCAPE '!'`, "N'long one'", "B'101'", "X'1F'", "n'it''s'", "$1", "'unended", "$t$unended", "E'\\", "'a\xff\xfeb'", "'\x00'",
}

// between are what may stand around literals.
var between = []string{
	" ", " ", ", ", ", ", "", "\n", "\t\n", ";", "; ", "/* ' */", "/* /* $$ */ ' */", "-- '\n", "-- $$ \n", "(", ")", "||", "::text", " = ", " as \"q'q\"", " as u", " a$b$", "1", "1e", "1.5e3 ", "é",
	"select ", "select ", "; select ", " from t where a in (", "values (", "insert into t values (", "set a.b = ", "do ", "comment on table t is ", "notify c, ",
	"create function f() returns int language sql as ", " union select ", "interval ", "date ", "E", "U&", "$", "'", "\\", "explain ", "execute p(", "copy t from ", "alter role r password ",
	"create type e as enum (", "set time zone ", "security label for x on table t is ", "xmlparse(document ", "extract(", " like ", " escape ", "case when a = ", " then ", " else ", " end ",
}

// alike compares the tree of a text whose literals are kept from the parser with that of the text.
// It reports how many were.
func alike(t *testing.T, text string, long int) int {
	t.Helper()
	if TooDeep(text) {
		return 0
	}
	want, wantErr := pg.Parse(text)
	got, err := parse(text, long)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: %v, want %v", text, err, wantErr)
	}
	if err == nil && !proto.Equal(got, want) {
		t.Fatalf("%q:\n%v\nwant\n%v", text, got, want)
	}
	s := shorten(text, "mark", long)
	if short, err := pg.Parse(s.text); err == nil && s.restore(short) != nil {
		return 0
	}
	return len(s.cuts)
}

// TestShorten: the parser gives the same tree, whatever is kept from it.
func TestShorten(t *testing.T) {
	n := 0
	paths, _ := filepath.Glob("../../router/testdata/*/*.txt")
	for _, path := range append(paths, "testdata/kinds.sql") {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			n += alike(t, strings.TrimSpace(line), 4)
		}
	}
	if n < 300 {
		t.Errorf("only %d literals were shortened", n)
	}
	n = 0
	for i := range 20000 {
		n += alike(t, made(rand.New(rand.NewPCG(1, uint64(i)))), 4+i%8)
	}
	if n < 4000 {
		t.Errorf("only %d literals were shortened of texts made up", n)
	}
}

// made is a text of literals and what may stand between them, half of the time one that the parser
// takes but for what chance has put between.
func made(r *rand.Rand) string {
	var b strings.Builder
	some := func(list []string) { b.WriteString(list[r.IntN(len(list))]) }
	if r.IntN(2) == 0 {
		b.WriteString("select ")
		for i := range 1 + r.IntN(5) {
			if i > 0 {
				b.WriteString([]string{", ", ",\n", " || ", ";select ", ",/* ' */", ", -- $$\n", "||", ","}[r.IntN(8)])
			}
			some(literals)
		}
		if r.IntN(3) > 0 {
			return b.String()
		}
	}
	for range 1 + r.IntN(8) {
		some(between)
		some(literals)
	}
	return b.String()
}

// FuzzShorten: of no text another tree is made because literals were kept from the parser.
func FuzzShorten(f *testing.F) {
	for i := range 200 {
		f.Add(made(rand.New(rand.NewPCG(2, uint64(i)))), uint8(4+i%8))
	}
	f.Fuzz(func(t *testing.T, text string, long uint8) {
		alike(t, text, int(max(long, 4)))
	})
}

// TestShortenLong: what is long is short for the parser, and a literal that says what stands for
// another stays what it is.
func TestShortenLong(t *testing.T) {
	long := strings.Repeat("x", longLiteral)
	text := "select 'mark0', '" + long + "', E'\\x41" + long + "'"
	s := shorten(text, "mark", longLiteral)
	if len(s.cuts) != 1 || len(s.text) > len(text)-longLiteral+16 {
		t.Errorf("%d literals, %d bytes", len(s.cuts), len(s.text))
	}
	tree, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"mark0", long, "A" + long} {
		if got := tree.GetStmts()[0].GetStmt().GetSelectStmt().GetTargetList()[i].GetResTarget().GetVal().GetAConst().GetSval().GetSval(); got != want {
			t.Errorf("%d: %.20q of %d bytes", i, got, len(got))
		}
	}
	if one, other := Fingerprint("insert into t values ('"+long+"')"), Fingerprint("insert into t values ('a')"); one != other || one == "" {
		t.Errorf("%s, %s", one, other)
	}
}

// BenchmarkShorten: what a text of n bytes costs, most of which is one literal.
func BenchmarkShorten(b *testing.B) {
	for _, n := range []int{1 << 20, 4 << 20, 16 << 20} {
		text := "insert into t values ('" + strings.Repeat("x", n) + "')"
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				_, _ = Parse(text)
			}
		})
	}
}
