package tracing

import "github.com/prometheus/client_golang/prometheus"

// collector tells Prometheus of a Tracer.
type collector struct {
	t     *Tracer
	spans *prometheus.Desc
}

// Collector tells Prometheus what became of t's spans; of nil, that there are none.
func Collector(t *Tracer) prometheus.Collector {
	return &collector{t, prometheus.NewDesc("pgweir_tracing_spans_total",
		"Spans of traced statements, by what became of them.", []string{"outcome"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.spans }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	var exported, failed, dropped uint64
	if c.t != nil {
		e := c.t.spans
		exported, failed, dropped = e.exported.Load(), e.failed.Load(), e.dropped.Load()
	}
	for outcome, n := range map[string]uint64{"exported": exported, "failed": failed, "dropped": dropped} {
		ch <- prometheus.MustNewConstMetric(c.spans, prometheus.CounterValue, float64(n), outcome)
	}
}
