package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"time"
)

// report is all that was measured. The parts fill it in; markdown shows it.
type report struct {
	options  options
	machine  string
	versions []string
	systems  []string
	began    time.Time
	took     time.Duration

	cells  []*cell
	allocs []allocation
	// rowAllocs are allocations for 1,000 rows, nil when not measured.
	rowAllocs  *float64
	bulks      []*bulk
	idle       []idleMemory
	mixes      []*mixed
	tenants    []*tenancy
	insight    string   // the table of what it costs
	operations string   // the table of them
	faults     []string // of other parts than the matrix
}

func (r *report) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	progress("%s", text)
	r.faults = append(r.faults, text)
}

// write prints the report and, if the options name one, writes the file. Anything that
// failed while measuring is an error.
func (r *report) write(w io.Writer) error {
	text := r.markdown()
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if r.options.out != "" {
		if err := os.WriteFile(r.options.out, []byte(text), 0o644); err != nil {
			return err
		}
		progress("wrote %s", r.options.out)
	}
	if n := len(r.allFaults()); n > 0 {
		return fmt.Errorf("%d measurements failed", n)
	}
	return nil
}

func (r *report) allFaults() []string {
	all := append([]string(nil), r.faults...)
	for _, c := range r.cells {
		for _, f := range c.faults {
			all = append(all, c.String()+": "+f)
		}
	}
	return all
}

// titles names the systems in the order of a table's values: "direct / PgBouncer / pgweir".
func (r *report) titles() string {
	var all []string
	for _, s := range r.systems {
		all = append(all, title(s))
	}
	return strings.Join(all, " / ")
}

// rivals are the systems pgweir's ratios are formed against.
func (r *report) rivals() []string {
	var all []string
	for _, s := range r.systems {
		if (s == pgbouncer || s == base) && r.options.runs(pgweir) {
			all = append(all, s)
		}
	}
	return all
}

// ratioHeads are the headings of ratio columns.
func (r *report) ratioHeads() []string {
	var all []string
	for _, s := range r.rivals() {
		all = append(all, "÷ "+title(s))
	}
	return all
}

// values shows one figure of all systems.
func (r *report) values(of func(system string) []float64, format string) string {
	var all []string
	for _, s := range r.systems {
		all = append(all, show(of(s), format))
	}
	return strings.Join(all, " / ")
}

// ratios shows pgweir's figure divided by each rival's.
func (r *report) ratios(of func(system string) []float64) []string {
	var all []string
	for _, s := range r.rivals() {
		all = append(all, number(medianRatio(of(pgweir), of(s)), "%.2f"))
	}
	return all
}

// show prints the median of the rounds; a dash where none was run.
func show(rounds []float64, format string) string {
	if len(rounds) > 0 && len(known(rounds)) == 0 {
		return "failed"
	}
	return number(median(known(rounds)), format)
}

func number(v float64, format string) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

// table writes a Markdown table.
type table struct{ strings.Builder }

