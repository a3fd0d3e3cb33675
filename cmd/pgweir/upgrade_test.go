package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// generations are processes of the real program that take over from each other, with one log.
type generations struct {
	t      *testing.T
	config string
	log    *os.File // the writing end
	lines  chan logLine
	faulty atomic.Bool // errors are to be expected in the log
}

type logLine struct {
	Level, Msg      string
	PID             int
	Faults, Changed []string
	NeedsRestart    []string `json:"needs_restart"`
}

// newGenerations writes a configuration for a cluster; more is added to it.
func newGenerations(t *testing.T, c *pgtest.Cluster, more string) *generations {
	t.Helper()
	var servers []string
	for _, s := range c.Servers() {
		servers = append(servers, s.Addr())
	}
	path := filepath.Join(t.TempDir(), "pgweir.yaml")
	text := fmt.Sprintf("servers: [%s]\nservice: {user: %s}\nserver_tls: {mode: disable}\nauth: {method: trust}\nlog: {format: json, connections: false}\n%s",
		strings.Join(servers, ", "), pgtest.Superuser, more)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	r, w, err := os.Pipe()
	must(t, err)
	g := &generations{t: t, config: path, log: w, lines: make(chan logLine, 1000)}
	read := make(chan struct{})
	go func() { defer close(read); g.read(r) }()
	t.Cleanup(func() { _ = w.Close(); <-read })
	return g
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read passes the log on, and shows what is wrong in it.
func (g *generations) read(from *os.File) {
	defer from.Close()
	for in := bufio.NewScanner(from); in.Scan(); {
		var l logLine
		if json.Unmarshal(in.Bytes(), &l) != nil || l.Level == "error" && !g.faulty.Load() || strings.Contains(in.Text(), "DATA RACE") {
			g.t.Errorf("logged: %s", in.Text())
		}
		if os.Getenv("PGWEIR_TEST_LOG") != "" {
			fmt.Fprintln(os.Stderr, in.Text())
		}
		select {
		case g.lines <- l:
		default: // nobody has looked for long
		}
	}
}

// edit replaces something in the configuration.
func (g *generations) edit(old, by string) {
	g.t.Helper()
	data, err := os.ReadFile(g.config)
	must(g.t, err)
	if !strings.Contains(string(data), old) {
		g.t.Fatalf("no %q in %s", old, data)
	}
	must(g.t, os.WriteFile(g.config, []byte(strings.Replace(string(data), old, by, 1)), 0o600))
}

// await waits for a line of the log.
func (g *generations) await(message string) logLine {
	g.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case l := <-g.lines:
			if l.Msg == message {
				return l
			}
		case <-limit:
			g.t.Fatalf("%q was not logged", message)
		}
	}
}

// start starts a process by hand, with more in its environment.
func (g *generations) start(env ...string) *exec.Cmd {
	g.t.Helper()
	return g.run(exec.Command(os.Args[0], "serve", "--config", g.config), env...)
}

