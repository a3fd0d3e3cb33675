package insight

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// PrintPlans prints plans as EXPLAIN does, those that changed last first; all if top is 0.
func PrintPlans(out io.Writer, plans []PlanRow, top int) error {
	if len(plans) == 0 {
		_, err := fmt.Fprintln(out, "no plan is known: see insight.plans.enabled")
		return err
	}
	slices.SortStableFunc(plans, func(a, b PlanRow) int {
		if (a.Before == nil) != (b.Before == nil) {
			return map[bool]int{true: 1, false: -1}[a.Before == nil]
		}
		return b.Since.Compare(a.Since)
	})
	if top > 0 && len(plans) > top {
		plans = plans[:top]
	}
	for i := range plans {
		if err := plans[i].print(out); err != nil {
			return err
		}
	}
	return nil
}

func (p *PlanRow) print(out io.Writer) error {
	_, _ = fmt.Fprintf(out, "%s: %s\n", p.Database, p.Statement)
	_, _ = fmt.Fprintf(out, "    calls: %d; asked of %s at %s", p.Calls, p.Server, p.Asked.UTC().Format(time.DateTime))
	if p.Usual.Calls > 0 {
		_, _ = fmt.Fprintf(out, ", p95 %s", p.Usual.P95)
	}
	if p.Generic {
		_, _ = fmt.Fprint(out, ", generic")
	}
	_, _ = fmt.Fprintln(out)
	if p.Before != nil {
		_, _ = fmt.Fprintf(out, "    changed %s: %s, cost %.0f → %.0f", p.Since.UTC().Format(time.DateTime), p.Before.Change(p.Plan), p.Before.Cost, p.Cost)
		if p.Usual.Calls > 0 && p.Earlier.Calls > 0 {
			_, _ = fmt.Fprintf(out, ", p95 %s → %s", p.Earlier.P95, p.Usual.P95)
		}
		_, _ = fmt.Fprintln(out)
	}
	for _, line := range p.Lines() {
		_, _ = fmt.Fprintln(out, "    "+line)
	}
	for i := range p.Wanted {
		_, _ = fmt.Fprintf(out, "    wanted: %s: %s\n", p.Wanted[i].SQL(), p.Wanted[i].Verdict())
	}
	_, err := fmt.Fprintln(out)
	return err
}

// Lines are the steps of a plan as EXPLAIN prints them.
func (p *Plan) Lines() (lines []string) {
	for i := range p.Nodes {
		x := &p.Nodes[i]
		line := strings.Repeat("  ", x.Depth) + x.Way()
		if x.TableRows > 0 {
			line += fmt.Sprintf(" of %.0f rows", x.TableRows)
		}
		lines = append(lines, fmt.Sprintf("%s  (cost %.0f, rows %.0f)%s", line, x.Cost, x.Rows, comparisons(x)))
	}
	if p.Left > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", p.Left))
	}
	return lines
}

// comparisons says which columns a node compares.
func comparisons(x *PlanNode) string {
	var index, filter []string
	for _, c := range x.Conditions {
		if c.Index {
			index = append(index, c.Column)
		} else {
			filter = append(filter, c.Column)
		}
	}
	text := ""
	if len(index) > 0 {
		text += "  index: " + strings.Join(index, ", ")
	}
	if len(filter) > 0 {
		text += "  filter: " + strings.Join(filter, ", ")
	}
	return text
}
