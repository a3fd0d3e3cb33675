package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// cells are the cells of the first row of a page that begins so.
func cells(t *testing.T, page, begin string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n"+begin)
	if !ok {
		t.Fatalf("%s has no row %q", page, begin)
	}
	row, _, _ := strings.Cut(begin+rest, "\n")
	var out []string
	for _, c := range strings.Split(strings.Trim(row, "|"), "|") {
		out = append(out, strings.TrimSpace(c))
	}
	return out
}

// TestReadme: the figures that README.md compares others by are those of RESULTS.md.
func TestReadme(t *testing.T) {
	t.Chdir("..")
	for _, c := range []struct {
		here, there string
		cell        int // of RESULTS.md: direct / PgBouncer / pgweir
	}{
		{"| `select`, 64 clients, transactions/s |", "| select | simple | 64 |", 3},
		{"| the same, CPU µs/query of the proxy |", "| select | simple | 64 |", 9},
		{"| `tpcb`, 64 clients, transactions/s |", "| tpcb | simple | 64 |", 3},
		{"| 10,000 rows at a time, 8 clients, MB/s |", "| 10,000 rows of 100 bytes | 8 |", 2},
	} {
		measured := strings.Split(cells(t, resultsFile, c.there)[c.cell], " / ")
		want := []string{measured[0], measured[1], "", measured[2]}
		if got := cells(t, "README.md", c.here)[1:]; !slices.Equal(got, want) {
			t.Errorf("%s %q, but %q was measured", c.here, got, want)
		}
	}
	idle := cells(t, "README.md", "| an idle client, KiB |")
	if pgbouncer, pgweir := cells(t, resultsFile, "| PgBouncer |")[1], cells(t, resultsFile, "| pgweir |")[1]; idle[2] != pgbouncer || idle[4] != pgweir {
		t.Errorf("an idle client takes %q, but %s and %s were measured", idle, pgbouncer, pgweir)
	}
}
