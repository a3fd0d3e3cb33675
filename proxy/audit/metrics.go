package audit

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/router/tenant"
)

// The metrics of the audit. Their names are those of docs/metrics.md.
type collector struct {
	a         *Auditor
	databases func(each func(label string, found *tenant.Inspection))

	unfiltered, kept, evicted, rejected, exempted, gaps *prometheus.Desc
}

// Collector tells Prometheus what was found. databases calls each with every database
// that was inspected, by its label.
func (a *Auditor) Collector(databases func(each func(label string, found *tenant.Inspection))) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pgweir_"+name, help, labels, nil)
	}
	return &collector{
		a: a, databases: databases,
		unfiltered: desc("unfiltered_statements_total", "Statements without a tenant filter, by the table that lacks it; beyond 500 tables by the table other.", "table", "kind", "severity"),
		kept:       desc("audit_statements", "Distinct statements the tenant audit keeps."),
		evicted:    desc("audit_evictions_total", "Statements the tenant audit gave up for newer ones."),
		rejected:   desc("audit_rejections_total", "Statements answered with an error because they lack a tenant filter."),
		exempted:   desc("audit_exemptions_total", "Statements without a tenant filter that are exempt by a comment, user, application or pattern."),
		gaps:       desc("tenant_gaps", "Gaps in the database's own protection of tenants, by kind.", "database", "kind"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.unfiltered, c.kept, c.evicted, c.rejected, c.exempted, c.gaps} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	if c.a.policy == nil {
		return
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	st := c.a.findings.now()
	for k, n := range st.tables {
		count(c.unfiltered, n, k.table, k.kind, k.severity.String())
	}
	gauge(c.kept, st.statements)
	count(c.evicted, st.evicted)
	count(c.rejected, st.rejected)
	count(c.exempted, st.exempted)
	all := map[string]*[tenant.GapKinds]int{}
	c.databases(func(label string, found *tenant.Inspection) {
		label = valid(label)
		if all[label] == nil {
			all[label] = new([tenant.GapKinds]int)
		}
		for i := range found.Gaps {
			all[label][found.Gaps[i].Kind]++
		}
	})
	for label, gaps := range all {
		for k, n := range gaps {
			gauge(c.gaps, n, label, tenant.GapKind(k).String())
		}
	}
}

// valid is a label of a name in whatever encoding: Prometheus takes UTF-8 only.
func valid(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
