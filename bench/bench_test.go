package main

import (
	"bufio"
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestRotate(t *testing.T) {
	for round, want := range []string{"abc", "bca", "cab", "abc"} {
		if got := strings.Join(rotate([]string{"a", "b", "c"}, round), ""); got != want {
			t.Errorf("round %d: %s, want %s", round, got, want)
		}
	}
	if got := rotate([]string(nil), 1); got != nil {
		t.Errorf("rotate of nothing = %v", got)
	}
}

func TestPoolsPrepared(t *testing.T) {
	for version, want := range map[string]bool{
		"PgBouncer 1.18.0": false, "PgBouncer 1.20.1": false, "PgBouncer 1.21.0": true,
		"PgBouncer 1.25.2": true, "PgBouncer 2.0": true, "something else": false,
	} {
		if got := poolsPrepared(version); got != want {
			t.Errorf("%s: %v, want %v", version, got, want)
		}
	}
}

func TestFindMetric(t *testing.T) {
	const page = `# TYPE go_memstats_mallocs_total counter
go_memstats_mallocs_total 1.8104e+06
pgweir_clients{state="idle"} 7
go_memstats_mallocs 3
`
	if got, err := findMetric(page, "go_memstats_mallocs_total"); err != nil || got != 1810400 {
		t.Errorf("got %v, %v; want 1810400", got, err)
	}
	if _, err := findMetric(page, "pgweir_clients"); err == nil {
		t.Error("a metric with labels passes for one without")
	}
}

func TestShareOfReplicas(t *testing.T) {
	const page = `# TYPE pgweir_statements_total counter
pgweir_statements_total{class="read",reason="read",target="replica"} 30
pgweir_statements_total{class="read",reason="hint",target="replica"} 15
pgweir_statements_total{class="write",reason="write",target="primary"} 5
pgweir_statements_total_other{target="replica"} 1000
`
	sums := sumBy(page, "pgweir_statements_total", "target")
	if want := map[string]float64{"replica": 45, "primary": 5}; !reflect.DeepEqual(sums, want) {
		t.Errorf("got %v, want %v", sums, want)
	}
	if got := share(map[string]float64{"replica": 30}, sums, "replica"); got != 75 {
		t.Errorf("share of replicas %v, want 75", got)
	}
}

func TestParseRollup(t *testing.T) {
	const text = "55d0-7ffe ---p 00000000 00:00 0    [rollup]\nRss:                1812 kB\nPss:                 700 kB\n"
	if got, err := parseRollup([]byte(text)); err != nil || got != 1812*1024 {
		t.Errorf("got %v, %v; want %v", got, err, 1812*1024)
	}
	if _, err := parseRollup([]byte("Pss: 700 kB\n")); err == nil {
		t.Error("no error without Rss")
	}
}

// TestOwnProbes reads the probes on this process.
func TestOwnProbes(t *testing.T) {
	cpu := cpuOf(os.Getpid())
	before, err := cpu(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	after := before
	for after < before+1000 { // the loop itself takes the time it waits for
		if after, err = cpu(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if rss, err := resident(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("resident size %v, %v", rss, err)
	}
}

// TestChain: the time of children counts, also once they are gone.
func TestChain(t *testing.T) {
	chain := chainOf(os.Getpid())
	child := exec.Command("sh", "-c", "while :; do :; done")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	first, err := chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for at := first; err == nil && at < first+20000; {
		at, err = chain(t.Context())
	}
	seen, _ := cpuOf(child.Process.Pid)(t.Context())
	if err := errors.Join(child.Process.Kill(), err); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	own, _ := cpuOf(os.Getpid())(t.Context())
	if last, err := chain(t.Context()); err != nil || last < own+seen/2 {
		t.Errorf("%v, %v; want at least %v with the child's %v", last, err, own, seen)
	}
}

func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	n := 0.0
	got, err := watch(ctx, 1, func(context.Context) (float64, error) {
		if n++; n == 3 {
			cancel() // a reading that was cut off does not count
		}
		return n, nil
	})
	if err != nil || len(got) != 2 || got[1].value != 2 {
		t.Errorf("got %v, %v; want two readings", got, err)
	}
	broken := errors.New("broken")
	if _, err := watch(context.Background(), 1, func(context.Context) (float64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

// frame builds a backend message.
func frame(kind byte, body string) string {
	n := len(body) + 4
	return string([]byte{kind, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + body
}

func TestDrain(t *testing.T) {
	answer := frame('T', "\x00\x00") + frame('D', strings.Repeat("x", 100)) + frame('C', "SELECT 1\x00") + frame('Z', "I")
	for name, c := range map[string]struct {
		text string
		size int64
		ok   bool
	}{
		"rows":    {answer, int64(len(answer)), true},
		"no rows": {frame('C', "SELECT 0\x00") + frame('Z', "I"), 20, false},
		"error":   {frame('E', "SERROR\x00\x00") + frame('Z', "I"), 0, false},
		"cut":     {answer[:40], 7, false},
	} {
		r := bufio.NewReader(iotest.OneByteReader(strings.NewReader(c.text + "more")))
		if name == "cut" {
			r = bufio.NewReader(strings.NewReader(c.text))
		}
		if size, err := drain(r); size != c.size || (err == nil) != c.ok {
			t.Errorf("%s: %d, %v; want %d, ok %v", name, size, err, c.size, c.ok)
		}
	}
}

func TestHeapParts(t *testing.T) {
	if got, want := heapParts([]float64{1024, 0}, []float64{11264, 20480}, 10), "(heap 1.0 KiB, stacks 2.0 KiB)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := heapParts(nil, nil, 10); got != "" {
		t.Errorf("got %q of a process that tells nothing", got)
	}
}

func TestMatrix(t *testing.T) {
	o := options{loads: []string{"select", "tpcb"}, modes: []string{"simple"}}
	want := []load{{script: "select", mode: "simple", clients: 1}, {script: "select", mode: "simple", clients: 8}, {script: "tpcb", mode: "simple", clients: 1}, {script: "tpcb", mode: "simple", clients: 8}}
	if got := o.matrixOf([]int{1, 8}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// sample is a cell of two rounds; PgBouncer failed in the second.
func sample() *cell {
	return &cell{
		load: load{script: "select", mode: "simple", clients: 1},
		samples: map[string][]figures{
			direct:    {{tps: 30000, p50: 50, p99: 90}, {tps: 20000, p50: 60, p99: 110}},
			pgbouncer: {{tps: 10000, p50: 80, p99: 150, cost: 10}, failedRun},
			pgweir:    {{tps: 9000, p50: 90, p99: 160, cost: 12}, {tps: 7000, p50: 110, p99: 180, cost: 16}},
		},
		faults: []string{"pgbouncer, round 2: gone"},
	}
}

func TestReport(t *testing.T) {
	r := report{
		options: options{rounds: 2, seconds: 3, systems: []string{direct, pgbouncer, pgweir}, command: "go run ./bench"},
		systems: []string{direct, pgbouncer, pgweir},
		cells:   []*cell{sample()},
		idle:    []idleMemory{{pgweir, 9 * 1024, 11 * 1024, 40 << 20, ""}},
		mixes: []*mixed{
			{90, "", []figures{{tps: 1000, p50: 50, p99: 90}, {tps: 3000, p50: 60, p99: 110}}, []float64{math.NaN(), math.NaN()}},
			{90, "strong", []figures{{tps: 900, p50: 70, p99: 95}, failedRun}, []float64{80, math.NaN()}},
		},
		tenants: []*tenancy{
			{eachTransaction, guarded{system: &system{name: pgbouncer}}, []figures{{tps: 100, p50: 60, p99: 90, cost: 50}}, []float64{math.NaN()}},
			{eachTransaction, guarded{system: &system{name: pgweir}}, []figures{{tps: 200, p50: 50, p99: 80, cost: 100}}, []float64{30}},
			{eachTransaction, guarded{&system{name: pgweir}, true, false}, []figures{{tps: 190, p50: 60, p99: 88, cost: 105}}, []float64{40}},
		},
	}
	var counted []*counting
	for i, cost := range []float64{20, 20.1, 20.1, 20.5} {
		counted = append(counted, &counting{script: oneStatement, mode: "simple", way: insightLines[i].name, samples: []figures{{tps: 100, p50: 50, p99: 80, cost: cost}}, objects: []float64{0.05}, plans: float64(i)})
	}
	r.insight = insightTable(counted)
	text := r.markdown()
	for _, line := range []string{
		"| one statement | simple | off | 100 | 20.00 | – | 50 | – | 80 | – | 0.05 | 0 |",
		"| one statement | simple | on, with plans | 100 | 20.50 | 1.025 | 50 | 1.000 | 80 | 1.000 | 0.05 | 3 |",
		"| select | simple | 1 | 25000 / 10000 / 8000 | 0.90 | 55 / 80 / 100 | 1.12 | 100 / 150 / 170 | 1.07 | – / 10.0 / 14.0 | 1.20 |",
		"| load | mode | PgBouncer | pgweir |",
		"| select | simple | 30 | 45 |", // added latency: median of each round's difference
		"| 90/10 | direct | 2000 | – | 55 | 100 | – |",
		"| 90/10 | strong | 900 | 0.90 | 70 | 95 | 80 |",
		"| transaction | PgBouncer | – | – | 100 | 60 | 1.20 | 90 | 1.12 | 50.0 | 0.50 | – | – |",
		"| transaction | pgweir | off | off | 200 | 50 | – | 80 | – | 100.0 | – | 2.00 | 30 |",
		"| transaction | pgweir | on | off | 190 | 60 | 1.20 | 88 | 1.10 | 105.0 | 1.05 | 2.10 | 40 |",
		"| memory of an idle client, KiB | 10 | 11.0 | **missed** |",
		"- select simple, 1 client: pgbouncer, round 2: gone",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the report lacks the line\n%s\n%s", line, text)
		}
	}
	if strings.Contains(text, "Allocations") {
		t.Errorf("the report shows what was not measured:\n%s", text)
	}
	if err := r.write(&strings.Builder{}); err == nil {
		t.Error("a failed measurement is no error")
	}
}

func TestShow(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		rounds []float64
		want   string
	}{{nil, "–"}, {[]float64{nan, nan}, "failed"}, {[]float64{nan, 3}, "3.0"}} {
		if got := show(c.rounds, "%.1f"); got != c.want {
			t.Errorf("show(%v) = %q, want %q", c.rounds, got, c.want)
		}
	}
}
