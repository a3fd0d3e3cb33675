package proxy_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/proxy"
)

// The library of network faults leaves goroutines behind when a connection breaks
// while it holds bytes back: the one that holds them, or the one that hands it more.
func TestMain(m *testing.M) {
	const lib = "github.com/Shopify/toxiproxy/v2"
	goleak.VerifyTestMain(pgtest.Suite(m),
		goleak.IgnoreAnyFunction(lib+"/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction(lib+"/stream.(*ChanWriter).Write"))
}

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

var settled sync.Once

// shared is the cluster of this test binary. Commits in the databases made by
// newDatabase wait until both replicas show them, so that a read never finds a
// replica behind.
func shared(t testing.TB) *pgtest.Cluster {
	t.Helper()
	cluster := pgtest.Shared(t)
	settled.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := cluster.Exec(ctx, "alter system set synchronous_standby_names = 'FIRST 2 (*)'"); err != nil {
			t.Fatal(err)
		}
		if err := cluster.Primary.Reload(ctx); err != nil {
			t.Fatal(err)
		}
	})
	return cluster
}

// newDatabase makes a database for one test, in which sql has been run.
func newDatabase(t testing.TB, sql string) string {
	t.Helper()
	cluster := shared(t)
	name := cluster.Database(t)
	run(t, "postgres", `alter database "`+name+`" set synchronous_commit = remote_apply`)
	if sql != "" {
		run(t, name, sql)
	}
	return name
}

// run runs SQL on the primary, past the proxy, and waits for the replicas.
func run(t testing.TB, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cluster := shared(t)
	if err := cluster.Primary.Exec(ctx, database, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if err := cluster.WaitReplay(ctx); err != nil {
		t.Fatal(err)
	}
}

// service is a proxy in front of the shared cluster.
type service struct {
	*proxy.Server
	addr    string // host:port
	reg     *registry
	logs    *observer.ObservedLogs // warnings and errors
	refuses bool                   // servers of the test may refuse what sessions set
}

// start runs a proxy for the length of a test and returns when it knows all
// servers. Every client is trusted.
func start(t testing.TB, change ...func(*config.Config)) *service {
	t.Helper()
	cfg := baseConfig(t)
	for _, f := range change {
		f(&cfg)
	}
	return startConfig(t, cfg)
}

// baseConfig is a configuration for the shared cluster.
func baseConfig(t testing.TB) config.Config {
	t.Helper()
	cluster := shared(t)
	cfg := config.Default()
	cfg.Listen = config.Addresses{pgtest.FreeAddress(t)}
	cfg.HTTP = ""
	for _, s := range cluster.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	cfg.ServerTLS.Mode = "disable"
	cfg.Service.User = pgtest.Superuser
	cfg.Auth.Method = "trust"
	cfg.Routing.MonitorInterval = 200 * time.Millisecond
	cfg.Log.Connections = false
	cfg.Settings.VerifyReleases = true // and a difference fails the test, see stop
	return cfg
}

// startConfig is start with a configuration of the caller's own.
func startConfig(t testing.TB, cfg config.Config) *service {
	t.Helper()
	s := launch(t, cfg)
	servers := len(cfg.Servers)
	for _, c := range cfg.Clusters {
		servers += len(c.Servers)
	}
	until(t, "all servers are up", func() bool { return s.metric(t, "pgweir_server_up") == float64(servers) })
	return s
}

// launch runs a proxy for the length of a test, whatever it knows.
func launch(t testing.TB, cfg config.Config) *service {
	t.Helper()
	return launchLogging(t, cfg, testLog(t))
}

func launchLogging(t testing.TB, cfg config.Config, log *zap.Logger) *service {
	t.Helper()
	reg := newRegistry()
	core, logs := observer.New(zap.WarnLevel)
	log = log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, core) }))
	server, err := proxy.New(cfg.Complete(), log, reg)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		server.Close()
		t.Fatal(err)
	}
	s := &service{Server: server, addr: server.Addrs()[0].String(), reg: reg, logs: logs}
	t.Cleanup(func() {
		server.Close()
		if n := s.metric(t, "pgweir_pool_refused_total"); n != 0 {
			var why []string
			for _, e := range logs.FilterMessageSnippet("not at rest").All() {
				why = append(why, fmt.Sprint(e.ContextMap()))
			}
			t.Errorf("%v connections were given back that were not at rest: %s", n, strings.Join(why, "; "))
		}
		for _, e := range logs.FilterMessageSnippet("could not take over").All() {
			if code := fmt.Sprint(e.ContextMap()["sqlstate"]); !s.refuses && len(code) == 5 && slices.Contains([]string{"0A", "22", "34", "42"}, code[:2]) { // what the proxy said is wrong, not the server's state
				t.Errorf("%s: %v", e.Message, e.ContextMap())
			}
		}
	})
	return s
}

func freeAddress(t testing.TB) string { t.Helper(); return pgtest.FreeAddress(t) }

// testLog writes what the proxy logs to standard error if PGWEIR_TEST_LOG is set.
func testLog(t testing.TB) *zap.Logger {
	if os.Getenv("PGWEIR_TEST_LOG") == "" {
		return zap.NewNop()
	}
	enc := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(os.Stderr), zap.DebugLevel)).Named(t.Name())
}

// until asks again and again whether something has come true.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	pgtest.Until(t, patience, what, done)
}

// metric is the sum of a metric's values over all series that have the labels,
// each given as name=value.
func (s *service) metric(t testing.TB, name string, labels ...string) (sum float64) {
	t.Helper()
	found := make(chan prometheus.Metric, 64)
	go func() {
		defer close(found)
		for _, c := range s.reg.collectors {
			c.Collect(found)
		}
	}()
	for m := range found {
		if nameOf(m.Desc()) != name {
			continue
		}
		var told dto.Metric
		if err := m.Write(&told); err != nil {
			t.Error(err)
		}
		has := map[string]bool{}
		for _, l := range told.GetLabel() {
			has[l.GetName()+"="+l.GetValue()] = true
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !has[l] }) {
			sum += told.GetCounter().GetValue() + told.GetGauge().GetValue()
		}
	}
	return sum
}

var metricNames sync.Map // of metrics, by description

func nameOf(d *prometheus.Desc) string {
	name, known := metricNames.Load(d)
	if !known {
		_, text, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ = strings.Cut(text, `"`)
		metricNames.Store(d, name)
	}
	return name.(string)
}

// registry keeps what is registered, to ask for one metric without the cost of all.
type registry struct {
	*prometheus.Registry
	collectors []prometheus.Collector
}

func newRegistry() *registry { return &registry{Registry: prometheus.NewRegistry()} }

func (r *registry) Register(c prometheus.Collector) error {
	r.collectors = append(r.collectors, c)
	return r.Registry.Register(c)
}

// dsn is how clients connect to the proxy.
func (s *service) dsn(database string, more ...string) string {
	host, port, _ := strings.Cut(s.addr, ":")
	return fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable %s", host, port, pgtest.Superuser, database, strings.Join(more, " "))
}

// connect is a client of the proxy for the length of a test.
func (s *service) connect(t testing.TB, database string, more ...string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn(database, more...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// poolSize bounds the connections of every pool.
func poolSize(n int) func(*config.Config) {
	return func(c *config.Config) { c.Pool.Size = n }
}

// maxStatements bounds the prepared statements of every server connection.
func maxStatements(n int) func(*config.Config) {
	return func(c *config.Config) { c.Pool.MaxStatements = n }
}

// eventual lets reads go to replicas whatever was written before them. They miss
// nothing all the same: see shared.
func eventual(c *config.Config) { c.Routing.Consistency = "eventual" }