func (g *generations) run(cmd *exec.Cmd, env ...string) *exec.Cmd {
	g.t.Helper()
	cmd.Env = append(append(os.Environ(), childVariable+"="+realProxy), env...)
	cmd.Stdout, cmd.Stderr = g.log, g.log
	must(g.t, cmd.Start())
	g.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// freeAddresses are addresses of this machine where nobody listens.
func freeAddresses(t *testing.T, n int) (out []string) {
	t.Helper()
	for range n {
		out = append(out, pgtest.FreeAddress(t))
	}
	return out
}

// TestUpgrades: five processes take over one after the other, while clients of all kinds are at work, and none
// of them notices; a cancel request finds its statement, in whichever process it runs, and no other.
func TestUpgrades(t *testing.T) {
	pgtest.SkipShort(t)
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	database := c.Database(t)
	must(t, c.Primary.Exec(t.Context(), database, "create table kept (a int)"))
	dir, at := t.TempDir(), freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf("listen: [%s, '%s:6432']\nhttp: %s\nupgrade: {socket: %s/up}\n", at[0], dir, at[1], dir))
	newest := g.start().Process.Pid
	g.await("listening")
	l := &crowd{t: t, tcp: dsn(at[0], database), unix: fmt.Sprintf("host=%s port=6432 user=%s dbname=%s", dir, pgtest.Superuser, database)}
	l.pgbench(t, "-i", "-q", "-s", "1").wait(t)
	ctx, end := context.WithTimeout(t.Context(), 3*time.Minute)
	defer end()

	const seconds = "600" // unless it is ended
	benches := []*bench{
		l.pgbench(t, "-n", "-T", seconds, "-c", "3"),
		l.pgbench(t, "-n", "-T", seconds, "-c", "2", "-S", "-M", "prepared"),
		l.pgbench(t, "-n", "-T", seconds, "-c", "2", "-S", "-C"),
		l.pgbench(t, "-n", "-T", seconds, "-c", "1", "-C"),
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() { l.bystand(ctx, stop) })
		clients.Go(func() { l.cancel(ctx, stop) })
	}
	clients.Go(func() { l.dial(ctx, stop) })
	clients.Go(func() { l.probe(ctx, "http://"+at[1]+"/readyz", stop) })
	for n := range 5 {
		clients.Go(func() { l.write(ctx, stop) })
		time.Sleep(time.Second)
		if n == 1 { // as another unit of systemd would
			newest = g.start().Process.Pid
		} else {
			must(t, syscall.Kill(newest, syscall.SIGUSR2))
			newest = g.await("started a successor").PID
		}
		g.await("took over")
	}
	time.Sleep(time.Second)
	for _, b := range benches {
		if b.over() {
			t.Error("pgbench was over before the last upgrade")
		}
	}
	close(stop)
	clients.Wait()
	for _, b := range benches {
		b.finish()
		b.wait(t)
	}
	t.Logf("%d new connections, %d statements, %d transactions across an upgrade, %d canceled, %d readyz", l.dials.Load(), l.statements.Load(), l.writes.Load(), l.canceled.Load(), l.ready.Load())
	if l.dials.Load() < 5 || l.writes.Load() < 5 || l.canceled.Load() < 10 {
		t.Error("what was to be tried was not")
	}
	sum, err := c.Primary.Value(ctx, database, "select count(*) from kept")
	if err != nil || sum != fmt.Sprint(3*l.writes.Load()) {
		t.Errorf("%s rows are kept of %d transactions of three, %v", sum, l.writes.Load(), err)
	}
	g.requireOneLeft(dir, newest)
}

// requireOneLeft waits until the processes have ended that were taken over from, and ends the last one.
func (g *generations) requireOneLeft(dir string, newest int) {
	g.t.Helper()
	eventually(g.t, "the processes of before have ended", func() bool { return len(processSockets(dir)) == 1 })
	must(g.t, syscall.Kill(newest, syscall.SIGTERM))
	eventually(g.t, "the last one has ended", func() bool { return len(processSockets(dir)) == 0 })
}

// processSockets are those of the processes that there are.
func processSockets(dir string) []string {
	found, _ := filepath.Glob(dir + "/up.*")
	return found
}

// eventually waits until something has come true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func dsn(address, database string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable", host, port, pgtest.Superuser, database)
}

// crowd is clients of the proxy, and what they saw.
type crowd struct {
	t         *testing.T
	tcp, unix string

	dials, statements, writes, canceled, ready atomic.Int64
}

// either is one of the ways to connect.
func (l *crowd) either() string {
	if rand.IntN(2) == 0 {
		return l.tcp
	}
	return l.unix
}

// connect connects; nil if it fails, which is an error.
func (l *crowd) connect(ctx context.Context) *pgx.Conn {
	conn, err := pgx.Connect(ctx, l.either())
	if err != nil {
		l.t.Errorf("connect: %v", err)
		return nil
	}
	return conn
}

