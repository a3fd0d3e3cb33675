package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// status is what an HTTP request is answered with.
func status(t *testing.T, url string) int {
	t.Helper()
	answer, err := http.Get(url)
	must(t, err)
	defer answer.Body.Close()
	return answer.StatusCode
}

// TestDrain: a process that is to end says so first, and serves on; then it lets nobody in, and open
// transactions come to their end.
func TestDrain(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	at := freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\ndrain_delay: 2s\n", at[0], at[1]))
	process := g.start()
	g.await("listening")
	ctx, ready, to := t.Context(), "http://"+at[1]+"/readyz", dsn(at[0], "postgres")
	eventually(t, "it is ready", func() bool { return status(t, ready) == http.StatusOK })
	idle, working := clientOf(t, to), clientOf(t, to)
	_, err := working.Exec(ctx, "begin; create temp table x (a int)")
	must(t, err)
	must(t, process.Process.Signal(syscall.SIGTERM))
	began := time.Now()
	eventually(t, "it is not ready", func() bool { return status(t, ready) == http.StatusServiceUnavailable })
	late, err := pgx.Connect(ctx, to)
	must(t, err)
	_, err = late.Exec(ctx, "select 1")
	must(t, err)
	if _, err = idle.Exec(ctx, "select 1"); err != nil && time.Since(began) < 2*time.Second {
		t.Errorf("within drain_delay: %v", err)
	}
	eventually(t, "an idle client is told", func() bool { _, err := idle.Exec(ctx, "select 1"); return code(err) == "57P01" })
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("drain_delay was over after %v", took)
	}
	if _, err := pgx.Connect(ctx, to); err == nil {
		t.Error("a client was let in after drain_delay")
	}
	if status(t, ready) != http.StatusServiceUnavailable {
		t.Error("ready at the end")
	}
	for _, sql := range []string{"insert into x values (1)", "commit"} {
		_, err = working.Exec(ctx, sql)
		must(t, err)
	}
	must(t, process.Wait())
}

// TestReadyWithoutAServer: without an account to ask them with, it is noticed all the same that no server is there.
func TestReadyWithoutAServer(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	at := freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\n", at[0], at[1]))
	g.edit("service: {user: "+pgtest.Superuser+"}\n", "routing: {monitor_interval: 100ms}\n")
	must(t, c.Primary.Stop(pgtest.Fast))
	process := g.start()
	g.await("listening")
	ready := "http://" + at[1] + "/readyz"
	eventually(t, "it is not ready", func() bool { return status(t, ready) == http.StatusServiceUnavailable })
	must(t, c.Primary.Start(t.Context()))
	eventually(t, "it is ready", func() bool { return status(t, ready) == http.StatusOK })
	conn := clientOf(t, dsn(at[0], "postgres"))
	_, err := conn.Exec(t.Context(), "select 1")
	must(t, err)
	must(t, process.Process.Signal(syscall.SIGTERM))
	must(t, process.Wait())
}

// TestReadyWithoutServersFound: a service that has found no server cannot serve.
func TestReadyWithoutServersFound(t *testing.T) {
	at := freeAddresses(t, 2)
	g := newGenerations(t, pgtest.Shared(t), fmt.Sprintf("listen: %s\nhttp: %s\n", at[0], at[1]))
	g.edit("servers: [", "dns: nobody.invalid # [")
	process := g.start()
	g.await("it cannot be found out which servers there are; those known go on")
	eventually(t, "it is not ready", func() bool {
		answer, err := http.Get("http://" + at[1] + "/readyz")
		if err != nil {
			return false // not yet
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusServiceUnavailable
	})
	must(t, process.Process.Signal(syscall.SIGTERM))
	must(t, process.Wait())
}

// TestReadsDuringAnUpgrade: what is committed by way of the process before, reads by way of the new one see, though
// the replica lags; also what was committed just before the old one ended.
func TestReadsDuringAnUpgrade(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	database := c.Database(t)
	must(t, c.Primary.Exec(t.Context(), database, "create table kept (a int)"))
	must(t, c.WaitReplay(t.Context()))
	dir, at := t.TempDir(), freeAddresses(t, 1)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: \"\"\nupgrade: {socket: %s/up}\nrouting: {freshness_wait: 200ms}\n", at[0], dir))
	old := g.start()
	g.await("listening")
	before := clientOf(t, dsn(at[0], database))
	_, err := before.Exec(t.Context(), "insert into kept values (0)")
	must(t, err)
	successor := g.start()
	g.await("took over")
	var trace string
	settings, err := pgx.ParseConfig(dsn(at[0], database))
	must(t, err)
	settings.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { trace = n.Message }
	after, err := pgx.ConnectConfig(t.Context(), settings)
	must(t, err)
	_, err = after.Exec(t.Context(), "set pgweir.trace = on")
	must(t, err)
	eventually(t, "reads run on the replica", func() bool {
		_, err := after.Exec(t.Context(), "select * from kept")
		must(t, err)
		return strings.Contains(trace, " replica ")
	})
	must(t, c.Replicas[0].PauseReplay(t.Context()))
	read := func(conn *pgx.Conn, want int) {
		t.Helper()
		var n int
		must(t, conn.QueryRow(t.Context(), "select count(*) from kept").Scan(&n))
		if n != want {
			t.Errorf("%d rows, want %d", n, want)
		}
	}
	_, err = before.Exec(t.Context(), "insert into kept values (1)")
	must(t, err)
	read(after, 2)
	_, err = before.Exec(t.Context(), "insert into kept values (2)")
	must(t, err)
	before.Close(t.Context())
	must(t, old.Wait())
	eventually(t, "the new one is alone", func() bool { read(after, 3); return len(processSockets(dir)) == 1 })
	for limit := time.Now().Add(3 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		read(after, 3)
	}
	must(t, c.Replicas[0].ResumeReplay(t.Context()))
	after.Close(t.Context())
	must(t, successor.Process.Signal(syscall.SIGTERM))
	must(t, successor.Wait())
}

// TestNobodyReadsTheLog: a reader of the log that has stopped reading holds up neither clients, nor what cleans up behind
// them, nor the end of the service.
func TestNobodyReadsTheLog(t *testing.T) {
	at := freeAddresses(t, 2)
	g := newGenerations(t, pgtest.Shared(t), fmt.Sprintf("listen: %s\nhttp: %s\n", at[0], at[1]))
	g.edit("connections: false", "connections: true, level: debug")
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	_, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
	must(t, err)
	_, err = w.Write(make([]byte, 4096))
	must(t, err)
	g.log = w
	process := g.start()
	page := "http://" + at[1]
	eventually(t, "it serves", func() bool {
		answer, err := http.Get(page + "/readyz")
		if err != nil {
			return false // not yet
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	for range 50 {
		conn, err := pgx.Connect(t.Context(), dsn(at[0], "postgres"))
		must(t, err)
		_, err = conn.Exec(t.Context(), "select 1")
		must(t, err)
		must(t, conn.Close(t.Context()))
	}
	eventually(t, "they have left", func() bool { return strings.Contains(exposition(t, page+"/metrics"), "\npgweir_clients 0\n") })
	must(t, process.Process.Signal(syscall.SIGTERM))
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}
