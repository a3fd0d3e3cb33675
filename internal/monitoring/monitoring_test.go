package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "rewrite the dashboard")

const (
	dashboardFile = "../../deploy/grafana/pgweir.json"
	alertsFile    = "../../deploy/prometheus/alerts.yaml"
	recordedFile  = "../../deploy/prometheus/alerts_test.yaml"
	drawnFile     = "../../deploy/prometheus/insight_test.yaml"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestDashboardFile: the file is what the generator writes.
func TestDashboardFile(t *testing.T) {
	text, err := dashboardJSON()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(dashboardFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(text, read(t, dashboardFile)) {
		t.Error("deploy/grafana/pgweir.json is not what the generator writes: make dashboard")
	}
}

// TestExpressions: every expression of the dashboard and the alerts is one, and uses metrics with labels as
// docs/metrics.md has them, which cmd/pgweir's TestMetrics holds to what is exported.
func TestExpressions(t *testing.T) {
	known := documented(t)
	var all []string
	for _, r := range rows {
		for _, p := range r.panels {
			for _, q := range p.queries {
				all = append(all, strings.ReplaceAll(q.expr, "$__rate_interval", "5m"))
				for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(q.legend, -1) {
					if m[1] != "instance" && !strings.Contains(q.expr, m[1]) {
						t.Errorf("%s: %s is not a label of %s", p.title, m[1], q.expr)
					}
				}
			}
		}
	}
	for _, r := range alerts(t) {
		all = append(all, r.Expr)
	}
	for _, text := range all {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, fault := range faults(expr, known) {
			t.Errorf("%s: %s", text, fault)
		}
	}
	for _, wrong := range []string{`pgweir_no_such`, `pgweir_clients{server="x"}`, `sum by (server) (pgweir_clients)`, `pgweir_clients_bucket{le="1"}`} {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(wrong)
		if err != nil || len(faults(expr, known)) == 0 {
			t.Errorf("%s passes: %v", wrong, err)
		}
	}
}

// documented are the metrics of the page with their labels.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{"up": nil, "process_cpu_seconds_total": nil, "process_resident_memory_bytes": nil, "process_start_time_seconds": nil}
	for _, m := range regexp.MustCompile("(?m)^\\| `(pgweir_\\w+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(read(t, "../../docs/metrics.md")), -1) {
		names := strings.Split(m[2], ", ")
		all[m[1]] = names
		if strings.HasSuffix(m[1], "_seconds") {
			for _, of := range []string{"_sum", "_count", "_bucket"} {
				all[m[1]+of] = append(slices.Clone(names), "le")
			}
		}
	}
	if len(all) < 50 {
		t.Fatalf("docs/metrics.md has %d", len(all))
	}
	return all
}

// faults are what an expression takes for a metric or a label and is none.
func faults(expr parser.Expr, known map[string][]string) (out []string) {
	there := map[string]bool{"instance": true, "job": true}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		own, ok := known[v.Name]
		if !ok {
			out = append(out, "there is no metric "+v.Name)
		}
		for _, l := range own {
			there[l] = true
		}
		for _, m := range v.LabelMatchers {
			if m.Name != model.MetricNameLabel && m.Name != "instance" && m.Name != "job" && !slices.Contains(own, m.Name) {
				out = append(out, v.Name+" has no label "+m.Name)
			}
		}
		return nil
	})
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			for _, l := range a.Grouping {
				if !there[l] {
					out = append(out, "no label "+l+" to group by")
				}
			}
		}
		return nil
	})
	return out
}

