package router

import "testing"

func TestShape(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1": "SELECT $1",
		"-- who\nSELECT a , b /* secret */\n\tFROM t -- 'x'\n WHERE c='it''s' AND d=$1": "SELECT a , b FROM t WHERE c=$2 AND d=$1",
		"SELECT a/* x */b FROM t":                            "SELECT a b FROM t",
		`SELECT "a  b", $$x$$, E'\\', 1.5e3 FROM t;`:         `SELECT "a  b", $1, $2, $3 FROM t;`,
		"DECLARE c CURSOR FOR SELECT * FROM t WHERE a = 'x'": "DECLARE c CURSOR FOR SELECT * FROM t WHERE a = $1",
		"COPY (SELECT * FROM t WHERE a = 'x') TO '/tmp/x'":   "COPY (SELECT * FROM t WHERE a = $1) TO ?",
		"SELECT FROM WHERE":                                  "<unparsed>",
		"":                                                   "",
	} {
		if got := Shape(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
