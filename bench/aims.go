package main

import (
	"fmt"
	"slices"
)

// aim is a figure that must not be exceeded.
type aim struct {
	what     string
	limit    float64
	format   string
	measured func(*report) []float64 // the worst of them counts; none: not measured
}

// aims are what pgweir is held to. Compared with PgBouncer are the modes it can pool.
// The aims of "none" leave room for what the process allocates beside queries.
var aims = []aim{
	{"CPU per query ÷ PgBouncer's, 8 clients", 1.5, "%.2f", cpuRatios("select", 8)},
	{"CPU per query ÷ PgBouncer's, 64 clients", 1.3, "%.2f", cpuRatios("select", 64)},
	{"CPU per query ÷ PgBouncer's, 256 clients", 1.3, "%.2f", cpuRatios("select", 256)},
	{"CPU per MB of a 1 MB result ÷ PgBouncer's", 0.8, "%.2f", bulkRatios},
	{"memory of an idle client, KiB", 10, "%.1f", idleKiB},
	{"allocations per query", 0.1, "%.2f", allocCounts},
	{"allocations for 1,000 rows", 1, "%.2f", rowAllocCount},
}

func cpuRatios(script string, clients int) func(*report) []float64 {
	return func(r *report) []float64 {
		var all []float64
		for _, c := range r.cells {
			if c.script == script && c.clients == clients {
				all = append(all, medianRatio(c.of(pgweir, cost), c.of(pgbouncer, cost)))
			}
		}
		return known(all)
	}
}

func bulkRatios(r *report) []float64 {
	var all []float64
	for _, b := range r.bulks {
		all = append(all, medianRatio(b.cpu[pgweir], b.cpu[pgbouncer]))
	}
	return known(all)
}

func idleKiB(r *report) []float64 {
	for _, m := range r.idle {
		if m.system == pgweir {
			return []float64{m.login / 1024, m.query / 1024}
		}
	}
	return nil
}

func allocCounts(r *report) []float64 {
	var all []float64
	for _, a := range r.allocs {
		if a.script == "select" {
			all = append(all, a.objects)
		}
	}
	return all
}

func rowAllocCount(r *report) []float64 {
	if r.rowAllocs == nil {
		return nil
	}
	return []float64{*r.rowAllocs}
}

func (r *report) aimsTable() string {
	var t table
	any := false
	t.WriteString("## Aims\n\nThe worst of the figures below, `select` where there is a choice.\n\n")
	t.head(1, "aim", "at most", "measured", "")
	for _, a := range aims {
		measured := a.measured(r)
		if len(measured) == 0 {
			continue
		}
		any = true
		worst, verdict := slices.Max(measured), "met"
		if worst > a.limit {
			verdict = "**missed**"
		}
		t.row(a.what, fmt.Sprint(a.limit), fmt.Sprintf(a.format, worst), verdict)
	}
	if !any {
		return ""
	}
	return t.String()
}
