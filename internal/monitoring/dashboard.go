package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// row is panels that answer one question.
type row struct {
	title  string
	panels []panel
}

// panel is a chart, or a single figure.
type panel struct {
	title, about string
	unit         string // Grafana's
	figure       figure
	queries      []query
}

// figure says whether a panel is a single one, and whether it is red above 0.
type figure uint8

const (
	chart figure = iota
	number
	alarm
)

type query struct{ expr, legend string }

// only stands in every selector: the instances that are chosen.
const only = `instance=~"$instance"`

// rows are the dashboard, in the order an operator asks: is it well, what does it do, what waits, how are the
// servers, is anything unsafe, how is the process.
var rows = []row{
	{"Is it well?", []panel{
		{"Clusters without a primary", "Writes wait there.", "short", alarm, []query{
			{`count(pgweir_cluster_has_primary{` + only + `} == 0) or vector(0)`, "without a primary"}}},
		{"Servers not serving", "Down, or not used because of what they are: docs/failover.md has the states.", "short", alarm, []query{
			{`count(max by (server) (pgweir_server_state{state="serving",` + only + `}) == 0) or vector(0)`, "not serving"}}},
		{"Statements", "", "ops", number, []query{
			{`sum(rate(pgweir_statements_total{` + only + `}[$__rate_interval]))`, "a second"}}},
		{"Reads on replicas", "The share of reads that the primary was spared.", "percentunit", number, []query{
			{`sum(rate(pgweir_statements_total{class="read",target="replica",` + only + `}[$__rate_interval])) / sum(rate(pgweir_statements_total{class="read",` + only + `}[$__rate_interval]))`, "share"}}},
		{"Batches, 99 %", "From a batch's last frame to its last answer.", "s", number, []query{
			{`histogram_quantile(0.99, sum by (le) (rate(pgweir_statement_seconds_bucket{` + only + `}[$__rate_interval])))`, "99 % within"}}},
		{"Certificates", "Until the first expires that pgweir shows.", "s", number, []query{
			{`min(pgweir_certificate_expiry_timestamp_seconds{` + only + `}) - time()`, "left"}}},
	}},
	{"What does it do?", []panel{
		{"Statements by target", "Any: pgweir answered by itself.", "ops", chart, []query{
			{`sum by (target) (rate(pgweir_statements_total{` + only + `}[$__rate_interval]))`, "{{target}}"}}},
		{"Why on the primary", "Reasons: docs/routing.md. Reads among them could be moved.", "ops", chart, []query{
			{`topk(10, sum by (reason, class) (rate(pgweir_statements_total{target="primary",` + only + `}[$__rate_interval])))`, "{{class}}: {{reason}}"}}},
		{"Batches, half within", "", "s", chart, []query{
			{`histogram_quantile(0.5, sum by (le, target, class) (rate(pgweir_statement_seconds_bucket{` + only + `}[$__rate_interval])))`, "{{target}} {{class}}"}}},
		{"Batches, 99 % within", "", "s", chart, []query{
			{`histogram_quantile(0.99, sum by (le, target, class) (rate(pgweir_statement_seconds_bucket{` + only + `}[$__rate_interval])))`, "{{target}} {{class}}"}}},
		{"Added by pgweir, 99 % within", "Analysis, choice, waiting and settings.", "s", chart, []query{
			{`histogram_quantile(0.99, sum by (le, target) (rate(pgweir_added_seconds_bucket{` + only + `}[$__rate_interval])))`, "{{target}}"}}},
		{"Errors and batches sent again", "By side, and by why a batch was sent again before its client saw anything.", "ops", chart, []query{
			{`sum by (side) (rate(pgweir_errors_total{` + only + `}[$__rate_interval]))`, "errors of the {{side}}"},
			{`sum by (reason) (rate(pgweir_retries_total{` + only + `}[$__rate_interval]))`, "again: {{reason}}"}}},
	}},
	{"What waits?", []panel{
		{"Sessions", "", "short", chart, []query{
			{`sum by (state) (pgweir_client_states{` + only + `})`, "{{state}}"}}},
		{"Oldest transaction", "", "s", chart, []query{
			{`max by (state) (pgweir_oldest_transaction_seconds{` + only + `})`, "{{state}}"}}},
		{"Time waited", "Seconds that batches waited in a second, by what for.", "short", chart, []query{
			{`sum by (for) (rate(pgweir_wait_seconds_sum{` + only + `}[$__rate_interval]))`, "{{for}}"}}},
		{"Clients waiting for a connection", "", "short", chart, []query{
			{`topk(10, sum by (server, database, user) (pgweir_pool_waiting{` + only + `}))`, "{{user}} in {{database}} on {{server}}"}}},
		{"Connections in use", "", "short", chart, []query{
			{`topk(10, sum by (server, database, user) (pgweir_pool_connections{state="used",` + only + `}))`, "{{user}} in {{database}} on {{server}}"}}},
		{"Reads that no replica was fresh enough for", "", "ops", chart, []query{
			{`sum by (level) (rate(pgweir_reads_delayed_total{` + only + `}[$__rate_interval]))`, "{{level}} delayed"},
			{`sum by (level) (rate(pgweir_reads_redirected_total{` + only + `}[$__rate_interval]))`, "{{level}} to the primary"}}},
	}},
	{"How are the servers?", []panel{
		{"States", "1 for the state a server is in.", "short", chart, []query{
			{`max by (server, state) (pgweir_server_state{` + only + `}) > 0`, "{{server}} {{state}}"}}},
		{"Age of what replicas show", "", "s", chart, []query{
			{`max by (server) (pgweir_replica_staleness_seconds{` + only + `})`, "{{server}}"}}},
		{"Log not replayed", "", "bytes", chart, []query{
			{`max by (server) (pgweir_replica_lag_bytes{` + only + `})`, "{{server}}"}}},
		{"Connections to servers", "All instances', and the most there may be.", "short", chart, []query{
			{`sum by (server) (pgweir_server_connections{` + only + `})`, "{{server}}"},
			{`sum by (server) (pgweir_server_connections_bound{` + only + `})`, "{{server}} at most"}}},
		{"Refused for want of slots", "", "ops", chart, []query{
			{`sum by (server) (rate(pgweir_server_full_total{` + only + `}[$__rate_interval]))`, "{{server}}"}}},
		{"Changes of the primary", "", "short", chart, []query{
			{`max by (cluster) (changes(pgweir_failovers_total{` + only + `}[$__rate_interval]))`, "{{cluster}}"}}},
	}},
	{"Is anything unsafe?", []panel{
		{"Connections that carried what nobody foresaw", "Anything above 0 is an alarm: docs/isolation.md.", "short", chart, []query{
			{`sum(increase(pgweir_verified_connections_total{result="different",` + only + `}[$__rate_interval]))`, "verified"},
			{`sum(increase(pgweir_assertions_failed_total{` + only + `}[$__rate_interval]))`, "asserted"},
			{`sum(increase(pgweir_pool_refused_total{` + only + `}[$__rate_interval]))`, "given back"}}},
		{"Pinned sessions", "Tied to one connection, by why.", "short", chart, []query{
			{`sum by (reason) (pgweir_pinned_sessions{` + only + `}) > 0`, "{{reason}}"}}},
		{"Statements without a tenant filter", "", "ops", chart, []query{
			{`topk(10, sum by (table, kind, severity) (rate(pgweir_unfiltered_statements_total{` + only + `}[$__rate_interval])))`, "{{severity}}: {{table}} {{kind}}"}}},
	}},
	{"How is the process?", []panel{
		{"Processors", "Cores in use.", "short", chart, []query{
			{`rate(process_cpu_seconds_total{job="pgweir",` + only + `}[$__rate_interval])`, "{{instance}}"}}},
		{"Memory", "", "bytes", chart, []query{
			{`process_resident_memory_bytes{job="pgweir",` + only + `}`, "{{instance}}"}}},
		{"Logins", "", "ops", chart, []query{
			{`sum by (outcome) (rate(pgweir_logins_total{` + only + `}[$__rate_interval]))`, "{{outcome}}"}}},
		{"Age of the configuration in force", "", "s", chart, []query{
			{`time() - pgweir_config_last_reload_success_timestamp_seconds{` + only + `}`, "{{instance}}"}}},
		{"Files with a fault", "1 where the configuration's file has a fault and is not in force.", "short", chart, []query{
			{`1 - pgweir_config_last_reload_successful{` + only + `}`, "{{instance}}"}}},
		{"Versions", "", "short", chart, []query{
			{`count by (version) (pgweir_build_info{` + only + `})`, "{{version}}"}}},
	}},
}

