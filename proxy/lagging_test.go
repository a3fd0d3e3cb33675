package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// lagging is a cluster whose replicas a test holds up, with proxies in front of it. Such
// tests run beside each other.
type lagging struct {
	*pgtest.Cluster
	config config.Config
}

func newLagging(t *testing.T, setup string, conf map[string]string, change ...func(*config.Config)) *lagging {
	t.Helper()
	t.Parallel()
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2, Conf: conf})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cluster.Exec(ctx, setup); err != nil {
		t.Fatal(err)
	}
	if err := cluster.WaitReplay(ctx); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.HTTP, cfg.Log.Connections = "", false
	for _, s := range cluster.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	cfg.ServerTLS.Mode, cfg.Service.User, cfg.Auth.Method = "disable", pgtest.Superuser, "trust"
	cfg.Tenant.Settings = []string{"app.tenant"}
	cfg.Routing.MonitorInterval = 100 * time.Millisecond
	for _, f := range change {
		f(&cfg)
	}
	return &lagging{cluster, cfg}
}

// proxy starts one more proxy.
func (l *lagging) proxy(t *testing.T) *service {
	t.Helper()
	l.config.Listen = config.Addresses{freeAddress(t)}
	return startConfig(t, l.config)
}

// settle returns when both replicas serve reads, that of the given tables included.
func (l *lagging) settle(t *testing.T, c *watched, reads ...string) {
	t.Helper()
	if err := l.WaitReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, sql := range append(reads, "select 1") {
		until(t, "a replica serves "+sql, func() bool { return c.runs(sql) == "replica" })
	}
}

func (l *lagging) pause(t *testing.T) {
	t.Helper()
	for _, r := range l.Replicas {
		if err := r.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *lagging) resume(t *testing.T) {
	t.Helper()
	for _, r := range l.Replicas {
		if err := r.ResumeReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// watched is a client that is told where its statements run.
type watched struct {
	*pgx.Conn
	t    *testing.T
	role string // where the last statement ran
	why  string
}

// watch opens a session with some of the proxy's settings.
func (s *service) watch(t *testing.T, options ...string) *watched {
	t.Helper()
	c := &watched{t: t}
	host, port, _ := strings.Cut(s.addr, ":")
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres sslmode=disable", host, port))
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["options"] = "-c pgweir.trace=on"
	for _, o := range options {
		cfg.RuntimeParams["options"] += " -c " + o
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if f := strings.Fields(n.Message); len(f) > 3 && f[0] == "pgweir:" {
			c.role, c.why = f[2], f[3]
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.Conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// do runs a statement.
func (c *watched) do(sql string, args ...any) {
	c.t.Helper()
	if _, err := c.Exec(c.t.Context(), sql, args...); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
}

// runs is the kind of server that runs a statement, sent as a simple query.
func (c *watched) runs(sql string) string {
	c.t.Helper()
	c.role = ""
	if _, err := c.PgConn().Exec(c.t.Context(), sql).ReadAll(); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return c.role
}

// value is the only value of a statement's answer.
func (c *watched) value(sql string, args ...any) (v string) {
	c.t.Helper()
	if err := c.QueryRow(c.t.Context(), sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...).Scan(&v); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// line is a network connection to a server that can break on one side only.
type line struct {
	net.Listener
	target string

	mu   sync.Mutex // protects the fields below
	near []net.Conn // of the proxy
	far  []net.Conn // of the server
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{Listener: l, target: target}
	var wg sync.WaitGroup
	wg.Go(func() { n.serve(&wg) })
	t.Cleanup(func() {
		_ = l.Close()
		n.cut()
		n.mu.Lock()
		for _, c := range n.far {
			_ = c.Close()
		}
		n.mu.Unlock()
		wg.Wait()
	})
	return n
}

func (n *line) serve(wg *sync.WaitGroup) {
	for {
		near, err := n.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", n.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		n.mu.Lock()
		n.near, n.far = append(n.near, near), append(n.far, far)
		n.mu.Unlock()
		wg.Go(func() { _, _ = io.Copy(far, near) }) // the server is not told of the end
		wg.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
	}
}

// cut breaks all connections on the proxy's side.
func (n *line) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.near {
		_ = c.Close()
	}
	n.near = nil
}
