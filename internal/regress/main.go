// Command regress runs PostgreSQL's own test suite (src/test/regress of its source)
// directly on a server and through pgweir in both pool modes, and compares what psql
// printed, file by file. What PostgreSQL's authors expect does not matter here: the
// server itself is the expectation.
//
//	go run ./internal/regress -suite DIR
//
// Each run has a cluster of its own with two replicas, so that nothing is left from
// the one before. What was printed is kept in a directory that is named at the end;
// the exit status is 1 if a file differs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// options are what the command line says.
type options struct {
	suite    string // what install.sh made
	version  string // the major version it is for
	schedule string // in the suite
	out      string
	modes    []string
	replicas int
	log      string // level of pgweir's log
}

func main() {
	var o options
	flag.StringVar(&o.suite, "suite", "", "directory of the suite, made by install.sh")
	flag.StringVar(&o.schedule, "schedule", "parallel_schedule", "file of the suite that lists its tests, or the path of one like it")
	flag.StringVar(&o.out, "out", "", "directory for what was printed; a new temporary one by default")
	modes := flag.String("modes", "transaction,session", "pool modes to run through")
	flag.IntVar(&o.replicas, "replicas", 2, "replicas beside the primary")
	flag.StringVar(&o.log, "log", "error", "level of what pgweir logs")
	flag.Parse()
	o.modes = strings.Split(*modes, ",")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	same, err := compare(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "regress:", err)
		os.Exit(2)
	}
	if !same {
		os.Exit(1)
	}
}

// compare runs the suite in every way and shows the differences; same is that there is none.
func compare(ctx context.Context, o options) (same bool, err error) {
	if o.suite == "" {
		return false, errors.New("-suite is missing: \"make regress\" says where it is")
	}
	version, err := os.ReadFile(filepath.Join(o.suite, "version"))
	if err != nil {
		return false, err
	}
	o.version = strings.TrimSpace(string(version))
	if o.out, err = outputDirectory(o.out); err != nil {
		return false, err
	}
	names, err := scheduled(o.schedulePath())
	if err != nil {
		return false, err
	}
	if err := run(ctx, o, direct); err != nil {
		return false, err
	}
	names, left := ran(names, o.output(direct))
	if len(left) > 0 {
		fmt.Printf("left out, as they do not run here directly: %s\n", strings.Join(left, " "))
	}
	same = true
	for _, mode := range o.modes {
		if err := run(ctx, o, mode); err != nil {
			return false, err
		}
		identical := show(names, o.output(direct), o.output(mode))
		fmt.Printf("pool mode %s: %d of %d files identical\n", mode, identical, len(names))
		same = same && identical == len(names)
	}
	fmt.Printf("what was printed is in %s\n", o.out)
	return same, nil
}

// outputDirectory makes the directory that servers, too, write files into (COPY TO).
func outputDirectory(dir string) (string, error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "pgweir-regress-")
		if err != nil {
			return "", err
		}
		dir = made
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755))
}

// output is the directory of one way's files.
func (o options) output(way string) string { return filepath.Join(o.out, way) }

func (o options) schedulePath() string {
	if filepath.IsAbs(o.schedule) {
		return o.schedule
	}
	return filepath.Join(o.suite, "tests", o.schedule)
}
