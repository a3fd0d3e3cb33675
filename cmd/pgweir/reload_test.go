package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/internal/pgtest"
)

const (
	reloaded    = "configuration reloaded"
	notReloaded = "configuration not reloaded: what was in force stays"
)

// commanded is the output and the exit code of a command.
func commanded(args ...string) (string, int) {
	var out bytes.Buffer
	code := run(args, strings.NewReader(""), &out, &out)
	return out.String(), code
}

// changes waits for a reload and requires what changed by it.
func (g *generations) changes(want ...string) {
	g.t.Helper()
	if got := g.await(reloaded).Changed; fmt.Sprint(got) != fmt.Sprint(want) {
		g.t.Errorf("changed are %q, want %q", got, want)
	}
}

// quiet requires that nothing more is logged of the configuration for longer than files are left alone.
func (g *generations) quiet() {
	g.t.Helper()
	for limit := time.After(1500 * time.Millisecond); ; {
		select {
		case l := <-g.lines:
			if strings.HasPrefix(l.Msg, "configuration") {
				g.t.Errorf("logged: %+v", l)
			}
		case <-limit:
			return
		}
	}
}

// TestReloadOfTheProgram: SIGHUP and the command have a process read its file again. A faulty file
// changes nothing, and every fault is told with its line.
// With TLS and users for HTTP, the program's own commands say who they are; a faulty file is told of.
func TestReloadWithUsers(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{TLS: true})
	cert, key, err := c.ServerCert("elsewhere.example")
	must(t, err)
	web := filepath.Join(t.TempDir(), "web.yml")
	text := fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\nbasic_auth_users: {ops: $2a$04$JoaHbaRzJ/qAXyl2zXrvTOP.wutCBw1BiYhkjOOb1wTR1tR4CB4EG}\n", cert, key)
	must(t, os.WriteFile(web, []byte(text), 0o600))
	at := freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\nhttp_web_config: %s\nmax_clients: 100\n", at[0], at[1], web))
	g.start()
	g.await("listening")
	if out, code := commanded("reload", "--config", g.config); code != exitFailure || !strings.Contains(out, "PGWEIR_HTTP_USER") {
		t.Errorf("reload by nobody: %d, %s", code, out)
	}
	t.Setenv("PGWEIR_HTTP_USER", "ops")
	t.Setenv("PGWEIR_HTTP_PASSWORD", "opensesame")
	g.edit("max_clients: 100", "max_clients: 50")
	if out, code := commanded("reload", "--config", g.config); code != 0 {
		t.Errorf("reload: %d, %s", code, out)
	}
	other, _, err := c.ServerCert("elsewhere.example")
	must(t, err)
	if other != cert {
		must(t, os.WriteFile(web, []byte(strings.Replace(text, cert, other, 1)), 0o600))
		if out, code := commanded("reload", "--config", g.config); code != exitFailure || !strings.Contains(out, "certificate") {
			t.Errorf("reload of who has another certificate: %d, %s", code, out)
		}
	}
	must(t, os.WriteFile(web, []byte("basic_auth_users: {ops: plain}\n"), 0o600))
	if out, code := commanded("check", "--config", g.config); code != exitFailure || !strings.Contains(out, "http_web_config: "+web) {
		t.Errorf("check: %d, %s", code, out)
	}
}

