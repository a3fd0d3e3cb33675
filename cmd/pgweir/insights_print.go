package main

import (
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pgweir/pgweir/insight"
)

// printTop prints a line for each statement.
func printTop(out io.Writer, sum *insight.Summary, top int) error {
	if len(sum.Statements) == 0 {
		_, err := fmt.Fprintln(out, "no statement was counted")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "calls\ttotal ms\tp50 ms\tp95 ms\twaited ms\trows\tKiB\terrors\ttarget\tdatabase\tstatement")
	for i := range sum.Statements {
		if top > 0 && i == top {
			break
		}
		r := &sum.Statements[i]
		_, _ = fmt.Fprintf(w, "%d\t%.1f\t%.2f\t%.2f\t%.1f\t%d\t%d\t%d\t%s\t%s\t%s\n",
			r.Calls, r.Total, r.P50, r.P95, r.Waited, r.Rows, r.Bytes>>10, r.Errors, orDash(r.Target), orDash(r.Database), r.Statement)
	}
	if sum.Left > 0 {
		_, _ = fmt.Fprintf(w, "%d statements had no room and are counted together\n", sum.Left)
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printFindings prints findings as compilers print faults, so that editors find the place.
func printFindings(out io.Writer, sum *insight.Summary, format string) error {
	switch format {
	case "json":
		sum.Statements = nil
		return printJSON(out, sum)
	case "sarif":
		return printJSON(out, insightsSARIF(sum))
	}
	n := map[string]int{}
	for i := range sum.Findings {
		f := &sum.Findings[i]
		n[f.Kind]++
		if err := printFinding(out, f); err != nil {
			return err
		}
	}
	if len(n) == 0 {
		_, err := fmt.Fprintln(out, "nothing found")
		return err
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d %s", n[kind], kind))
	}
	_, err := fmt.Fprintf(out, "%s: %s\n", count(len(sum.Findings), "finding"), strings.Join(parts, ", "))
	return err
}

func printFinding(out io.Writer, f *insight.Finding) error {
	place := ""
	if f.File != "" {
		place = fmt.Sprintf("%s:%d: ", f.File, f.Line)
	}
	_, _ = fmt.Fprintf(out, "%s%s: %s (%s): %s\n", place, f.Severity, f.Kind, f.Sure, f.Detail)
	for _, line := range [][2]string{
		{"", f.Statement}, {"with: ", strings.Join(f.With, "\n          ")}, {"cost: ", f.Cost}, {"from: ", strings.Join(f.Routes, ", ")}, {"instead: ", f.SQL},
	} {
		if line[1] != "" {
			_, _ = fmt.Fprintf(out, "    %s%s\n", line[0], line[1])
		}
	}
	for _, library := range slices.Sorted(maps.Keys(f.Idiom)) {
		_, _ = fmt.Fprintf(out, "    %s: %s\n", library, f.Idiom[library])
	}
	_, err := fmt.Fprintln(out)
	return err
}

// insightsSARIF is the report for code review tools.
func insightsSARIF(sum *insight.Summary) sarifLog {
	info, _ := debug.ReadBuildInfo()
	r := report{version: buildVersion(info)}
	for i := range sum.Findings {
		f := &sum.Findings[i]
		x := issue{
			Severity: f.Severity, Kind: f.Kind, Detail: f.Detail + "; " + f.Cost, Remedy: f.SQL,
			File: orDash(f.File), Line: max(f.Line, 1), Count: int(f.Times), Fingerprint: f.Kind + " " + f.Fingerprint,
		}
		if f.Table != "" {
			x.Tables = []string{f.Table}
		}
		r.Issues = append(r.Issues, x)
	}
	return r.sarif()
}
