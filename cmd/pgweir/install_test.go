package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// installPage are the blocks of docs/install.md: what is typed and written, in order.
func installPage(t *testing.T) (blocks [][2]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/install.md")
	must(t, err)
	for _, m := range regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, [2]string{m[1], m[2]})
	}
	return blocks
}

// machine is a scratch directory that takes the place of the machine's own for an installation.
type machine struct {
	t        *testing.T
	dir      string
	replacer *strings.Replacer
	env      []string
}

// run runs commands of the page, and returns what they print.
func (m *machine) run(commands string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-euc", m.replacer.Replace(commands))
	cmd.Dir, cmd.Env = m.dir, m.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v of\n%s\n%s", err, commands, out)
	}
	return string(out)
}

// program puts a program on the machine's path.
func (m *machine) program(name, text string) {
	m.t.Helper()
	must(m.t, os.MkdirAll(filepath.Join(m.dir, "bin"), 0o755))
	must(m.t, os.WriteFile(filepath.Join(m.dir, "bin", name), []byte("#!/bin/sh\n"+text), 0o755))
}

// TestInstallPage does what docs/install.md says, with real servers, up to users and systemd: what is put
// into place is put into a scratch directory.
func TestInstallPage(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 2, HBA: []string{"local all all trust", "host all postgres all trust", "host all all all scram-sha-256", "host replication all all trust"}})
	at, dir := freeAddresses(t, 2), t.TempDir()
	port := func(address string) string { _, p, _ := strings.Cut(address, ":"); return p }
	m := &machine{t: t, dir: dir, replacer: strings.NewReplacer(
		"host=db1", "host=127.0.0.1 port="+port(c.Primary.Addr()), "db1:5432", c.Primary.Addr(), "db2:5432", c.Replicas[0].Addr(), "db3:5432", c.Replicas[1].Addr(),
		"127.0.0.1:6432 ", at[0]+" ", "port=6432", "port="+port(at[0]), "127.0.0.1:9930", at[1],
		"/run/pgweir", dir+"/run/pgweir", "/usr/local", dir+"/usr/local", "/etc/", dir+"/etc/",
	)}
	self, err := filepath.Abs(os.Args[0])
	must(t, err)
	m.env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), childVariable+"="+realProxy,
		"PGWEIR_PASSWORD=choose-one", "PGPASSWORD=apps-own", "PGSSLMODE=disable")
	m.program("pgweir", fmt.Sprintf("exec %q \"$@\"\n", self))
	m.program("make", "test \"$1\" = build\n")
	m.program("useradd", "")
	m.program("systemctl", "")
	// Nobody is given what root would give away.
	m.program("install", `for a; do shift; case $a in -g) skip=1 ;; *) [ -n "${skip-}" ] || set -- "$@" "$a"; skip= ;; esac; done; exec /usr/bin/install "$@"`+"\n")
	for _, d := range []string{"run/pgweir", "usr/local/bin", "etc/systemd/system", "deploy"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	unit, err := os.ReadFile("../../deploy/pgweir.service")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "deploy/pgweir.service"), unit, 0o644))
	must(t, c.Exec(t.Context(), "CREATE ROLE app LOGIN PASSWORD 'apps-own'"))
	must(t, c.Exec(t.Context(), "CREATE DATABASE shop OWNER app"))

	var printed []string
	started := false
	for _, b := range installPage(t) {
		switch kind, text := b[0], b[1]; kind {
		case "yaml":
			must(t, os.WriteFile(filepath.Join(dir, "pgweir.yaml"), []byte(m.replacer.Replace(text+"http: 127.0.0.1:9930\n")), 0o600))
		case "sh":
			printed = append(printed, m.run(text))
			must(t, c.WaitReplay(t.Context()))
			if strings.Contains(text, "systemctl enable") {
				m.startUnit("http://" + at[1] + "/readyz")
				started = true
			}
		default:
			t.Errorf("a block of kind %q", kind)
		}
	}
	if !started || len(printed) != 5 {
		t.Fatalf("%d blocks of commands", len(printed))
	}
	wantOutput(t, printed[0], "pgweir ")
	wantOutput(t, printed[1], "CREATE FUNCTION", "ALTER ROLE")
	wantOutput(t, printed[2], "pgweir.yaml: ok", "servers: ok")
	wantOutput(t, printed[4], "1 row", "replica read", "primary", "ok\n", "pgweir_statements_total{")
}

// startUnit starts what the installed unit starts, and returns when it is ready.
func (m *machine) startUnit(ready string) {
	m.t.Helper()
	unit, err := os.ReadFile(filepath.Join(m.dir, "etc/systemd/system/pgweir.service"))
	must(m.t, err)
	for _, key := range []string{"ExecStartPre", "ExecStart"} {
		line := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindSubmatch(unit)
		if line == nil {
			m.t.Fatalf("the unit has no %s", key)
		}
		cmd := exec.Command("sh", "-c", ". "+m.dir+"/etc/pgweir/environment; export PGWEIR_PASSWORD; exec "+m.replacer.Replace(string(line[1])))
		cmd.Env, cmd.Stderr = append(m.env, "PGWEIR_PASSWORD="), m.t.Output()
		if key == "ExecStartPre" {
			must(m.t, cmd.Run())
			continue
		}
		must(m.t, cmd.Start())
		m.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	}
	eventually(m.t, "it is ready", func() bool {
		answer, err := http.Get(ready)
		if err == nil {
			_ = answer.Body.Close()
		}
		return err == nil && answer.StatusCode == http.StatusOK
	})
}
