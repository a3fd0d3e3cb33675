package clients

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// programTimeout bounds one run of one program.
const programTimeout = time.Minute

// target is where a program connects.
type target struct {
	addr, database string
}

// environ is the whole environment of a program: libpq's variables, and nothing
// that could change what it prints.
func (to target) environ() []string {
	host, port, err := net.SplitHostPort(to.addr)
	if err != nil {
		panic("address without a port: " + to.addr)
	}
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC", "PYTHONDONTWRITEBYTECODE=1",
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + role, "PGDATABASE=" + to.database, "PGCONNECT_TIMEOUT=20",
	}
}

// client is a program in some language; run gives its transcript.
type client struct {
	name string
	run  func(t *testing.T, to target) []string
}

// command is a client that is a process of its own.
func command(name, dir, path string, args ...string) client {
	return client{name, func(t *testing.T, to target) []string {
		t.Helper()
		return runProcess(t, to, dir, path, args...)
	}}
}

// runProcess runs a program and returns the lines of its standard output and
// standard error. A program that hangs is asked for its stacks, then killed.
func runProcess(t *testing.T, to target, dir, path string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), programTimeout)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, to.environ(), &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 3 * time.Second
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(&out, "\nthe program ended with %v", err)
	}
	return lines(out.String(), to)
}

// byNature finds what differs between any two servers: process numbers, and in what
// source file an error was made.
var byNature = regexp.MustCompile(`PID \d+|LOCATION: .*`)

func lines(transcript string, to target) []string {
	_, port, _ := net.SplitHostPort(to.addr)
	transcript = strings.NewReplacer(to.database, "DATABASE", "port "+port, "port PORT").Replace(transcript)
	transcript = byNature.ReplaceAllString(transcript, "(differs)")
	return strings.Split(strings.TrimSpace(transcript), "\n")
}

// lastLine ends the transcript of a program that got through all its checks.
const lastLine = "all checks ran"

// requireComplete fails the test if the direct run, the measure of the others, was
// itself not what its author meant.
func requireComplete(t *testing.T, transcript []string) {
	t.Helper()
	if !slices.ContainsFunc(transcript, func(l string) bool { return strings.Contains(l, lastLine) }) {
		t.Fatalf("the program did not end as it should on PostgreSQL itself:\n%s", tail(transcript, 40))
	}
	for _, l := range transcript {
		if strings.Contains(l, ".unexpected: ") {
			t.Errorf("a check does not work on PostgreSQL itself: %s", l)
		}
	}
}

// accepted are the differences of testdata/accepted.txt: reasons by client and check.
type accepted map[string]string

func loadAccepted(t *testing.T) accepted {
	t.Helper()
	text, err := os.ReadFile("testdata/accepted.txt")
	if err != nil {
		t.Fatal(err)
	}
	a := accepted{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		check, reason, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("testdata/accepted.txt: no reason in %q", line)
		}
		a[check] = reason
	}
	return a
}

// find splits off the lines of a transcript that may differ.
func (a accepted) find(client string, transcript []string) (lines, free []string) {
	for _, l := range transcript {
		name, _, _ := strings.Cut(l, ": ")
		if a[client+"/"+name] != "" {
			free = append(free, l)
		} else {
			lines = append(lines, l)
		}
	}
	return lines, free
}

// requireDifferent fails the test if an accepted difference is none.
func requireDifferent(t *testing.T, direct, proxied []string) {
	t.Helper()
	for _, l := range direct {
		if slices.Contains(proxied, l) {
			t.Errorf("accepted as different, and is not: %s", l)
		}
	}
}

// requireEqual compares a run through the proxy with the direct one.
func requireEqual(t *testing.T, run string, direct, proxied []string) {
	t.Helper()
	if slices.Equal(direct, proxied) {
		return
	}
	var d differences
	cmp.Equal(direct, proxied, cmp.Reporter(&d))
	t.Errorf("%s: what the client sees differs (- PostgreSQL, + pgweir):\n%s", run, d.text.String())
	if !strings.Contains(strings.Join(proxied, "\n"), lastLine) {
		t.Logf("%s: the program did not end as it should:\n%s", run, tail(proxied, 60))
	}
}

// differences is a cmp reporter that writes whole lines.
type differences struct {
	path  cmp.Path
	count int
	text  strings.Builder
}

// maxDifferences bounds what is shown: after a program ended early all lines differ.
const maxDifferences = 60

func (d *differences) PushStep(step cmp.PathStep) { d.path = append(d.path, step) }
func (d *differences) PopStep()                   { d.path = d.path[:len(d.path)-1] }

func (d *differences) Report(r cmp.Result) {
	if r.Equal() {
		return
	}
	switch d.count++; {
	case d.count == maxDifferences:
		d.text.WriteString("…\n")
		return
	case d.count > maxDifferences:
		return
	}
	before, after := d.path.Last().Values()
	if before.IsValid() {
		fmt.Fprintf(&d.text, "- %s\n", before)
	}
	if after.IsValid() {
		fmt.Fprintf(&d.text, "+ %s\n", after)
	}
}

func tail(transcript []string, n int) string {
	return strings.Join(transcript[max(0, len(transcript)-n):], "\n")
}
