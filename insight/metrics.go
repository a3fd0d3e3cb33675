package insight

import "github.com/prometheus/client_golang/prometheus"

// collector tells Prometheus of a Book. The names are those of docs/metrics.md.
type collector struct {
	b                             *Book
	findings, found               *prometheus.Desc
	unboundedCalls, unboundedRows *prometheus.Desc
	statements, left              *prometheus.Desc
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
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.findings, c.found, c.unboundedCalls, c.unboundedRows, c.statements, c.left} {
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
}