// newDashboard makes it in the classic schema, which every Grafana imports; the one that the SDK prefers needs Grafana 12.
func newDashboard() *dashboard.DashboardBuilder { //nolint:staticcheck // see above
	b := dashboard.NewDashboardBuilder("pgweir"). //nolint:staticcheck // see above
							Uid("pgweir").Tags([]string{"postgresql", "pgweir"}).Refresh("30s").Time("now-1h", "now").Timezone(common.TimeZoneBrowser).
							Tooltip(dashboard.DashboardCursorSyncCrosshair).
							WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
							WithVariable(dashboard.NewQueryVariableBuilder("instance").Label("Instance").Datasource(source).
								Query(dashboard.StringOrMap{String: cog.ToPtr("label_values(pgweir_build_info, instance)")}).
								Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Multi(true).IncludeAll(true))
	for _, r := range rows {
		b.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			b.WithPanel(p.build())
		}
	}
	return b
}

// source is the Prometheus that is chosen.
var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

func (p *panel) build() cog.Builder[dashboard.Panel] {
	if p.figure != chart {
		b := stat.NewPanelBuilder().Title(p.title).Description(p.about).Unit(p.unit).Datasource(source).Height(4).Span(4).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
		if p.figure == alarm {
			b.Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).
				Steps([]dashboard.Threshold{{Color: "green"}, {Value: cog.ToPtr(1.0), Color: "red"}}))
		}
		for i, q := range p.queries {
			b.WithTarget(q.target(i))
		}
		return b
	}
	b := timeseries.NewPanelBuilder().Title(p.title).Description(p.about).Unit(p.unit).Datasource(source).Height(8).Span(8).
		Min(0).FillOpacity(10).ShowPoints(common.VisibilityModeNever)
	for i, q := range p.queries {
		b.WithTarget(q.target(i))
	}
	return b
}

// target is a panel's i-th query.
func (q query) target(i int) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Expr(q.expr).LegendFormat(q.legend).Datasource(source)
}
