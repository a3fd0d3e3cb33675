package router

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestPartsKnowAsMuch: of a statement among others its plan tells what it would tell of it alone.
func TestPartsKnowAsMuch(t *testing.T) {
	files, err := filepath.Glob("testdata/plans/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no data files: %v", err)
	}
	plans := plansWith(loadCatalog(t), Options{})
	within := func(few, all []string) bool {
		return !slices.ContainsFunc(few, func(s string) bool { return !slices.Contains(all, s) })
	}
	compared := 0
	for _, file := range files {
		for _, e := range readData(t, file) {
			alone, together := plans.Get([]byte(e.sql)), plans.Get([]byte(e.sql+"\n; select 1"))
			if alone.Statements != 1 || together.Statements != 2 || len(together.Parts) != 2 || alone.Flags&(FlagHint|FlagMisspelt) != 0 { // hints are for all of a text
				continue
			}
			compared++
			part := together.Parts[0]
			if part.Class != alone.Class || part.Tx != alone.Tx || part.Resets != alone.Resets || len(part.Sets) != len(alone.Sets) {
				t.Errorf("%s: %v among others is %v", e.sql, alone.line(), part.line())
			}
			if part.Flags&alone.Flags != alone.Flags || part.Pins&alone.Pins != alone.Pins || part.Unpins != alone.Unpins {
				t.Errorf("%s: what it may leave behind is %v %v %v, and among others %v %v %v",
					e.sql, alone.Flags, alone.Pins, alone.Unpins, part.Flags, part.Pins, part.Unpins)
			}
			if alone.Uses && !part.Uses {
				t.Errorf("%s: among others it uses no objects", e.sql)
			}
			if !within(alone.Touches, part.Touches) || !within(alone.Relations, part.Relations) || !within(alone.Functions, part.Functions) || !within(alone.Makes, part.Makes) {
				t.Errorf("%s: it names %q %q %q %q, and among others %q %q %q %q", e.sql, alone.Touches, alone.Relations, alone.Functions, alone.Makes,
					part.Touches, part.Relations, part.Functions, part.Makes)
			}
		}
	}
	if compared < 500 {
		t.Errorf("only %d statements were compared", compared)
	}
}
