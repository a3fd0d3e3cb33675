package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load is one kind of work for pgbench.
type load struct {
	script  string // select, tpcb, block, string, mix, paced or mixed
	mode    string // simple, extended or prepared
	clients int

	// Of mixed only.
	reads int    // their share, in per cent
	level string // pgweir.consistency
}

func (l load) String() string {
	return fmt.Sprintf("%s %s, %s", l.script, l.mode, countClients(l.clients))
}

func countClients(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

// queries is the number of statements in one transaction of the script.
func (l load) queries() int {
	switch l.script {
	case "tpcb":
		return 7 // BEGIN, three UPDATEs, SELECT, INSERT, END
	case "block", "string":
		return 4 // BEGIN, SET LOCAL, SELECT, COMMIT
	}
	return 1
}

// pace is how many transactions a second all clients of the load paced begin together.
const pace = 1000

// figures is what one run of pgbench showed.
type figures struct {
	tps      float64
	p50, p99 float64 // of a transaction, in microseconds
	cost     float64 // growth of the probe's counter for each query
}

// warmUp is the beginning of a run that is not counted: plans, caches and
// connections of the servers settle in it.
const warmUp = 500 * time.Millisecond

// errTooShort says that a run was over before anything could be counted.
var errTooShort = errors.New("too short a run to count anything")

// pgbench runs a load for some seconds and reads p meanwhile.
func (l *lab) pgbench(ctx context.Context, s *system, w load, seconds int, every time.Duration, p probe) (figures, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(seconds)*time.Second+30*time.Second,
		fmt.Errorf("pgbench did not end"))
	defer cancel()
	watching, stop := context.WithCancel(ctx)
	var readings []reading
	watched := make(chan error, 1)
	go func() {
		var err error
		readings, err = watch(watching, every, p)
		watched <- err
	}()
	txs, err := l.pgbenchLog(ctx, s.addr, w, seconds)
	stop()
	if err = errors.Join(err, <-watched); err != nil {
		return figures{}, err
	}
	return summarise(txs, readings, warmUp, w.queries())
}

// pgbenchLog runs pgbench and returns the transactions of its log. A failed
// transaction or an aborted client is an error.
func (l *lab) pgbenchLog(ctx context.Context, addr string, w load, seconds int) ([]transaction, error) {
	dir, err := os.MkdirTemp(l.dir, "log-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	args := []string{
		"-h", host, "-p", port, "-U", role, "-n", "-M", w.mode,
		"-c", strconv.Itoa(w.clients), "-j", strconv.Itoa(min(w.clients, 2)), "-T", strconv.Itoa(seconds),
		"-l", "--log-prefix", filepath.Join(dir, "t"),
	}
	args = append(args, l.scriptArgs(w)...)
	cmd := exec.CommandContext(ctx, l.pgbenchPath, append(args, database)...)
	cmd.Dir = l.dir
	if w.level != "" {
		cmd.Env = append(os.Environ(), "PGOPTIONS=-c pgweir.consistency="+w.level)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("pgbench: %w: %s", err, brief(stderr.String()))
	}
	if n := failedTransactions(string(stdout)); n != "0" {
		return nil, fmt.Errorf("pgbench: %s failed transactions: %s", n, brief(stderr.String()))
	}
	return readLogs(dir)
}

// failedTransactions finds the count in "number of failed transactions: 0 (0.000%)".
func failedTransactions(stdout string) string {
	for line := range strings.Lines(stdout) {
		if rest, ok := strings.CutPrefix(line, "number of failed transactions: "); ok {
			n, _, _ := strings.Cut(rest, " ")
			return n
		}
	}
	return "0" // before version 15 pgbench did not go on after a failure
}

// brief is the lines of an output that tell of an error, the first two of them.
func brief(output string) string {
	var lines []string
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); strings.Contains(line, "error") && len(lines) < 2 {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// transaction is a line of pgbench's log. Times are in microseconds.
type transaction struct {
	end  int64 // since 1970
	took int64
}

// readLogs reads the logs of all threads.
func readLogs(dir string) ([]transaction, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil, err
	}
	var all []transaction
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		all, err = appendLog(all, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read pgbench's log: %w", err)
		}
	}
	return all, nil
}

// appendLog parses lines of "client transaction time script seconds microseconds".
func appendLog(all []transaction, r io.Reader) ([]transaction, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var n [6]int64
		rest := lines.Bytes()
		for i := range n {
			field, after, _ := bytes.Cut(rest, []byte(" "))
			v, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return all, fmt.Errorf("line %q: field %d is not a number", lines.Bytes(), i+1)
			}
			n[i], rest = v, after
		}
		all = append(all, transaction{end: n[4]*1e6 + n[5], took: n[2]})
	}
	return all, lines.Err()
}

// summarise counts what happened between two readings: the first after the warm-up
// and the last before the end of the load. So neither logging in nor waiting for
// pgbench's end is part of any figure.
func summarise(txs []transaction, readings []reading, warm time.Duration, queries int) (figures, error) {
	if len(txs) == 0 {
		return figures{}, errTooShort
	}
	first, last := txs[0].end-txs[0].took, txs[0].end
	for _, t := range txs {
		first, last = min(first, t.end-t.took), max(last, t.end)
	}
	inside := slices.DeleteFunc(slices.Clone(readings), func(r reading) bool {
		at := r.at.UnixMicro()
		return at < first+warm.Microseconds() || at > last
	})
	if len(inside) < 2 {
		return figures{}, errTooShort
	}
	from, to := inside[0], inside[len(inside)-1]
	var took []int64
	for _, t := range txs {
		if t.end > from.at.UnixMicro() && t.end <= to.at.UnixMicro() {
			took = append(took, t.took)
		}
	}
	if len(took) == 0 {
		return figures{}, errTooShort
	}
	slices.Sort(took)
	n := float64(len(took))
	return figures{
		tps:  n / to.at.Sub(from.at).Seconds(),
		p50:  float64(percentile(took, 50)),
		p99:  float64(percentile(took, 99)),
		cost: (to.value - from.value) / n / float64(queries),
	}, nil
}
