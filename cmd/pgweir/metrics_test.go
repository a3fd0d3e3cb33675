package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// exposition is what /metrics answers.
func exposition(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return string(text)
}

// TestMetrics: all that a process exports is in order, as "promtool check metrics" sees it, and stands
// in docs/metrics.md in the same words, once, and nothing else does. What alerts and dashboard use is there.
func TestMetrics(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1, TLS: true})
	database := c.Database(t)
	must(t, c.Primary.Exec(t.Context(), database, "create table orders (organization_id int)"))
	must(t, c.WaitReplay(t.Context()))
	at := freeAddresses(t, 2)
	cert, key, err := c.ServerCert("localhost")
	must(t, err)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\ntenant: {columns: [organization_id], settings: [app.org]}\npool: {max_server_connections: 20}\ntls: {cert_file: %s, key_file: %s}\n", at[0], at[1], cert, key))
	g.edit("servers: [", "dns: [")
	process := g.start()
	g.await("listening")
	conn, url := clientOf(t, dsn(at[0], database)), "http://"+at[1]+"/metrics"
	for _, sql := range []string{"select * from orders", "create temp table tied ()"} {
		_, err := conn.Exec(t.Context(), sql)
		must(t, err)
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	must(t, err)
	_, table, _ := strings.Cut(string(page), "<!-- metrics: begin -->\n")
	table, _, _ = strings.Cut(table, "<!-- metrics: end -->")
	var documented []string
	for row := range strings.Lines(table) {
		cells := strings.SplitN(row, " | ", 3)
		labels := strings.Split(cells[1], ", ")
		slices.Sort(labels)
		documented = append(documented, strings.Join([]string{cells[0], strings.Join(labels, ", "), cells[2]}, " | "))
	}
	slices.Sort(documented)
	eventually(t, "everything is exported", func() bool { return len(families(exposition(t, url))) >= len(documented) })
	text := exposition(t, url)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	must(t, err)
	for _, p := range problems {
		t.Errorf("metric %s: %s", p.Metric, p.Text)
	}
	exported := families(text)
	for _, row := range exported {
		if !slices.Contains(documented, row) {
			t.Errorf("docs/metrics.md lacks %s", row)
		}
	}
	for i, row := range documented {
		if !slices.Contains(exported, row) || i > 0 && documented[i-1] == row {
			t.Errorf("docs/metrics.md has, wrongly or twice, %s", row)
		}
	}
	for _, file := range []string{"../../deploy/prometheus/alerts.yaml", "../../deploy/grafana/pgweir.json"} {
		uses, err := os.ReadFile(file)
		must(t, err)
		for _, name := range regexp.MustCompile(`\b(?:pgweir|process)_\w+`).FindAllString(string(uses), -1) {
			if name = strings.TrimSuffix(name, "_bucket"); !strings.Contains(text, "\n"+name+"{") && !strings.Contains(text, "\n"+name+" ") && !strings.Contains(text, "\n"+name+"_count") {
				t.Errorf("%s uses %s, which is not exported", file, name)
			}
		}
	}
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	must(t, err)
	ask.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	answer, err := http.DefaultClient.Do(ask)
	must(t, err)
	must(t, answer.Body.Close())
	if got := answer.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/vnd.google.protobuf") {
		t.Errorf("a scraper that asks for the format of native histograms gets %s", got)
	}
	must(t, process.Process.Signal(syscall.SIGTERM))
	must(t, process.Wait())
	g.await("stopped")
}

var (
	helpLine   = regexp.MustCompile(`(?m)^# HELP (pgweir_\w+) (.*)\n# TYPE \w+ \w+\n(\w+)(?:\{(.*)\})? `)
	labelNames = regexp.MustCompile(`(\w+)="(?:[^"\\]|\\.)*"`)
)

// families are the rows of a table of the metrics in text, sorted.
func families(text string) (rows []string) {
	for _, m := range helpLine.FindAllStringSubmatch(text, -1) {
		var labels []string
		for _, l := range labelNames.FindAllStringSubmatch(m[4], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], strings.Join(labels, ", "), m[2]))
	}
	slices.Sort(rows)
	return rows
}