func alerts(t *testing.T) (all []rulefmt.Rule) {
	t.Helper()
	groups, errs := rulefmt.Parse(read(t, alertsFile), false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	for _, err := range errs {
		t.Error(err)
	}
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// TestRunbooks: every alert has its paragraph, is named by it, and says where it is.
func TestRunbooks(t *testing.T) {
	page := string(read(t, "../../docs/operations.md"))
	for _, r := range alerts(t) {
		if !strings.Contains(page, "\n### "+r.Alert+"\n\n") {
			t.Errorf("docs/operations.md has no paragraph %s", r.Alert)
		}
		if want := "docs/operations.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s: the runbook is %q, not %q", r.Alert, r.Annotations["runbook"], want)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
	}
}

// recorded is what promtool test rules reads, as far as TestFaults of cmd/pgweir writes it.
type recorded struct {
	Interval string `yaml:"evaluation_interval"`
	Tests    []struct {
		Start  time.Time `yaml:"start_timestamp"`
		Series []struct {
			Series, Values string
		} `yaml:"input_series"`
		Checks []struct {
			Expr    string
			At      time.Duration `yaml:"eval_time"`
			Samples []struct {
				Labels string
				Value  float64
			} `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	}
}

// TestAlerts: on what was recorded of real faults, or was drawn where it lasts for hours, each alert fires when its fault has lasted, and no other does; while
// there is no fault none does. It evaluates as promtool test rules does, which takes four minutes to be compiled
// (make promtool).
func TestAlerts(t *testing.T) {
	fired := map[string]bool{}
	quiet := 0
	for _, path := range []string{recordedFile, drawnFile} {
		var file recorded
		if err := yaml.Unmarshal(read(t, path), &file); err != nil {
			t.Fatal(err)
		}
		quiet += check(t, &file, fired)
	}
	for _, r := range alerts(t) {
		if !fired[r.Alert] {
			t.Errorf("nothing proves that %s fires", r.Alert)
		}
	}
	if quiet < 5 {
		t.Errorf("%d quiet times", quiet)
	}
}

// check compares what fires with what should, and returns how often nothing should.
func check(t *testing.T, file *recorded, fired map[string]bool) (quiet int) {
	t.Helper()
	play(t, file, func(at time.Duration, query func(expr string) promql.Vector) {
		for _, c := range file.Tests[0].Checks {
			if c.At != at {
				continue
			}
			want, got := map[string]float64{}, map[string]float64{}
			for _, s := range c.Samples {
				want[s.Labels] = s.Value
			}
			if len(want) == 0 {
				quiet++
			}
			for _, s := range query(c.Expr) {
				got[s.Metric.String()] = s.F
				fired[s.Metric.Get("alertname")] = true
			}
			if !maps.Equal(want, got) {
				t.Errorf("after %v there fires %v, not %v", at, got, want)
			}
		}
	})
	return quiet
}

// play evaluates the rules on the recorded series from their beginning to their end, and calls look after each time.
func play(t *testing.T, file *recorded, look func(at time.Duration, query func(expr string) promql.Vector)) {
	t.Helper()
	in, every, p := &file.Tests[0], parseDuration(t, file.Interval), parser.NewParser(parser.Options{})
	var load strings.Builder
	fmt.Fprintf(&load, "load %s\n", file.Interval)
	for _, s := range in.Series {
		fmt.Fprintf(&load, "  %s %s\n", s.Series, s.Values)
	}
	suite, err := promqltest.NewLazyLoader(load.String(), promqltest.LazyLoaderOpts{StartTime: in.Start, Parser: p, EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer suite.Close()
	suite.SubqueryInterval = every
	m := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage()), AppendableV2: suite.Storage(), Context: context.Background(),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: promslog.NewNopLogger(), Parser: p,
	})
	groups, errs := m.LoadGroups(every, labels.EmptyLabels(), "", nil, false, alertsFile)
	for _, err := range errs {
		t.Fatal(err)
	}
	for _, g := range groups {
		for _, r := range g.Rules() {
			r.(*rules.AlertingRule).SetRestored(true)
		}
	}
	last := in.Checks[len(in.Checks)-1].At
	for at := time.Duration(0); at <= last; at += every {
		now := in.Start.Add(at)
		suite.WithSamplesTill(now, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				g.Eval(suite.Context(), now)
				for _, r := range g.Rules() {
					if r.LastError() != nil {
						t.Fatalf("%s: %v", r.Name(), r.LastError())
					}
				}
			}
		})
		look(at, func(expr string) promql.Vector {
			q, err := suite.QueryEngine().NewInstantQuery(suite.Context(), suite.Queryable(), nil, expr, now)
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			v, err := q.Exec(suite.Context()).Vector()
			if err != nil {
				t.Fatal(err)
			}
			return slices.Clone(v)
		})
	}
}

func parseDuration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
