package compare

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Print writes a report as tables, for people or, with markdown, for a comment in code review.
// Without all, what is the same is left out.
func (r *Report) Print(out io.Writer, markdown, all bool) error {
	p := printer{out: out, markdown: markdown, all: all}
	p.periods(r)
	p.statements(r)
	p.routes(r)
	p.findings(r)
	return p.err
}

// printer prints tables, for people or for a comment in code review. After an error it
// prints nothing.
type printer struct {
	out      io.Writer
	markdown bool
	all      bool
	err      error
}

func (p *printer) print(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}

// table prints rows below their heads; nothing without rows.
func (p *printer) table(title string, heads []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	if title != "" {
		p.print("\n%s%s\n\n", map[bool]string{true: "## "}[p.markdown], title)
	}
	if p.markdown {
		p.print("| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
		for _, row := range rows {
			for i := range row {
				row[i] = strings.ReplaceAll(row[i], "|", "\\|")
			}
			p.print("| %s |\n", strings.Join(row, " | "))
		}
		return
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heads}, rows...) {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if p.err == nil {
		p.err = w.Flush()
	}
}

// code is text of SQL.
func (p *printer) code(text string) string {
	if p.markdown {
		return "`" + strings.ReplaceAll(text, "`", "'") + "`"
	}
	return text
}

func (p *printer) periods(r *Report) {
	row := func(what string, x *Period) []string {
		began, took := "-", "-"
		if !x.Begin.IsZero() {
			began, took = x.Begin.Format(time.DateTime), x.End.Sub(x.Begin).Round(time.Second).String()
		}
		return []string{
			what, cmp.Or(x.Name, "since the last baseline"), began, took, fmt.Sprint(x.Calls), number(x.Rate), number(x.Busy), number(x.Wait), number(x.Lag), number(x.MostLag),
		}
	}
	p.table("", []string{"period", "name", "began", "length", "calls", "calls/s", "busy", "waited ms", "lag ms", "most lag ms"},
		[][]string{row("before", &r.Before), row("after", &r.After)})
	for _, note := range r.Notes {
		p.print("\nnote: %s\n", note)
	}
}

func (p *printer) statements(r *Report) {
	var rows, plans [][]string
	n := map[Status]int{}
	for i := range r.Statements {
		s := &r.Statements[i]
		if s.Plan != "" {
			plans = append(plans, []string{string(s.Status), times(s.Change), s.Plan, p.code(s.Statement)})
		}
		if n[s.Status]++; !p.all && (s.Status == Same || s.Status == Few) {
			continue
		}
		rows = append(rows, []string{
			string(s.Status), times(s.Change), pair(float64(s.Before.Calls), float64(s.After.Calls)), pair(s.Before.Mean, s.After.Mean), pair(s.Before.P50, s.After.P50),
			pair(s.Before.P95, s.After.P95), pair(s.Before.Rows, s.After.Rows), pair(100*s.Before.Primary, 100*s.After.Primary), p.code(s.Statement),
		})
	}
	p.table("Statements", []string{"status", "takes", "calls", "mean ms", "p50 ms", "p95 ms", "rows", "% primary", "statement"}, rows)
	p.table("Plans", []string{"status", "takes", "executed by", "statement"}, plans)
	p.print("\nwithout a difference: %d; with too few calls to tell: %d\n", n[Same], n[Few])
}

func (p *printer) routes(r *Report) {
	var rows [][]string
	for i := range r.Routes {
		x := &r.Routes[i]
		if !p.all && (x.Status == Same || x.Status == Few) {
			continue
		}
		rows = append(rows, []string{
			string(x.Status), times(x.Change), pair(float64(x.TransactionsBefore), float64(x.TransactionsAfter)), pair(x.Before, x.After), p.code(x.name()),
		})
	}
	p.table("Requests", []string{"status", "sends", "transactions", "statements each", "route"}, rows)
}

// name is the route's for people.
func (x *Route) name() string { return strings.TrimSpace(cmp.Or(x.Application, "-") + " " + x.Route) }

func (p *printer) findings(r *Report) {
	var rows [][]string
	for i := range r.Patterns {
		f := &r.Patterns[i]
		rows = append(rows, []string{string(f.Status), f.Severity, f.Kind, f.Detail, p.code(f.Statement)})
	}
	p.table("Findings", []string{"status", "severity", "kind", "detail", "statement"}, rows)
}

// number is x for people; 0 is nothing.
func number(x float64) string {
	switch {
	case x == 0:
		return "-"
	case x >= 1000:
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

func pair(before, after float64) string {
	if number(before) == number(after) {
		return number(before)
	}
	return number(before) + " → " + number(after)
}

func times(change float64) string {
	if change == 0 {
		return "-"
	}
	return fmt.Sprintf("×%.2f", change)
}
