package arch

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Print writes the figures for a reader: a row for each package, the Booleans of the
// session types, and the extremes.
func (f Figures) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "package\tfiles\tlines\tmost methods\tmost fields\tcycle\tfunc p50\tp90\tmax\tcomplexity p90\tmax")
	var all Package
	for _, p := range f.Packages {
		row(t, p)
		all.add(p)
	}
	row(t, all)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nBooleans on session types: %d\n", Sum(f.Booleans))
	for _, c := range f.Booleans {
		fmt.Fprintf(w, "  %3d  %s\n", c.N, c.Name)
	}
	for _, p := range f.Packages {
		if len(p.Cycle) > 2 {
			fmt.Fprintf(w, "\nCycle of %d files in %s: %s\n", len(p.Cycle), p.Path, strings.Join(p.Cycle, " "))
		}
	}
	fmt.Fprintln(w, "\nLongest functions")
	longest := slices.SortedFunc(slices.Values(all.Functions), func(a, b Function) int { return cmp.Compare(b.Lines, a.Lines) })
	for _, x := range longest[:min(8, len(longest))] {
		fmt.Fprintf(w, "  %3d  %s  %s\n", x.Lines, x.Name, x.Where)
	}
	return nil
}

// add makes p the sum of its packages: counts add up, extremes stay.
func (p *Package) add(q Package) {
	p.Path = "all"
	p.Files += q.Files
	p.Lines += q.Lines
	p.Functions = append(p.Functions, q.Functions...)
	if q.Methods.N > p.Methods.N {
		p.Methods = q.Methods
	}
	if q.Fields.N > p.Fields.N {
		p.Fields = q.Fields
	}
	if len(q.Cycle) > len(p.Cycle) {
		p.Cycle = q.Cycle
	}
}

func row(w io.Writer, p Package) {
	lines := sizes(p.Functions, func(f Function) int { return f.Lines })
	complexity := sizes(p.Functions, func(f Function) int { return f.Complexity })
	fmt.Fprintf(w, "%s\t%d\t%d\t%v\t%v\t%d\t%d\t%d\t%d\t%d\t%d\n", p.Path, p.Files, p.Lines, p.Methods, p.Fields, len(p.Cycle),
		quantile(lines, 50), quantile(lines, 90), quantile(lines, 100), quantile(complexity, 90), quantile(complexity, 100))
}

// String is the count with its name.
func (c Count) String() string {
	if c.N == 0 {
		return "-"
	}
	return fmt.Sprintf("%d %s", c.N, c.Name)
}

// Sum adds up counts.
func Sum(counts []Count) int {
	n := 0
	for _, c := range counts {
		n += c.N
	}
	return n
}

// sizes are the sizes of all functions, sorted.
func sizes(all []Function, size func(Function) int) []int {
	var out []int
	for _, f := range all {
		out = append(out, size(f))
	}
	slices.Sort(out)
	return out
}

// quantile is the smallest of the sorted values that percent of them do not exceed.
func quantile(sorted []int, percent int) int {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*percent+99)/100-1, 0)]
}