func (t *table) row(cells ...string) {
	t.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func (t *table) head(left int, cells ...string) {
	t.row(cells...)
	for i := range cells {
		if i < left {
			t.WriteString("|---")
		} else {
			t.WriteString("|--:")
		}
	}
	t.WriteString("|\n")
}

// markdown shows the report.
func (r *report) markdown() string {
	parts := []string{
		r.preface(), r.aimsTable(), r.matrixTable(), r.latencyTable(), r.levelsTable(), r.tenantsTable(), r.insight, r.operations, r.bulkTable(), r.idleTable(), r.allocTable(), r.faultList(),
	}
	var b strings.Builder
	for _, p := range parts {
		if p != "" {
			b.WriteString(p + "\n")
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func (r *report) preface() string {
	o := r.options
	var b strings.Builder
	b.WriteString("# Benchmark results\n\n")
	fmt.Fprintf(&b, "Written by `%s` on %s", o.command, r.began.Format("2006-01-02 15:04 MST"))
	if r.took > 0 {
		fmt.Fprintf(&b, ", in %v", r.took.Round(time.Second))
	}
	b.WriteString(". The next full run overwrites this file.\n\n")
	fmt.Fprintf(&b, "- Machine: %s; servers, proxies and load all run on it, over loopback TCP.\n", r.machine)
	fmt.Fprintf(&b, "- Versions: %s; %s.\n", strings.Join(r.versions, "; "), runtime.Version())
	b.WriteString("- Systems: direct is the primary alone; PgBouncer (transaction mode) has the primary alone behind it;\n" +
		"  pgweir has the primary and two replicas, and routes.\n")
	fmt.Fprintf(&b, "- Settings: pools of %d server connections, trust authentication, no TLS, otherwise each proxy's defaults%s;\n"+
		"  PostgreSQL with fsync off, shared_buffers %s, autovacuum off, data %s; pgbench scale %d.\n",
		o.poolSize, r.envText(), serverConf["shared_buffers"], dataPlace(), o.scale)
	fmt.Fprintf(&b, "- Method: rounds: %d, of %d s each, in which the systems take turns, the order rotated; the first %v of a run is not\n"+
		"  counted. A figure is the median of the rounds; a ratio (÷) is pgweir's figure divided by the other's within a\n"+
		"  round, then the median. CPU is user + system of the whole proxy process.\n", o.rounds, o.seconds, warmUp)
	if len(r.systems) > 1 {
		fmt.Fprintf(&b, "- Order of the values in a field: **%s**. A dash: not measured", r.titles())
		b.WriteString(" (PgBouncer before 1.21 cannot pool prepared statements).\n")
	}
	return b.String()
}

func (r *report) envText() string {
	if len(r.options.weirEnv) == 0 {
		return ""
	}
	return " (pgweir with " + strings.Join(r.options.weirEnv, " ") + ")"
}

func dataPlace() string {
	if memoryDir() == "" {
		return "on disk"
	}
	return "in memory"
}

func (r *report) matrixTable() string {
	if len(r.cells) == 0 {
		return ""
	}
	var t table
	t.WriteString("## Throughput, latency, CPU\n\n" +
		"`select` is pgbench -S, one statement; `tpcb` the TPC-B-like transaction of seven, `block` BEGIN, SET LOCAL, SELECT, COMMIT, `string` those four in one string. Latency is of a transaction.\n\n")
	heads := []string{"load", "mode", "clients"}
	for _, h := range []string{"transactions/s", "p50 µs", "p99 µs", "CPU µs/query"} {
		heads = append(append(heads, h), r.ratioHeads()...)
	}
	t.head(2, heads...)
	for _, c := range r.cells {
		row := []string{c.script, c.mode, fmt.Sprint(c.clients)}
		for _, column := range []struct {
			figure func(figures) float64
			format string
			proxy  bool // tells nothing of a system without a proxy
		}{{tps, "%.0f", false}, {p50, "%.0f", false}, {p99, "%.0f", false}, {cost, "%.1f", true}} {
			of := func(system string) []float64 {
				if system == direct && column.proxy {
					return nil
				}
				return c.of(system, column.figure)
			}
			row = append(append(row, r.values(of, column.format)), r.ratios(of)...)
		}
		t.row(row...)
	}
	return t.String()
}

// latencyTable shows what a proxy adds to a transaction of a client that is alone.
func (r *report) latencyTable() string {
	var t table
	heads := []string{"load", "mode"}
	var proxies []string
	for _, s := range r.systems {
		if s != direct {
			proxies, heads = append(proxies, s), append(heads, title(s))
		}
	}
	any := false
	t.WriteString("## Added latency\n\nOne client, p50 of the proxy − p50 direct, in µs for each transaction.\n\n")
	t.head(2, heads...)
	for _, c := range r.cells {
		if c.clients != 1 || !r.options.runs(direct) {
			continue
		}
		any = true
		row := []string{c.script, c.mode}
		for _, s := range proxies {
			row = append(row, number(median(known(minus(c.of(s, p50), c.of(direct, p50)))), "%.0f"))
		}
		t.row(row...)
	}
	if !any {
		return ""
	}
	return t.String()
}

func minus(a, b []float64) []float64 {
	var all []float64
	for i := range min(len(a), len(b)) {
		all = append(all, a[i]-b[i])
	}
	return all
}

func (r *report) bulkTable() string {
	if len(r.bulks) == 0 {
		return ""
	}
	var t table
	t.WriteString("## Large results\n\nOne simple query again and again; MB are 10⁶ bytes on the wire.\n\n")
	heads := append([]string{"result", "clients", "MB/s"}, r.ratioHeads()...)
	t.head(1, append(append(heads, "CPU µs/MB"), r.ratioHeads()...)...)
	for _, b := range r.bulks {
		row := []string{b.name, fmt.Sprint(b.clients)}
		speed := func(s string) []float64 { return b.speed[s] }
		cpu := func(s string) []float64 {
			if s == direct {
				return nil
			}
			return b.cpu[s]
		}
		row = append(append(row, r.values(speed, "%.0f")), r.ratios(speed)...)
		row = append(append(row, r.values(cpu, "%.0f")), r.ratios(cpu)...)
		t.row(row...)
	}
	return t.String()
}

func (r *report) idleTable() string {
	if len(r.idle) == 0 {
		return ""
	}
	var t table
	fmt.Fprintf(&t, "## Memory of idle clients\n\n%d clients of a fresh process; growth of its resident memory, once settled, divided by them.\n\n",
		r.options.idleClients)
	t.head(1, "proxy", "KiB/client after login", "KiB/client after a query each", "process MiB", "growth by kind, per client")
	for _, m := range r.idle {
		t.row(title(m.system), number(m.login/1024, "%.1f"), number(m.query/1024, "%.1f"), number(m.process/(1<<20), "%.1f"), m.parts)
	}
	return t.String()
}

func (r *report) allocTable() string {
	if len(r.allocs) == 0 {
		return ""
	}
	var t table
	t.WriteString("## Allocations and routing\n\nObjects pgweir allocates for a query, and the statements it sent to replicas.\n\n")
	t.head(2, "load", "mode", "clients", "allocations/query", "on replicas, %")
	for _, a := range r.allocs {
		t.row(a.script, a.mode, fmt.Sprint(a.clients), number(a.objects, "%.2f"), number(a.replicas, "%.0f"))
	}
	if r.rowAllocs != nil {
		fmt.Fprintf(&t, "\nFor 1,000 rows of a large result: %.2f.\n", *r.rowAllocs)
	}
	return t.String()
}

func (r *report) faultList() string {
	faults := r.allFaults()
	if len(faults) == 0 {
		return ""
	}
	return "## Failures\n\n- " + strings.Join(faults, "\n- ") + "\n"
}
