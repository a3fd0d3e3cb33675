package insight

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// collector tells Prometheus of a Book. The names are those of docs/metrics.md.
type collector struct {
	b                             *Book
	findings, found               *prometheus.Desc
	unboundedCalls, unboundedRows *prometheus.Desc
	statements, left              *prometheus.Desc
	plans, shown                  *prometheus.Desc
}

// Collector tells Prometheus what is in b, by kinds of findings and never by statement; of
// nil, that there is nothing.
func Collector(b *Book) prometheus.Collector {
	return &collector{
		b:              b,
		findings:       prometheus.NewDesc("pgweir_insight_findings_total", "Times a pattern of statements was found that costs more than it needs to, by kind.", []string{"kind"}, nil),
		found:          prometheus.NewDesc("pgweir_insight_statements_found", "Statements of which such a pattern was found, by kind.", []string{"kind"}, nil),
		unboundedCalls: prometheus.NewDesc("pgweir_insight_unbounded_calls_total", "Calls of reads whose rows nothing bounds.", nil, nil),
		unboundedRows:  prometheus.NewDesc("pgweir_insight_unbounded_rows_total", "Rows that these returned.", nil, nil),
		statements:     prometheus.NewDesc("pgweir_insight_statements", "Statements whose statistics are kept.", nil, nil),
		left:           prometheus.NewDesc("pgweir_insight_statements_left_total", "Statements that had no room and are counted together.", nil, nil),
		plans:          prometheus.NewDesc("pgweir_insight_plans_total", "Statements whose plan a server was asked for, by what became of it: kept, changed (kept, and of another shape than before), failed, or left for want of room.", []string{"result"}, nil),
		shown:          prometheus.NewDesc("pgweir_insight_plan_findings", "Statements whose plan shows something now that costs more than it needs to, by kind.", []string{"kind"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.findings, c.found, c.unboundedCalls, c.unboundedRows, c.statements, c.left, c.plans, c.shown} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	b := c.b
	if b == nil {
		b = New(Options{})
	}
	times, found := b.Counts(), b.Found()
	for k := range Unbounded { // what follows is of statements, not of times
		ch <- prometheus.MustNewConstMetric(c.findings, prometheus.CounterValue, float64(times[k]), k.String())
		ch <- prometheus.MustNewConstMetric(c.found, prometheus.GaugeValue, float64(found[k]), k.String())
	}
	calls, rows := b.Unbounded()
	ch <- prometheus.MustNewConstMetric(c.unboundedCalls, prometheus.CounterValue, float64(calls))
	ch <- prometheus.MustNewConstMetric(c.unboundedRows, prometheus.CounterValue, float64(rows))
	statements, left := b.size()
	ch <- prometheus.MustNewConstMetric(c.statements, prometheus.GaugeValue, float64(statements))
	ch <- prometheus.MustNewConstMetric(c.left, prometheus.CounterValue, float64(left))
	shown := b.planFindings()
	for k := SeqScan; k < Kinds; k++ {
		ch <- prometheus.MustNewConstMetric(c.shown, prometheus.GaugeValue, float64(shown[k]), k.String())
	}
	for result, n := range map[string]uint64{
		"kept": b.plans.asked.Load(), "changed": b.plans.changed.Load(), "failed": b.plans.failed.Load(), "left": b.plans.left.Load(),
	} {
		ch <- prometheus.MustNewConstMetric(c.plans, prometheus.CounterValue, float64(n), result)
	}
}

// planFindings counts the statements whose plans show something, by kind.
func (b *Book) planFindings() (found [Kinds]uint64) {
	b.mu.Lock()
	statements := slices.Clone(b.order)
	b.mu.Unlock()
	for _, s := range statements {
		for _, f := range s.planFindings(new(totals)) {
			if f != nil {
				found[f.kind]++
			}
		}
	}
	return found
}
