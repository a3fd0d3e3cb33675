package grammar

import (
	"fmt"
	"os"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
)

func TestShape(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1": "SELECT $1",
		"-- who\nSELECT a , b /* secret */\n\tFROM t -- 'x'\n WHERE c='it''s' AND d=$1": "SELECT a , b FROM t WHERE c=$2 AND d=$1",
		"SELECT a/* x */b FROM t":                                                    "SELECT a b FROM t",
		`SELECT "a  b", $$x$$, E'\\', 1.5e3 FROM t;`:                                 `SELECT "a  b", $1, $2, $3 FROM t;`,
		"DECLARE c CURSOR FOR SELECT * FROM t WHERE a = 'x'":                         "DECLARE c CURSOR FOR SELECT * FROM t WHERE a = $1",
		"COPY (SELECT * FROM t WHERE a = 'x') TO '/tmp/x'":                           "COPY (SELECT * FROM t WHERE a = $1) TO $2",
		"SET app.a TO word; SELECT a; SET LOCAL b = \"w\", x, on":                    "SET app.a TO $1; SELECT a; SET LOCAL b = $2, $3, on",
		"ALTER ROLE r SET app.a = word":                                              "ALTER ROLE r SET app.a = $1",
		"SET TIME ZONE utc":                                                          "SET TIME ZONE $1",
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET a.b TO w, v STABLE AS 'x'": "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET a.b TO $1, $2 STABLE AS $3",
		"UPDATE t SET a = b, c = to_date(d, 'x')":                                    "UPDATE t SET a = b, c = to_date(d, $1)",
		// Where standard_conforming_strings is off, secret is no column.
		`SELECT 'a\', secret, '\'`: "SELECT …",
		"SELECT FROM WHERE":        "<unparsed>",
		"SELECT '\xff', a":         "<unparsed>",
		"":                         "",
	} {
		if got := Shape(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := len(Shape("SELECT a" + strings.Repeat(", a", 100000))); got > 2*maxShape {
		t.Errorf("a long statement gives %d bytes", got)
	}
}

// kinds are statements of every kind that PostgreSQL's grammar has.
func kinds(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/kinds.sql")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestKindsAreAll(t *testing.T) {
	// No statements of their own, or none that the grammar makes.
	inner := map[string]bool{"RawStmt": true, "SetOperationStmt": true, "ReturnStmt": true, "PLAssignStmt": true, "ReplicaIdentityStmt": true}
	seen := map[string]bool{}
	for _, text := range kinds(t) {
		tree, err := pg.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		m := tree.GetStmts()[0].GetStmt().ProtoReflect()
		seen[string(m.WhichOneof(m.Descriptor().Oneofs().Get(0)).Message().Name())] = true
	}
	all := (&pg.Node{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields()
	for i := range all.Len() {
		if m := string(all.Get(i).Message().Name()); strings.HasSuffix(m, "Stmt") && !inner[m] && !seen[m] {
			t.Errorf("no statement is a %s", m)
		}
	}
}

// Nothing of a literal or a comment is shown, wherever it stands and however it is written.
func TestShapeHidesLiterals(t *testing.T) {
	const canary = "canary"
	literals := []string{
		"'canary'", "'it''s canary'", `E'a\'canary'`, "$$canary$$", "$x$a'canary$x$", "U&'canary'", "N'canary'", "'a'\n'canary'",
		`"canary"`, canary, // where PostgreSQL takes a name for a value, in SET
	}
	checked, named := 0, 0
	check := func(t *testing.T, text string) bool {
		if Valid(text) != nil {
			return false
		}
		checked++
		if got := Shape(text); strings.Contains(got, canary) || strings.Contains(got, "<") && !strings.Contains(text, "<") {
			t.Errorf("%s\nshows %s", text, got)
		}
		return true
	}
	for _, text := range kinds(t) {
		tokens, err := pg.Scan(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range tokens.GetTokens() {
			before, word, after := text[:token.GetStart()], text[token.GetStart():token.GetEnd()], text[token.GetEnd():]
			for _, comment := range []string{"/* canary */", "/* /* 'canary */ */", "-- canary\n"} {
				check(t, before+comment+word+after)
				check(t, before+word+comment+after)
			}
			switch token.GetToken() {
			case pg.Token_SCONST, pg.Token_USCONST, pg.Token_BCONST, pg.Token_XCONST, pg.Token_ICONST, pg.Token_FCONST:
			default:
				continue
			}
			some := false
			for _, literal := range literals {
				switch name := !strings.ContainsAny(literal, "'$"); {
				case !name:
					some = check(t, before+" "+literal+after) || some
				case valueOfSetting(text):
					if check(t, before+" "+literal+after) {
						named++
					}
				}
			}
			if !some && token.GetToken() == pg.Token_SCONST {
				t.Errorf("%s: %s was not tried", text, word)
			}
		}
	}
	if checked < 2500 || named < 15 {
		t.Errorf("%d texts were checked, %d with a name for a value", checked, named)
	}
}

// valueOfSetting reports whether each literal of a statement is the value of a setting.
func valueOfSetting(text string) bool {
	for _, begins := range []string{"SET app.", "SET LOCAL app.", "SET TIME ZONE", "ALTER ROLE r IN DATABASE d SET", "ALTER DATABASE d SET",
		"ALTER SYSTEM SET", "ALTER FUNCTION f() SET app."} {
		if strings.HasPrefix(text, begins) {
			return true
		}
	}
	return false
}

func BenchmarkShape(b *testing.B) {
	for _, size := range []int{10, 10000} {
		text := "SELECT a FROM t WHERE b IN (1" + strings.Repeat(", 2", size) + ")"
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				Shape(text)
			}
		})
	}
}