// code is the SQLSTATE of what a server refused.
func code(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// clientOf is a client for the length of a test.
func clientOf(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func over(stop chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// dial connects, asks one thing and leaves, again and again.
func (l *crowd) dial(ctx context.Context, stop chan struct{}) {
	for !over(stop) {
		conn := l.connect(ctx)
		if conn == nil {
			return
		}
		if _, err := conn.Exec(ctx, "select 1"); err != nil {
			l.t.Errorf("a new client: %v", err)
		}
		conn.Close(ctx)
		l.dials.Add(1)
	}
}

// bystand runs statements on one connection, none of which is ever canceled.
func (l *crowd) bystand(ctx context.Context, stop chan struct{}) {
	conn := l.connect(ctx)
	if conn == nil {
		return
	}
	defer conn.Close(ctx)
	for !over(stop) {
		if _, err := conn.Exec(ctx, "select pg_sleep(0.02)"); err != nil {
			l.t.Errorf("a bystander: %v", err)
			return
		}
		l.statements.Add(1)
	}
}

// cancel runs statements on connections that grow old, and cancels each.
func (l *crowd) cancel(ctx context.Context, stop chan struct{}) {
	var conns []*pgx.Conn
	defer func() {
		for _, c := range conns {
			c.Close(ctx)
		}
	}()
	for n := 0; !over(stop); n++ {
		if n%5 == 0 && len(conns) < 12 {
			if conn := l.connect(ctx); conn != nil {
				conns = append(conns, conn)
			}
		}
		if len(conns) == 0 {
			return
		}
		conn := conns[rand.IntN(len(conns))]
		done := make(chan error, 1)
		go func() { _, err := conn.Exec(ctx, "select pg_sleep(20)"); done <- err }()
		time.Sleep(30 * time.Millisecond)
		if err := conn.PgConn().CancelRequest(ctx); err != nil {
			l.t.Errorf("cancel request: %v", err)
		}
		if err := <-done; code(err) != "57014" {
			l.t.Errorf("a canceled statement: %v", err)
			return
		}
		l.canceled.Add(1)
	}
}

// write commits a transaction that lasts across an upgrade.
func (l *crowd) write(ctx context.Context, stop chan struct{}) {
	conn := l.connect(ctx)
	if conn == nil {
		return
	}
	defer conn.Close(ctx)
	for i, sql := range []string{"begin", "insert into kept values (1)", "insert into kept values (2)", "insert into kept values (3)", "commit"} {
		if i > 1 && !over(stop) {
			time.Sleep(time.Second)
		}
		if _, err := conn.Exec(ctx, sql); err != nil {
			l.t.Errorf("a long transaction, %s: %v", sql, err)
			return
		}
	}
	l.writes.Add(1)
}

// probe asks whether the service is ready, as a load balancer does.
func (l *crowd) probe(ctx context.Context, url string, stop chan struct{}) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for ; !over(stop); time.Sleep(10 * time.Millisecond) {
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		answer, err := client.Do(request)
		if err != nil || answer.StatusCode != http.StatusOK {
			l.t.Errorf("readyz: %v, %v", answer, err)
			return
		}
		_ = answer.Body.Close()
		l.ready.Add(1)
	}
}

// bench is one pgbench.
type bench struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan error
}

var failedTransactions = regexp.MustCompile(`number of failed transactions: 0 `)

func (l *crowd) pgbench(t *testing.T, args ...string) *bench {
	t.Helper()
	path, err := exec.LookPath("pgbench")
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
		if len(found) == 0 {
			t.Fatal("pgbench is missing: \"make deps\" installs it")
		}
		path = found[len(found)-1]
	}
	b := &bench{cmd: exec.Command(path, append(args, l.tcp)...), done: make(chan error, 1)}
	b.cmd.Stdout, b.cmd.Stderr = &b.out, &b.out
	must(t, b.cmd.Start())
	go func() { b.done <- b.cmd.Wait() }()
	t.Cleanup(func() { _ = b.cmd.Process.Kill() })
	return b
}

// over reports whether it has ended.
func (b *bench) over() bool { return len(b.done) > 0 }

// finish has it end now as if its time were over: by SIGALRM it learns of that.
func (b *bench) finish() { _ = b.cmd.Process.Signal(syscall.SIGALRM) }

// wait waits for its end. Nothing must have failed.
func (b *bench) wait(t *testing.T) {
	t.Helper()
	err := <-b.done
	initialized := strings.Contains(b.out.String(), "done in")
	if err != nil || !initialized && !failedTransactions.Match(b.out.Bytes()) || strings.Contains(b.out.String(), "aborted") {
		t.Errorf("%v: %v\n%s", b.cmd.Args[1:], err, b.out.String())
	}
}
