package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

func (r *report) print(out io.Writer, format string) error {
	switch format {
	case "json":
		return printJSON(out, r)
	case "sarif":
		return printJSON(out, r.sarif())
	}
	if r.statementsRead {
		return r.printStatements(out)
	}
	return r.printGaps(out)
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printGaps prints a line for each gap; what is equal of many tables is printed once.
func (r *report) printGaps(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "severity\tkind\twhere\tdetail")
	for _, x := range r.Issues {
		where := append(slices.Clone(x.Tables), x.Role)
		if x.Role == "" {
			where = x.Tables
		}
		detail := x.Detail
		if len(x.Commands) > 0 && len(x.Commands) < 4 {
			detail += " (" + strings.Join(x.Commands, ", ") + ")"
		}
		if len(x.Policies) > 0 {
			detail += ": policy " + strings.Join(x.Policies, ", ")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Severity, x.Kind, strings.Join(where, " "), detail)
	}
	if len(r.Issues) > 0 {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%s: %s, %s\n", r.Source, count(r.Tables, "tenant table"), r.summary())
	return err
}

// summary counts the issues by severity.
func (r *report) summary() string {
	if len(r.Issues) == 0 {
		return "nothing found"
	}
	n := map[string]int{}
	for _, x := range r.Issues {
		n[x.Severity]++
	}
	var parts []string
	for _, word := range []string{"danger", "warning", "info"} {
		if n[word] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[word], word))
		}
	}
	return strings.Join(parts, ", ")
}

// printStatements prints each distinct statement with its place, as compilers do, so
// that editors find it.
func (r *report) printStatements(out io.Writer) error {
	for _, x := range r.Issues {
		times := ""
		if x.Count > 1 {
			times = fmt.Sprintf(" (%d times)", x.Count)
		}
		_, _ = fmt.Fprintf(out, "%s:%d: %s: %s: %s%s\n", x.File, x.Line, x.Severity, x.Kind, strings.Join(x.Tables, ", "), times)
		_, _ = fmt.Fprintf(out, "    %s\n", cut(x.Statement, 120))
		if x.Remedy != "" {
			_, _ = fmt.Fprintf(out, "    add: %s\n", x.Remedy)
		}
	}
	var verdicts []string
	total := 0
	for _, v := range slices.Sorted(maps.Keys(r.Statements)) {
		total += r.Statements[v]
		verdicts = append(verdicts, fmt.Sprintf("%d %s", r.Statements[v], strings.ReplaceAll(v, "_", " ")))
	}
	line := count(total, "statement")
	if total > 0 {
		line += ": " + strings.Join(verdicts, ", ")
	}
	_, err := fmt.Fprintf(out, "%s: %s; %s\n", r.Source, line, r.summary())
	return err
}

// cut shortens s to n characters at most.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
