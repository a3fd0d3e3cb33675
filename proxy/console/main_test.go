package console_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// service is a proxy with a console, in front of the cluster of this test binary.
type service struct {
	*serve.Running
	host, port string
	http       string
	logs       *observer.ObservedLogs
	db         string
	ended      chan struct{}          // closed once the service has stopped
	file       config.Config          // what Reload reads
	traced     atomic.Pointer[string] // where a statement ran that was traced last
}

// start runs a proxy for the length of a test. Users: boss may command, watcher may look.
func start(t *testing.T, change ...func(*config.Config)) *service {
	t.Helper()
	cluster := pgtest.Shared(t)
	cfg := config.Default()
	cfg.Listen, cfg.HTTP = config.Addresses{pgtest.FreeAddress(t)}, pgtest.FreeAddress(t)
	for _, s := range cluster.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	cfg.ServerTLS.Mode = "disable"
	cfg.Service.User = pgtest.Superuser
	cfg.Auth.Method = "trust"
	cfg.Routing.MonitorInterval = 200 * time.Millisecond
	cfg.Settings.VerifyReleases = true
	cfg.Console = config.Console{AdminUsers: []string{"boss"}, StatsUsers: []string{"watcher"}}
	cfg.Users = map[string]config.User{"boss": {Password: "secret"}, "watcher": {Password: "secret"}}
	s := &service{db: cluster.Database(t), ended: make(chan struct{})}
	for _, f := range change {
		f(&cfg)
	}
	cfg = cfg.Complete()
	s.file, s.http = cfg, cfg.HTTP
	require.Empty(t, cfg.Validate())
	s.host, s.port, _ = net.SplitHostPort(cfg.Listen[0])
	core, logs := observer.New(zap.InfoLevel)
	s.logs = logs
	var err error
	s.Running, err = serve.Start(t.Context(), cfg, zap.New(core), serve.Options{Version: "1.2", Load: func() (config.Config, error) { return s.file, nil }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(s.ended)
		s.Wait(ctx)
		_ = s.Stop(context.Background())
	}()
	t.Cleanup(func() { cancel(); <-s.ended })
	until(t, "all servers are up", func() bool { return s.metric(t, "pgweir_server_up") == float64(len(cluster.Servers())) })
	return s
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	pgtest.Until(t, patience, what, done)
}

func (s *service) dsn(user, database string, more ...string) string {
	return fmt.Sprintf("host=%s port=%s user=%s password=secret dbname=%s sslmode=disable %s", s.host, s.port, user, database, strings.Join(more, " "))
}

// client is a client of a database for the length of a test.
func (s *service) client(t *testing.T, more ...string) *pgx.Conn {
	t.Helper()
	return s.connect(t, pgtest.Superuser, s.db, more...)
}

func (s *service) connect(t *testing.T, user, database string, more ...string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg, err := pgx.ParseConfig(s.dsn(user, database, more...))
	require.NoError(t, err)
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if words := strings.Fields(n.Message); len(words) > 1 && words[0] == "pgweir:" {
			s.traced.Store(&words[1])
		}
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// admin is a session of the console that may command.
func (s *service) admin(t *testing.T) *pgx.Conn {
	t.Helper()
	return s.connect(t, "boss", "pgweir")
}

// bounded is a context that ends when the test should have.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// show is the answer to a SHOW: a row each, by column.
func show(t *testing.T, conn *pgx.Conn, what string) []map[string]any {
	t.Helper()
	rows, err := conn.Query(bounded(t), "SHOW "+what)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToMap)
	require.NoError(t, err)
	return all
}

// of are the rows with a value in a column.
func of(rows []map[string]any, column string, value any) (found []map[string]any) {
	for _, r := range rows {
		if r[column] == value {
			found = append(found, r)
		}
	}
	return found
}

func command(t *testing.T, conn *pgx.Conn, text string) {
	t.Helper()
	_, err := conn.Exec(bounded(t), text)
	require.NoError(t, err, text)
}

// metric is the sum of a metric over the series that have the labels, each as name=value.
func (s *service) metric(t *testing.T, name string, labels ...string) (sum float64) {
	t.Helper()
	for line := range strings.Lines(get("http://" + s.http + "/metrics")) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		of, given, labelled := strings.Cut(series, "{")
		if !labelled {
			of, value, _ = strings.Cut(series, " ")
		}
		matches := of == name
		for _, l := range labels {
			key, v, _ := strings.Cut(l, "=")
			matches = matches && strings.Contains(given, fmt.Sprintf("%s=%q", key, v))
		}
		if matches {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err, line)
			sum += n
		}
	}
	return sum
}

// get is what an address answers, empty if it does not.
func get(url string) string {
	r, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer func() { _ = r.Body.Close() }()
	text, _ := io.ReadAll(r.Body)
	return string(text)
}
