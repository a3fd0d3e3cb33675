package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/pgweir/pgweir/internal/pgtest"
)

var record = flag.Bool("record", false, "let TestFaults last a quarter of an hour, and rewrite deploy/prometheus/alerts_test.yaml")

const (
	alertsFile    = "../../deploy/prometheus/alerts.yaml"
	recordedFile  = "../../deploy/prometheus/alerts_test.yaml"
	scrapeSeconds = 5
)

// TestFaults makes the faults that there are alerts for, one after the other, on a real cluster behind the
// real program, and sees in its metrics that each comes and goes. With -record each lasts as long as its alert
// needs, and what the alerts use is recorded, with what must fire when, as promtool test rules reads it; package
// internal/monitoring holds the alerts to that. Without, what was recorded must still be what is exported.
func TestFaults(t *testing.T) {
	f := newFaults(t)
	for _, s := range f.steps() {
		s.do()
		eventually(t, s.name, func() bool { return s.seen(f.scrape()) })
		if *record {
			f.dwell(&s)
		}
	}
	if *record {
		f.write()
		return
	}
	recorded, err := os.ReadFile(recordedFile)
	must(t, err)
	var file recordedSeries
	must(t, yaml.Unmarshal(recorded, &file))
	var missing []string
	defer func() {
		if len(missing) > 0 {
			t.Errorf("recorded, and not exported any more: %s", strings.Join(missing, "\n"))
		}
	}()
	eventually(t, "all that was recorded has been seen", func() bool {
		f.scrape()
		missing = missing[:0]
		for _, s := range file.Input[0].Series {
			if !f.met[s.Series] {
				missing = append(missing, s.Series)
			}
		}
		return len(missing) == 0
	})
}

// step is something that happens, how it shows, and what fires in the end if it lasts for some seconds.
type step struct {
	name   string
	do     func()
	seen   func(scrape) bool
	lasts  int
	alerts []string
}

// scrape is what is exported: values by series.
type scrape map[string]float64

// some reports whether a series that begins so has a value that is wanted.
func (s scrape) some(begin string, want func(float64) bool) bool {
	for series, v := range s {
		if strings.HasPrefix(series, begin) && want(v) {
			return true
		}
	}
	return false
}

func positive(v float64) bool { return v > 0 }

// faults are a cluster and what can be done to it.
type faults struct {
	*generations
	cluster *pgtest.Cluster
	address [2]string // of the proxy, and of its metrics
	dir     string
	process *exec.Cmd
	holder  interface{ Close(context.Context) error }

	wanted *regexp.Regexp // metrics that alerts use
	names  *strings.Replacer
	met    map[string]bool // series
	began  time.Time
	taken  []scrape
	file   recordedSeries
}

func newFaults(t *testing.T) *faults {
	f := &faults{cluster: pgtest.New(t, pgtest.Options{Replicas: 1}), dir: t.TempDir(), met: map[string]bool{}}
	must(t, f.cluster.Exec(t.Context(), "create database app"))
	must(t, f.cluster.Primary.Exec(t.Context(), "app", `create function leaky() returns void language plpgsql as $$ begin execute 'set work_mem = ''7MB'''; end $$`))
	must(t, f.cluster.WaitReplay(t.Context()))
	copy(f.address[:], freeAddresses(t, 2))
	f.generations = newGenerations(t, f.cluster, fmt.Sprintf(`listen: %s
http: %s
tls: {cert_file: %s/cert, key_file: %[3]s/key}
pool: {size: 1, acquire_timeout: 10m}
routing: {monitor_interval: 500ms, safe_functions: [leaky]}
settings: {verify: 1s}
`, f.address[0], f.address[1], f.dir))
	f.faulty.Store(true)
	f.certificate(90)
	rules, err := os.ReadFile(alertsFile)
	must(t, err)
	f.wanted = regexp.MustCompile(strings.Join(slices.Compact(slices.Sorted(slices.Values(regexp.MustCompile(`pgweir_\w+`).FindAllString(string(rules), -1)))), "|"))
	f.names = strings.NewReplacer(f.cluster.Primary.Addr(), "10.0.0.1:5432", f.cluster.Replicas[0].Addr(), "10.0.0.2:5432",
		`"`+pgtest.Superuser+`"`, `"app"`)
	return f
}

