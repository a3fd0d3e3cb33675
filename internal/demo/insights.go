package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/insight/compare"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// Insights are what a proxy has counted.
type Insights struct {
	Write func(io.Writer) error // as JSON
	// Take takes a baseline, and Baseline writes one; without a name, what was counted since.
	Take     func(name string) error
	Baseline func(w io.Writer, name string) error
}

// What the stops on insights do.
const (
	loaded   = 8   // rows that are gone through one by one
	measured = 100 // times that a statement runs before and after
)

// showInsights shows an N+1 and what an index changed, as stops from number n on.
func (g *guide) showInsights(ctx context.Context, c *pgtest.Cluster, in *Insights, n int) error {
	g.print.title(n, "Rows gone through one by one are found, with what to send instead",
		fmt.Sprintf("The application loads %d couriers, and then the vehicle of each.", loaded))
	if err := g.nPlusOne(ctx); err != nil {
		return err
	}
	found, err := in.find(insight.NPlusOne)
	if err != nil {
		return err
	}
	g.print.finding(found)
	g.print.title(n+1, "What an index changed is told by a baseline",
		fmt.Sprintf("A statement runs %d times; then \"pgweir insights baseline before\", an index, and %d times again.", measured, measured))
	report, err := g.compare(ctx, c, in)
	if err != nil {
		return err
	}
	g.print.changes(report)
	return nil
}

func (g *guide) nPlusOne(ctx context.Context) error {
	run := []string{
		"begin", "set local app.current_org_id = '1'",
		fmt.Sprintf("select id, name from couriers order by id limit %d /*route='/couriers'*/", loaded),
	}
	for i := range loaded {
		run = append(run, fmt.Sprintf("select plate from vehicles where courier_id = %d /*route='/couriers'*/", i+1))
	}
	return g.visit(ctx, stop{run: append(run, "commit")})
}

// find is a finding of a kind; nil if there is none.
func (in *Insights) find(kind insight.Kind) (*insight.Finding, error) {
	var out bytes.Buffer
	if err := in.Write(&out); err != nil {
		return nil, err
	}
	var sum insight.Summary
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(sum.Findings, func(f insight.Finding) bool { return f.Kind == kind.String() })
	if i < 0 {
		return nil, nil
	}
	return &sum.Findings[i], nil
}

// compare runs a statement before there is an index for it and after, and says what changed.
func (g *guide) compare(ctx context.Context, c *pgtest.Cluster, in *Insights) (*compare.Report, error) {
	run := func() error {
		for i := range measured {
			if err := g.quietly(ctx,
				"begin", "set local app.current_org_id = '1'",
				fmt.Sprintf("select id, status from deliveries where address = '%d Harbour Street' /*route='/deliveries'*/", i+1), "commit"); err != nil {
				return err
			}
		}
		return nil
	}
	if err := run(); err != nil {
		return nil, err
	}
	const before = "before"
	if err := in.Take(before); err != nil {
		return nil, err
	}
	if err := c.Primary.Exec(ctx, Database, "create index on deliveries (address)"); err != nil {
		return nil, err
	}
	if err := c.WaitReplay(ctx); err != nil {
		return nil, err
	}
	if err := g.settle(ctx); err != nil { // the proxy has read the catalog again
		return nil, err
	}
	if err := run(); err != nil {
		return nil, err
	}
	var periods [2]*insight.Snapshot
	for i, name := range []string{before, ""} {
		var data bytes.Buffer
		if err := in.Baseline(&data, name); err != nil {
			return nil, err
		}
		s, err := archive.Read(&data)
		if err != nil {
			return nil, err
		}
		periods[i] = s
	}
	return compare.Compare(periods[0], periods[1], compare.Options{}), nil
}

// quietly runs statements that are not shown.
func (g *guide) quietly(ctx context.Context, run ...string) error {
	for _, sql := range run {
		if _, err := g.conn.Exec(ctx, sql).ReadAll(); err != nil {
			return err
		}
	}
	g.seen = nil
	return nil
}

func (p *printer) finding(f *insight.Finding) {
	if f == nil {
		p.dim.Fprintln(p.out, "      nothing was found")
		return
	}
	p.dim.Fprint(p.out, "      pgweir insights findings: ")
	fmt.Fprintf(p.out, "%s: %s\n        %s\n        instead: %s\n        SQLAlchemy: %s\n", f.Kind, f.Detail, f.Statement, f.SQL, f.Idiom["SQLAlchemy"])
}

func (p *printer) changes(r *compare.Report) {
	p.dim.Fprintln(p.out, "      pgweir insights diff before:")
	n := 0
	for _, s := range r.Statements {
		if strings.Contains(s.Statement, "from deliveries where address") && (s.Status == compare.Slower || s.Status == compare.Faster) {
			n++
			fmt.Fprintf(p.out, "        %s: takes %.2f times as long, p50 %.3g → %.3g ms, p95 %.3g → %.3g ms\n          %s\n",
				s.Status, s.Change, s.Before.P50, s.After.P50, s.Before.P95, s.After.P95, s.Statement)
		}
	}
	if n == 0 {
		p.dim.Fprintln(p.out, "        nothing became slower or faster")
	}
}