func TestReloadOfTheProgram(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	at := freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\npool:\n  size: 7\nmax_clients: 100\n", at[0], at[1]))
	if out, code := commanded("reload", "--config", g.config); code != exitFailure || !strings.Contains(out, "is pgweir running on this host?") || !strings.Contains(out, "if http was changed") {
		t.Errorf("without a process: %d, %s", code, out)
	}
	process := g.start()
	g.await("listening")
	conn := clientOf(t, dsn(at[0], "postgres"))
	_, err := conn.Exec(t.Context(), "select 1")
	must(t, err)
	sized := func(n int) bool {
		return strings.Contains(page(t, "http://"+at[1]+"/metrics"), fmt.Sprintf("user=\"postgres\"} %d\n", n))
	}
	good, err := os.ReadFile(g.config)
	must(t, err)

	g.faulty.Store(true)
	g.edit("size: 7", "size: many\n  sise: 8")
	g.edit("max_clients: 100", "max_clients: 50\nmax_cliens: 3")
	must(t, process.Process.Signal(syscall.SIGHUP))
	told := g.await(notReloaded).Faults
	for _, want := range []string{"line 9: pool.size", "line 10: pool.sise", "line 12: max_cliens"} {
		if !strings.Contains(strings.Join(told, "\n"), want) {
			t.Errorf("%q tells nothing of %q", told, want)
		}
	}
	out, exit := commanded("reload", "--config", g.config)
	if exit != exitFailure || !strings.Contains(out, "line 9: pool.size") || !strings.Contains(out, "line 12: max_cliens") {
		t.Errorf("reload: %d, %s", exit, out)
	}
	if told := g.await(notReloaded).Faults; !strings.Contains(strings.Join(told, "\n"), "line 9: pool.size") {
		t.Errorf("%q is logged of a faulty file that the command has read again", told)
	}
	must(t, os.WriteFile(g.config, append([]byte("\tno: yaml\n"), good...), 0o600))
	if out, code := commanded("reload", "--config", g.config); code != exitFailure || !strings.Contains(out, "not YAML") || !strings.Contains(out, "send its process SIGHUP") {
		t.Errorf("reload: %d, %s", code, out)
	}
	_, err = conn.Exec(t.Context(), "insert into pg_temp.x values (1)") // it answers as before
	if code := code(err); code != "42P01" && code != "3F000" {
		t.Errorf("told %v", err)
	}
	if !sized(7) || !strings.Contains(page(t, "http://"+at[1]+"/metrics"), "pgweir_config_last_reload_successful 0") {
		t.Error("a faulty file changed something")
	}
	must(t, os.WriteFile(g.config, good, 0o600))

	// What is in order, and not together with what needs a restart, the process tells.
	g.edit("servers: [", "dns: localhost:1\n#")
	if out, code := commanded("reload", "--config", g.config); code != exitFailure || !strings.Contains(out, "needs a restart") {
		t.Errorf("reload: %d, %s", code, out)
	}
	must(t, os.WriteFile(g.config, good, 0o600))
	g.edit("{method: trust}", "{method: scram-sha-256}")
	g.edit("service: {user: postgres}\n", "")
	if out, code := commanded("reload", "--config", g.config); code != exitFailure || !strings.Contains(out, "nobody can log in") {
		t.Errorf("reload: %d, %s", code, out)
	}
	must(t, os.WriteFile(g.config, good, 0o600))
	for range 2 { // of the commands that asked it
		g.await(notReloaded)
	}
	g.faulty.Store(false)

	g.edit("size: 7", "size: 9")
	must(t, process.Process.Signal(syscall.SIGHUP))
	g.changes("pool.size: 7 -> 9")
	eventually(t, "the size is followed", func() bool { return sized(9) })
	g.edit("size: 9", "size: 11")
	g.edit("format: json", "format: console")
	if out, code := commanded("reload", "--config", g.config); code != 0 || !strings.Contains(out, "reloaded") {
		t.Errorf("reload: %d, %s", code, out)
	}
	g.changes("pool.size: 9 -> 11")
	if got := g.await("configuration: a restart is needed for some of what has changed").NeedsRestart; fmt.Sprint(got) != "[log.format: json -> console]" {
		t.Errorf("what needs a restart: %q", got)
	}
	_, err = conn.Exec(t.Context(), "select 1")
	must(t, err)

	answer, err := http.Post("http://"+at[1]+"/reload", "", nil) // as a page of another site could
	must(t, err)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("without the header: %s", answer.Status)
	}
	g.quiet()
}

