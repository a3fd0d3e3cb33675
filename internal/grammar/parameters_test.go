package grammar

import (
	"strings"
	"testing"
)

func TestParameters(t *testing.T) {
	for text, want := range map[string]int{
		"select $1": 1, "select $2, $1": 2, "select '$3', $$ $4 $$, $1 -- $5": 1, "rollback": 0, "": 0, "select 'open": 0, "select $12::int": 12,
		"select $1" + strings.Repeat("/**/", 1<<20): 1, // in time that grows as the text does
	} {
		if got := Parameters(text); got != want {
			t.Errorf("%s: %d and not %d", text, got, want)
		}
	}
}
