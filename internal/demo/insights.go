package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/insight/compare"
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

// planTimeout is how long the proxy may take to ask a replica for a plan.
const planTimeout = 10 * time.Second

// showInsights shows an N+1, an index that is missing and what it changes, as stops from
// number n on.
func (g *guide) showInsights(ctx context.Context, owner *pgconn.PgConn, in *Insights, n int) error {
	g.print.title(n, "Rows gone through one by one are found, with what to send instead",
		fmt.Sprintf("The application loads %d couriers, and then the vehicle of each.", loaded))
	if err := g.nPlusOne(ctx); err != nil {
		return err
	}
	sum, err := in.summary()
	if err != nil {
		return err
	}
	g.print.finding(sum, "from vehicles", insight.NPlusOne)

	g.print.title(n+1, "An index that is missing is seen in the plan of a statement",
		fmt.Sprintf("A statement runs %d times, and a replica is asked how it executes it.", measured))
	if err := g.look(ctx, measured); err != nil {
		return err
	}
	sum, err = g.planned(ctx, in, func(p *insight.PlanRow) bool { return true })
	if err != nil {
		return err
	}
	g.print.plan(sum)
	create := "CREATE INDEX CONCURRENTLY ON public.deliveries (organization_id, address)"
	if f := g.print.finding(sum, byAddress, insight.PolicyUnindexed); f != nil {
		create = f.SQL
	}

	g.print.title(n+2, "What the index changed is told by a baseline",
		fmt.Sprintf("\"pgweir insights baseline before\", %s, and %d times again.", create, measured))
	report, err := g.compare(ctx, owner, in, create)
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

// summary is what the proxy would tell pgweir insights.
func (in *Insights) summary() (*insight.Summary, error) {
	var out bytes.Buffer
	if err := in.Write(&out); err != nil {
		return nil, err
	}
	sum := new(insight.Summary)
	return sum, json.Unmarshal(out.Bytes(), sum)
}

// byAddress is what tells the statement that runs before and after there is an index.
const byAddress = "from deliveries where address"

// look runs it some times.
func (g *guide) look(ctx context.Context, times int) error {
	for i := range times {
		if err := g.quietly(ctx,
			"begin", "set local app.current_org_id = '1'",
			fmt.Sprintf("select id, status "+byAddress+" = '%d Harbour Street' /*route='/deliveries'*/", i+1), "commit"); err != nil {
			return err
		}
	}
	return nil
}

// planOf is the plan of the statement by address; nil if none is known.
func planOf(sum *insight.Summary) *insight.PlanRow {
	for i := range sum.Plans {
		if p := &sum.Plans[i]; strings.Contains(p.Statement, byAddress) {
			return p
		}
	}
	return nil
}

// planned has the statement by address run until its plan is known and as it should be. A proxy
// that asks for none is shown as it is.
func (g *guide) planned(ctx context.Context, in *Insights, is func(*insight.PlanRow) bool) (*insight.Summary, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(planTimeout); ; {
		if err := g.look(ctx, 1); err != nil {
			return nil, err
		}
		sum, err := in.summary()
		if err != nil {
			return nil, err
		}
		if p := planOf(sum); p != nil && is(p) || time.Now().After(limit) {
			return sum, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// compare makes an index, has the statement run that it serves, and says what changed.
func (g *guide) compare(ctx context.Context, owner *pgconn.PgConn, in *Insights, create string) (*compare.Report, error) {
	const before = "before"
	if err := in.Take(before); err != nil {
		return nil, err
	}
	if _, err := owner.Exec(ctx, create).ReadAll(); err != nil {
		return nil, err
	}
	if err := g.settle(ctx); err != nil { // the proxy has read the catalog again
		return nil, err
	}
	if _, err := g.planned(ctx, in, func(p *insight.PlanRow) bool { return p.Before != nil }); err != nil {
		return nil, err
	}
	if err := g.look(ctx, measured); err != nil {
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

// finding prints the finding of a kind about a statement, and returns it; nil if there is none.
func (p *printer) finding(sum *insight.Summary, statement string, kind insight.Kind) *insight.Finding {
	for i := range sum.Findings {
		f := &sum.Findings[i]
		if f.Kind != kind.String() || !strings.Contains(f.Statement, statement) {
			continue
		}
		p.dim.Fprint(p.out, "      pgweir insights findings: ")
		fmt.Fprintf(p.out, "%s: %s\n        %s\n        cost: %s\n        instead: %s\n", f.Kind, f.Detail, f.Statement, f.Cost, f.SQL)
		if idiom := f.Idiom["SQLAlchemy"]; idiom != "" {
			fmt.Fprintf(p.out, "        SQLAlchemy: %s\n", idiom)
		}
		return f
	}
	p.dim.Fprintln(p.out, "      nothing was found")
	return nil
}

func (p *printer) plan(sum *insight.Summary) {
	row := planOf(sum)
	if row == nil {
		return
	}
	p.dim.Fprint(p.out, "      pgweir insights plans: ")
	fmt.Fprintf(p.out, "%s (cost %.0f, rows %.0f)\n", strings.Join(row.Access(), ", "), row.Cost, row.Rows)
}

func (p *printer) changes(r *compare.Report) {
	p.dim.Fprintln(p.out, "      pgweir insights diff before:")
	n := 0
	for _, s := range r.Statements {
		if strings.Contains(s.Statement, byAddress) && (s.Status == compare.Slower || s.Status == compare.Faster) {
			n++
			fmt.Fprintf(p.out, "        %s: takes %.2f times as long, p50 %.3g → %.3g ms, p95 %.3g → %.3g ms\n          %s\n",
				s.Status, s.Change, s.Before.P50, s.After.P50, s.Before.P95, s.After.P95, s.Statement)
			if s.Plan != "" {
				fmt.Fprintf(p.out, "          executed by: %s\n", s.Plan)
			}
		}
	}
	if n == 0 {
		p.dim.Fprintln(p.out, "        nothing became slower or faster")
	}
}
