package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// The scripts of insight: a read of one row by its key, always the same statement, or one
// of so many, so that there is always one whose plan is due.
const (
	oneStatement   = "one statement"
	manyStatements = "500 statements"
)

const (
	insightClients = 8 // of each way
	acquaint       = 2 // seconds before a run, in which the plans of its statements are made
)

var insightScripts = map[string]string{
	oneStatement:   "\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
	manyStatements: "\\set aid random(1, 100000 * :scale)\n\\set kind random(1, 500)\nSELECT abalance AS a:kind FROM pgbench_accounts WHERE aid = :aid;\n",
}

// insightLines are the ways to count, that which does least first, and again: what differs
// between these two is chance.
var insightLines = []struct{ name, lines string }{
	{"off", ""},
	{"off again", ""},
	{"on", "insight: {enabled: true, max_bytes: 64MiB}\n"},
	{"on, with plans", "insight: {enabled: true, max_bytes: 64MiB, plans: {enabled: true, interval: 30s}}\n"},
}

// counting is a script through a pgweir that counts statements in one way, with what came
// of it in each round.
type counting struct {
	script, mode, way string
	*system
	samples []figures
	objects []float64 // allocations for a query
	plans   float64   // that servers were asked for, in all rounds
}

func (c *counting) String() string {
	return fmt.Sprintf("%s, %s, insight %s", c.script, c.mode, c.way)
}

func (c *counting) of(figure func(figures) float64) []float64 { return valuesOf(c.samples, figure) }

// measureInsight runs statements through pgweir with insight off, on, and with plans, all at
// the same time: whatever slows one slows the others. In every round they are new processes,
// for one may be faster than another by where its memory lies.
func measureInsight(ctx context.Context, l *lab, r *report) error {
	if l.system(pgweir) == nil {
		return nil
	}
	var loads [][]*counting // the ways of each
	for _, load := range []struct{ script, mode string }{{oneStatement, "prepared"}, {oneStatement, "simple"}, {manyStatements, "simple"}} {
		if !slices.Contains(l.options.modes, load.mode) {
			continue
		}
		var ways []*counting
		for _, way := range insightLines {
			ways = append(ways, &counting{script: load.script, mode: load.mode, way: way.name})
		}
		loads = append(loads, ways)
	}
	defer func() { r.insight = insightTable(slices.Concat(loads...)) }()
	for round := range l.options.rounds {
		if err := l.countInsight(ctx, r, round, loads); err != nil {
			return err
		}
	}
	return nil
}

// countInsight is one round of measureInsight.
func (l *lab) countInsight(ctx context.Context, r *report, round int, loads [][]*counting) error {
	proxies := make([]*system, len(insightLines))
	for n := range insightLines {
		i := (n + round) % len(insightLines)
		s, err := l.startWeir(ctx, pgweir, l.cluster.Servers(), insightLines[i].lines)
		if s, err = s.up(ctx, pgweir, err); err != nil {
			return err
		}
		defer s.stop()
		proxies[i] = s
	}
	for _, ways := range loads {
		var all sync.WaitGroup
		faults := make([]error, len(ways))
		for i, c := range ways {
			c.system = proxies[i]
			all.Go(func() { faults[i] = l.counting(ctx, c) })
		}
		all.Wait()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for i, err := range faults {
			if c := ways[i]; err != nil {
				c.samples, c.objects = append(c.samples, failedRun), append(c.objects, math.NaN())
				r.fault("%v, round %d: %v", c, round+1, err)
			}
		}
	}
	return nil
}

// counting runs one script once.
func (l *lab) counting(ctx context.Context, c *counting) error {
	w := load{script: c.script, mode: c.mode, clients: insightClients}
	if _, err := l.pgbenchLog(ctx, c.addr, w, acquaint); err != nil {
		return err
	}
	own, err := scrapeCost(ctx, c.system)
	if err != nil {
		return err
	}
	objects, queries, plans, err := c.counts(ctx)
	if err != nil {
		return err
	}
	f, err := l.pgbench(ctx, c.system, w, l.options.seconds, 100*time.Millisecond, cpuOf(c.pid()))
	if err != nil {
		return err
	}
	objectsAfter, queriesAfter, plansAfter, err := c.counts(ctx)
	if err != nil {
		return err
	}
	each := (objectsAfter - objects - own) / max(queriesAfter-queries, 1)
	c.samples, c.objects, c.plans = append(c.samples, f), append(c.objects, each), c.plans+plansAfter-plans
	progress("%-45v %8.0f tps  p50 %6.0f µs  p99 %6.0f µs  cpu %5.1f µs  %.2f allocations", c, f.tps, f.p50, f.p99, f.cost, each)
	return nil
}

// counts are pgweir's own: objects it has allocated, statements it has run, and plans that
// servers were asked for.
func (s *system) counts(ctx context.Context) (objects, statements, plans float64, err error) {
	body, err := s.fetch(ctx, "/metrics", 10*time.Second)
	if err != nil {
		return 0, 0, 0, err
	}
	page := string(body)
	for _, n := range sumBy(page, "pgweir_statements_total", "target") {
		statements += n
	}
	for _, n := range sumBy(page, "pgweir_insight_plans_total", "result") {
		plans += n
	}
	objects, err = findMetric(page, "go_memstats_mallocs_total")
	return objects, statements, plans, err
}

// insightTable shows what it costs to count statements, and to ask for their plans.
func insightTable(measured []*counting) string {
	if len(measured) == 0 {
		return ""
	}
	var t table
	fmt.Fprintf(&t, "## Insight\n\nReads of one row of pgbench_accounts by its key through pgweir to the primary and two replicas. All four ways at the same time, %d clients each,\n"+
		"processes started anew in every round; the ratios (÷ off) are to the first, formed within a round, with the middle half of the rounds; off again shows what is chance.\n"+
		"Plans are those that replicas were asked for meanwhile, in all rounds.\n\n", insightClients)
	t.head(3, "load", "mode", "insight", "queries/s", "CPU µs", "÷ off", "p50 µs", "÷ off", "p99 µs", "÷ off", "allocations", "plans")
	var off *counting
	for _, c := range measured {
		if c.way == insightLines[0].name {
			off = c
		}
		ratio := func(figure func(figures) float64) string {
			if c == off {
				return "–"
			}
			all := slices.Sorted(slices.Values(ratios(c.of(figure), off.of(figure))))
			if len(all) < 4 {
				return number(median(all), "%.3f")
			}
			return fmt.Sprintf("%.3f (%.3f – %.3f)", median(all), percentile(all, 25), percentile(all, 75))
		}
		t.row(c.script, c.mode, c.way, show(c.of(tps), "%.0f"), show(c.of(cost), "%.2f"), ratio(cost), show(c.of(p50), "%.0f"), ratio(p50),
			show(c.of(p99), "%.0f"), ratio(p99), number(median(known(c.objects)), "%.2f"), number(c.plans, "%.0f"))
	}
	return t.String()
}