// page is what is served at an address.
func page(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	must(t, err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	return string(body)
}

// TestReportOfTheProgram: what would have become of statements is printed.
func TestReportOfTheProgram(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	must(t, c.Exec(t.Context(), "create table items (a int)"))
	at := freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\nrouting: {shadow: false, consistency: eventual}\n", at[0], at[1]))
	process := g.start()
	g.await("listening")
	report := func(flags ...string) string {
		t.Helper()
		out, code := commanded(append([]string{"report", "--config", g.config}, flags...)...)
		if code != 0 {
			t.Fatalf("report: %d, %s", code, out)
		}
		return out
	}
	if out := report(); !strings.Contains(out, "nothing was counted yet") {
		t.Error(out)
	}
	conn := clientOf(t, dsn(at[0], "postgres"))
	say := func() {
		for _, sql := range []string{"select * from items where a = 4711", "insert into items values (4711)"} {
			_, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
			must(t, err)
		}
	}
	eventually(t, "the replica is known", func() bool {
		return strings.Contains(page(t, "http://"+at[1]+"/metrics"), `role="replica",server="`+c.Replicas[0].Addr()+`"} 1`)
	})
	say()
	if out := report(); !strings.Contains(out, "nothing was counted yet") {
		t.Error(out)
	}
	g.edit("shadow: false", "shadow: true")
	must(t, process.Process.Signal(syscall.SIGHUP))
	g.changes("routing.shadow: false -> true")
	say()
	eventually(t, "both are counted", func() bool {
		out := report()
		return strings.Contains(out, "replica") && strings.Contains(out, "insert into items values ($1)") && strings.Contains(out, "select * from items where a = $1")
	})
	if out := report("--json"); !strings.Contains(out, `"statements":[{`) && !strings.Contains(out, `"statements": [`) || strings.Contains(out, "4711") {
		t.Error(out)
	}
	if out := report("--top", "1"); strings.Count(out, "$1") != 1 {
		t.Error(out)
	}
}

// TestWatchedFiles: with reload_on_change a process follows its file however it is written, once
// for several changes, and what else lies there changes nothing.
func TestWatchedFiles(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	at := freeAddresses(t, 1)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: ''\nreload_on_change: false\npool: {size: 1}\n", at[0]))
	text, err := os.ReadFile(g.config)
	must(t, err)
	sized := func(n int) []byte {
		return []byte(strings.Replace(string(text), "size: 1", fmt.Sprintf("size: %d", n), 1))
	}

	// As Kubernetes has it: the file is a link into a directory that another link leads to.
	dir := t.TempDir()
	version := func(name string, data []byte) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name, "pgweir.yaml"), data, 0o600))
		must(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", text)
	g.config = filepath.Join(dir, "pgweir.yaml")
	must(t, os.Symlink("..data/pgweir.yaml", g.config))
	process := g.start()
	g.await("listening")
	version("..2", sized(2))
	g.quiet() // nobody asked for it
	text = []byte(strings.Replace(string(text), "reload_on_change: false", "reload_on_change: true", 1))
	version("..3", sized(3))
	must(t, process.Process.Signal(syscall.SIGHUP))
	g.changes("reload_on_change: false -> true", "pool.size: 1 -> 3")
	version("..4", sized(4))
	g.changes("pool.size: 3 -> 4")
	must(t, os.RemoveAll(filepath.Join(dir, "..3")))
	g.quiet()

	// As an editor or a tool of configuration does.
	other := filepath.Join(dir, "new")
	must(t, os.WriteFile(other, sized(5), 0o600))
	must(t, os.Rename(other, g.config))
	g.changes("pool.size: 4 -> 5")
	must(t, os.WriteFile(g.config, sized(6), 0o600))
	g.changes("pool.size: 5 -> 6")
	must(t, os.WriteFile(other, []byte("nothing of ours"), 0o600))
	g.quiet()

	g.faulty.Store(true)
	must(t, os.WriteFile(g.config, append(sized(7), "wrong: 1\n"...), 0o600))
	g.await(notReloaded)
	g.faulty.Store(false)
	must(t, os.WriteFile(g.config, sized(8), 0o600))
	g.changes("pool.size: 6 -> 8")

	// A file that it names, in a directory of its own.
	users := filepath.Join(t.TempDir(), "users")
	must(t, os.WriteFile(users, []byte(`"a" "1"`), 0o600))
	text = []byte(strings.Replace(string(text), "method: trust", "method: trust, user_file: "+users, 1))
	must(t, os.WriteFile(g.config, sized(8), 0o600))
	g.await(reloaded)
	time.Sleep(200 * time.Millisecond) // that its directory is watched
	must(t, os.WriteFile(users, []byte(`"a" "2"`), 0o600))
	if l := g.await(reloaded); len(l.Changed) != 1 || !strings.HasPrefix(l.Changed[0], "auth.user_file: content ") {
		t.Errorf("changed are %q", l.Changed)
	}
}