// steps are all faults, with quiet between them.
func (f *faults) steps() []step {
	t, ctx, primary, replica := f.t, f.t.Context(), f.cluster.Primary, f.cluster.Replicas[0]
	quiet := func(name string, do func()) step {
		return step{name, do, func(s scrape) bool {
			return s.some("up{", positive) && s.some("pgweir_cluster_has_primary{", positive) && !s.some("pgweir_pool_waiting{", positive) &&
				!s.some("pgweir_config_last_reload_successful{", func(v float64) bool { return v == 0 }) &&
				!s.some("pgweir_replica_staleness_seconds{", func(v float64) bool { return v > 5 }) &&
				!s.some("pgweir_certificate_expiry", func(v float64) bool { return v < float64(time.Now().Add(30*24*time.Hour).Unix()) }) &&
				serving(s) == 2
		}, 20, nil}
	}
	reload := func() { must(t, f.process.Process.Signal(syscall.SIGHUP)) }
	return []step{
		quiet("pgweir runs", func() { f.process = f.start() }),
		{"pgweir is killed", func() { must(t, f.process.Process.Kill()); _ = f.process.Wait() },
			func(s scrape) bool { return !s.some("up{", positive) }, 80, []string{"PgweirDown"}},
		quiet("pgweir runs again", func() { f.process = f.start() }),
		{"the pool is full", f.fillPool, func(s scrape) bool { return s.some("pgweir_pool_waiting{", positive) }, 80, []string{"PgweirPoolFull"}},
		quiet("the pool is not full", func() { must(t, f.holder.Close(ctx)) }),
		{"the replica replays nothing", func() {
			must(t, replica.PauseReplay(ctx))
			must(t, primary.Exec(ctx, "app", "create table unseen ()"))
		}, func(s scrape) bool {
			return s.some("pgweir_replica_staleness_seconds{", func(v float64) bool { return v > 2 })
		}, 80, []string{"PgweirReplicaStale"}},
		quiet("the replica replays", func() { must(t, replica.ResumeReplay(ctx)) }),
		{"the certificate is near its end", func() { f.certificate(3); reload() }, func(s scrape) bool {
			return s.some("pgweir_certificate_expiry", func(v float64) bool { return v < float64(time.Now().Add(4*24*time.Hour).Unix()) })
		}, 15, []string{"PgweirCertificateExpires"}},
		quiet("the certificate is renewed", func() { f.certificate(90); reload() }),
		{"the file is faulty", func() { f.edit("monitor_interval: 500ms", "monitor_interval: soon"); reload() },
			func(s scrape) bool {
				return s.some("pgweir_config_last_reload_successful{", func(v float64) bool { return v == 0 })
			}, 45, []string{"PgweirReloadFailed"}},
		quiet("the file is mended", func() { f.edit("monitor_interval: soon", "monitor_interval: 500ms"); reload() }),
		{"the replica is killed", func() { must(t, replica.Kill()) }, down, 80, []string{"PgweirServerDown"}},
		quiet("the replica is back", func() { must(t, replica.Start(ctx)) }),
		{"the primary is killed", func() { must(t, primary.Kill()) },
			func(s scrape) bool { return !s.some("pgweir_cluster_has_primary{", positive) && down(s) }, 80, []string{"PgweirNoPrimary", "PgweirServerDown"}},
		{"the replica is promoted", func() { must(t, replica.Promote(ctx)) },
			func(s scrape) bool { return s.some("pgweir_cluster_has_primary{", positive) }, 15, []string{"PgweirServerDown"}},
		{"the old primary is back", func() { must(t, primary.Start(ctx)) },
			func(s scrape) bool { return s.state("fenced") }, 45, []string{"PgweirServerNotUsed"}},
		quiet("the old primary is a replica", func() { must(t, primary.Clone(ctx, replica)) }),
		{"a function sets what it should not", func() {
			_, err := clientOf(t, dsn(f.address[0], "app")).Exec(ctx, "select leaky()")
			must(t, err)
		}, func(s scrape) bool {
			return s[`pgweir_verified_connections_total{result="different",instance="pgweir:9930",job="pgweir"}`] > 0
		}, 20, []string{"PgweirLeakFound"}},
	}
}

func (s scrape) state(name string) bool {
	for series, v := range s {
		if strings.HasPrefix(series, "pgweir_server_state{") && strings.Contains(series, `state="`+name+`"`) && v == 1 {
			return true
		}
	}
	return false
}

func down(s scrape) bool { return s.state("down") }

// serving is how many servers are in use.
func serving(s scrape) (n int) {
	for series, v := range s {
		if strings.HasPrefix(series, "pgweir_server_state{") && strings.Contains(series, `state="serving"`) && v == 1 {
			n++
		}
	}
	return n
}

// fillPool has one client hold the only connection there may be, and another one wait for it.
func (f *faults) fillPool() {
	holder, waiter := clientOf(f.t, dsn(f.address[0], "app")), clientOf(f.t, dsn(f.address[0], "app"))
	f.holder = holder
	_, err := holder.Exec(f.t.Context(), "begin; create temp table held ()")
	must(f.t, err)
	go func() {
		_, _ = waiter.Exec(f.t.Context(), "create temp table awaited ()")
		_ = waiter.Close(f.t.Context())
	}()
}

