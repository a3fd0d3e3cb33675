package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// manager is told by processes what they tell systemd.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, conn}
}

func (m *manager) env() string { return "NOTIFY_SOCKET=" + m.conn.LocalAddr().String() }

// await waits for a message that begins so, and returns it.
func (m *manager) await(begin string) string {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		b := make([]byte, 500)
		n, err := m.conn.Read(b)
		if err != nil {
			m.t.Fatalf("%q: %v", begin, err)
		}
		if strings.HasPrefix(string(b[:n]), begin) {
			return string(b[:n])
		}
	}
}

// activated starts a process as systemd starts one with sockets.
func (g *generations) activated(listeners []*net.TCPListener, env ...string) *exec.Cmd {
	g.t.Helper()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, os.Args[0], g.config)
	for _, l := range listeners {
		f, err := l.File()
		must(g.t, err)
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	return g.run(cmd, append(env, fmt.Sprintf("LISTEN_FDS=%d", len(listeners)))...)
}

// TestSystemd: a process is restarted while its sockets stay: nobody is refused. The service manager
// is told what it wants to know.
func TestSystemd(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	at := freeAddresses(t, 3)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\nshutdown_timeout: 5s\n", at[0], at[1]))
	var listeners []*net.TCPListener
	for _, address := range at[:2] {
		l, err := net.Listen("tcp", address)
		must(t, err)
		defer l.Close()
		listeners = append(listeners, l.(*net.TCPListener))
	}
	m := newManager(t)
	first := g.activated(listeners, m.env(), "WATCHDOG_USEC=3000000")
	m.await("READY=1")
	m.await("WATCHDOG=1")
	m.await("WATCHDOG=1")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !over(stop) {
				conn, err := pgx.Connect(ctx, dsn(at[0], "postgres"))
				if err != nil {
					// One that had connected already may be told.
					if !strings.Contains(err.Error(), "57P0") {
						t.Errorf("a client at a restart: %v", err)
					}
					continue
				}
				conn.Close(ctx)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	must(t, first.Process.Signal(syscall.SIGTERM))
	m.await("STOPPING=1")
	must(t, first.Wait())
	second := g.activated(listeners, m.env())
	m.await("READY=1")
	time.Sleep(300 * time.Millisecond)
	close(stop)
	clients.Wait()
	must(t, second.Process.Signal(syscall.SIGTERM))
	must(t, second.Wait())

	stray, err := net.Listen("tcp", at[2])
	must(t, err)
	defer stray.Close()
	out := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, os.Args[0], g.config)
	f, err := stray.(*net.TCPListener).File()
	must(t, err)
	defer f.Close()
	out.ExtraFiles, out.Env = []*os.File{f}, append(os.Environ(), childVariable+"="+realProxy, "LISTEN_FDS=1")
	said, err := out.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "systemd passed a socket for "+at[2]+", which neither listen nor http names") {
		t.Errorf("a socket for nothing: %v, %s", err, said)
	}
}

// TestUpgradeUnderSystemd: the service manager follows to the successor.
func TestUpgradeUnderSystemd(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	dir, at := t.TempDir(), freeAddresses(t, 1)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: \"\"\nupgrade: {socket: %s/up, timeout: 1s}\n", at[0], dir))
	m := newManager(t)
	first := g.start(m.env())
	m.await("READY=1")
	idle := clientOf(t, dsn(at[0], "postgres"))
	must(t, first.Process.Signal(syscall.SIGUSR2))
	successor := g.await("started a successor").PID
	if got := m.await("MAINPID="); got != fmt.Sprintf("MAINPID=%d\nREADY=1", successor) {
		t.Errorf("told %q of %d", got, successor)
	}
	must(t, first.Wait()) // upgrade.timeout has passed
	if _, err := idle.Exec(t.Context(), "select 1"); code(err) != "57P01" {
		t.Errorf("a client that stayed too long: %v", err)
	}
	g.requireOneLeft(dir, successor)
}

// TestFailedUpgrade: a successor that cannot serve takes nothing over.
func TestFailedUpgrade(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	dir, at := t.TempDir(), freeAddresses(t, 2)
	taken, err := net.Listen("tcp", at[1])
	must(t, err)
	defer taken.Close()
	text := fmt.Sprintf("listen: %s\nhttp: \"\"\nupgrade: {socket: %s/up}\n", at[0], dir)
	g := newGenerations(t, c, text)
	first := g.start()
	g.await("listening")
	g.edit("listen: "+at[0], "listen: ["+at[1]+", "+at[0]+"]")
	second := exec.Command(os.Args[0], "serve", "--config", g.config)
	second.Env = append(os.Environ(), childVariable+"="+realProxy)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another process listens there") {
		t.Errorf("%v: %s", err, out)
	}
	conn, err := pgx.Connect(t.Context(), dsn(at[0], "postgres"))
	must(t, err)
	conn.Close(t.Context())
	must(t, first.Process.Signal(syscall.SIGTERM))
	must(t, first.Wait())
}

// TestReusePort: of processes that share an address, each finds the other's statements to cancel.
func TestReusePort(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	dir, at := t.TempDir(), freeAddresses(t, 1)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: \"\"\nreuse_port: true\nupgrade: {socket: %s/up}\n", at[0], dir))
	var processes []*exec.Cmd
	for range 2 {
		processes = append(processes, g.start())
		g.await("listening")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 30 {
		conn, err := pgx.Connect(ctx, dsn(at[0], "postgres"))
		must(t, err)
		done := make(chan error, 1)
		go func() { _, err := conn.Exec(ctx, "select pg_sleep(20)"); done <- err }()
		time.Sleep(20 * time.Millisecond)
		must(t, conn.PgConn().CancelRequest(ctx))
		if err := <-done; code(err) != "57014" {
			t.Fatalf("a canceled statement: %v", err)
		}
		conn.Close(ctx)
	}
	for _, p := range processes {
		must(t, p.Process.Signal(syscall.SIGTERM))
		must(t, p.Wait())
	}
}
