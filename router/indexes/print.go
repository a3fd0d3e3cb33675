package indexes

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Print prints what was found, and a table of all indexes if they are wanted.
func Print(out io.Writer, reports []*Report, all bool) error {
	n := map[string]int{}
	for _, r := range reports {
		_, _ = fmt.Fprintf(out, "%s: indexes: %d, on %s\n", r.Database, len(r.Indexes), strings.Join(r.Servers, ", "))
		for _, s := range r.Silent {
			_, _ = fmt.Fprintf(out, "  no answer, so that nothing is called unused: %s\n", s)
		}
		if all {
			if err := r.table(out); err != nil {
				return err
			}
		}
		for i := range r.Findings {
			x := &r.Findings[i]
			n[x.Kind]++
			_, _ = fmt.Fprintf(out, "  %s: %s: %s\n    %s\n", x.Kind, cmp.Or(x.Index, x.Table), x.Detail, x.SQL)
		}
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d %s", n[kind], kind))
	}
	_, err := fmt.Fprintln(out, cmp.Or(strings.Join(parts, ", "), "nothing found"))
	return err
}

func (r *Report) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "  table\tindex\tmethod\tcolumns\tKiB\tscans\twrites")
	for i := range r.Indexes {
		x := &r.Indexes[i]
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%d\t%d\t%d\n", x.Table, x.Name, x.Method, x.Columns(), x.Bytes>>10, x.Scans, x.Writes)
	}
	return w.Flush()
}