// certificate writes a certificate that is good for so many days.
func (f *faults) certificate(days int) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(f.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(days)), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, days)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(f.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(f.t, err)
	must(f.t, os.WriteFile(filepath.Join(f.dir, "cert"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	must(f.t, os.WriteFile(filepath.Join(f.dir, "key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

var sample = regexp.MustCompile(`(?m)^(pgweir_\w+)(?:\{(.*)\})? (\S+)$`)

// scrape is what Prometheus would scrape of what alerts use, by names that do not change from one test to the next.
func (f *faults) scrape() scrape {
	const target = `instance="pgweir:9930",job="pgweir"}`
	s := scrape{"up{" + target: 0}
	defer func() {
		for series := range s {
			f.met[series] = true
		}
	}()
	answer, err := http.Get("http://" + f.address[1] + "/metrics")
	if err != nil {
		return s
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(answer.Body); err != nil {
		return s
	}
	s["up{"+target] = 1
	for _, m := range sample.FindAllStringSubmatch(text.String(), -1) {
		if f.wanted.FindString(m[1]) != m[1] {
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		must(f.t, err)
		if m[2] != "" {
			m[2] += ","
		}
		s[f.names.Replace(m[1]+"{"+m[2])+target] = math.Round(v*1000) / 1000
	}
	return s
}

// dwell scrapes while a step lasts, and notes what must fire at its end.
func (f *faults) dwell(s *step) {
	if f.began.IsZero() {
		f.began = time.Now().Truncate(time.Second)
		f.file.Input[0].Start = f.began.UTC().Format(time.RFC3339)
	}
	for until := time.Now().Add(time.Duration(s.lasts) * time.Second); time.Now().Before(until); {
		time.Sleep(time.Until(f.began.Add(time.Duration(len(f.taken)) * scrapeSeconds * time.Second)))
		f.taken = append(f.taken, f.scrape())
	}
	check := expectation{
		Expr: `count by (alertname) (ALERTS{alertstate="firing"})`,
		At:   fmt.Sprintf("%ds", (len(f.taken)-1)*scrapeSeconds),
	}
	for _, a := range s.alerts {
		check.Samples = append(check.Samples, expected{fmt.Sprintf("{alertname=%q}", a), 1})
	}
	f.file.Input[0].Checks = append(f.file.Input[0].Checks, check)
	f.file.Input[0].steps = append(f.file.Input[0].steps, s.name)
}

// recordedSeries is a file for promtool test rules.
// https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
type recordedSeries struct {
	Rules    []string      `yaml:"rule_files"`
	Interval string        `yaml:"evaluation_interval"`
	Input    [1]recordings `yaml:"tests"`
}

type recordings struct {
	Start    string `yaml:"start_timestamp"`
	Interval string `yaml:"interval"`
	Series   []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Checks []expectation `yaml:"promql_expr_test"`
	steps  []string      // of the checks
}

type expectation struct {
	Expr    string     `yaml:"expr"`
	At      string     `yaml:"eval_time"`
	Samples []expected `yaml:"exp_samples"`
}

type expected struct {
	Labels string  `yaml:"labels"`
	Value  float64 `yaml:"value"`
}

func (f *faults) write() {
	every := fmt.Sprintf("%ds", scrapeSeconds)
	f.file.Rules, f.file.Interval = []string{"alerts.yaml"}, every
	in := &f.file.Input[0]
	in.Interval = every
	for _, series := range slices.Sorted(maps.Keys(f.met)) {
		in.Series = append(in.Series, struct {
			Series string `yaml:"series"`
			Values string `yaml:"values"`
		}{series, f.values(series)})
	}
	var doc yaml.Node
	must(f.t, doc.Encode(f.file))
	f.comment(&doc)
	var text bytes.Buffer
	text.WriteString("# Recorded from real faults on a real cluster, with what fires at the end of each: go test ./cmd/pgweir -run TestFaults -record\n# Names and addresses are made alike. To be read by promtool test rules.\n")
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	must(f.t, enc.Encode(&doc))
	must(f.t, os.WriteFile(recordedFile, text.Bytes(), 0o644))
}

// comment says of every check at the end of which step it is.
func (f *faults) comment(doc *yaml.Node) {
	test := doc.Content[5].Content[0]
	for i, check := range test.Content[len(test.Content)-1].Content {
		check.HeadComment = "# " + f.file.Input[0].steps[i]
	}
}

// values are a series' in promtool's notation: 1x3 is four times 1, _ is none.
func (f *faults) values(series string) string {
	var out []string
	for i := 0; i < len(f.taken); {
		v, there := f.taken[i][series]
		n := 1
		for ; i+n < len(f.taken); n++ {
			if w, is := f.taken[i+n][series]; w != v || is != there {
				break
			}
		}
		switch text := strconv.FormatFloat(v, 'f', -1, 64); {
		case !there:
			out = append(out, fmt.Sprintf("_x%d", n))
		case n == 1:
			out = append(out, text)
		default:
			out = append(out, fmt.Sprintf("%sx%d", text, n-1))
		}
		i += n
	}
	return strings.Join(out, " ")
}