// TestKeysOfTheProcess: the keys that the process follows, and not the proxy in it.
func TestKeysOfTheProcess(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	at, dir := freeAddresses(t, 2), t.TempDir()
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\nupgrade: {socket: %s/up, timeout: 1h}\ndrain_delay: 0\nshutdown_timeout: 1h\nmax_clients: 100\n", at[0], at[1], dir))
	process := g.start()
	g.await("listening")
	reload := func(old, by string) {
		t.Helper()
		g.edit(old, by)
		if out, code := commanded("reload", "--config", g.config); code != 0 {
			t.Fatal(out)
		}
	}
	busy := func() *pgx.Conn {
		conn := clientOf(t, dsn(at[0], "postgres"))
		_, err := conn.Exec(t.Context(), "begin; create temp table x (a int)")
		must(t, err)
		return conn
	}
	busy()
	reload("json,", "json, level: error,")
	reload("max_clients: 100", "max_clients: 200")
	reload("level: error", "level: info")
	g.changes("log.level: error -> info") // nothing was logged of those before

	reload("timeout: 1h}", "timeout: 1s}")
	reload("shutdown_timeout: 1h", "shutdown_timeout: 1s")
	next := g.start()
	g.await("took over")
	must(t, exited(process, 20*time.Second))

	busy()
	reload("drain_delay: 0", "drain_delay: 1s")
	must(t, next.Process.Signal(syscall.SIGTERM))
	eventually(t, "it is not ready", func() bool { return status(t, "http://"+at[1]+"/readyz") == http.StatusServiceUnavailable })
	late, err := pgx.Connect(t.Context(), dsn(at[0], "postgres"))
	must(t, err)
	_ = late.Close(t.Context())
	must(t, exited(next, 20*time.Second))
}

// exited waits for the end of a process, whatever it is.
func exited(cmd *exec.Cmd, within time.Duration) error {
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(within):
		_ = cmd.Process.Kill()
		<-done
		return fmt.Errorf("it has not ended within %v", within)
	}
}

// TestRetiredProcessKeepsItsConfiguration: a process that was taken over from follows neither a
// signal nor a change of the file.
func TestRetiredProcessKeepsItsConfiguration(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	at, dir := freeAddresses(t, 1), t.TempDir()
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: ''\nupgrade: {socket: %s/up}\nreload_on_change: true\npool: {size: 1}\n", at[0], dir))
	first := g.start()
	g.await("listening")
	conn := clientOf(t, dsn(at[0], "postgres"))
	_, err := conn.Exec(t.Context(), "begin")
	must(t, err)
	second := g.start()
	g.await("took over")
	must(t, first.Process.Signal(syscall.SIGHUP))
	g.quiet()
	g.edit("size: 1", "size: 2")
	g.changes("pool.size: 1 -> 2")
	g.quiet() // it is one process that says so
	must(t, second.Process.Signal(syscall.SIGHUP))
	g.changes()
	_, err = conn.Exec(t.Context(), "commit")
	must(t, err)
	_ = conn.Close(t.Context())
	must(t, exited(first, 20*time.Second))
	if _, err := net.Dial("tcp", at[0]); err != nil {
		t.Error(err)
	}
}
