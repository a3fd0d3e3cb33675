// Command bench compares three ways to reach one PostgreSQL cluster on one
// machine: directly, through PgBouncer and through pgweir.
//
// It starts everything itself: a primary with two streaming replicas, PgBouncer
// in transaction mode and pgweir as a process of its own, each with its smallest
// configuration. Load comes from pgbench. The systems take turns in short rounds, so that
// whatever else the machine does meets all of them, and ratios are formed
// within a round before the median is taken. What it measures:
//
//   - throughput and latency, from pgbench's log of every transaction;
//   - CPU per query of the proxy, user and system of the whole process, from the
//     kernel's clock of that process;
//   - allocations per query of pgweir, from its own metrics;
//   - large results: MB/s and the proxy's CPU per MB;
//   - memory of idle clients, from the resident size of the process;
//   - mixes of reads and writes at each consistency level of pgweir, and directly;
//   - tenants that change with every transaction, or stay with their session, with what
//     pgweir asserts and verifies switched off and on, and the CPU of the servers too;
//   - statements that insight counts, and whose plans are asked for, and that it does not;
//   - operations that pools find hard: migrations, notifications, cancels and the like.
//
// Run it in the repository: go run ./bench. A full run takes less than a quarter of
// an hour and writes bench/RESULTS.md; a run narrowed by flags only prints:
//
//	go run ./bench -quick
//	go run ./bench -parts matrix -loads select -modes simple -clients 64 -rounds 3 -seconds 4 -systems pgbouncer,pgweir
//
// Two builds of pgweir are compared with -base, the path of the older binary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done within %v", o.timeout))
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures what o asks for and writes the report. A system that fails under some
// load does not end the run: the report shows it and run returns an error at the end.
func run(ctx context.Context, o options) (err error) {
	began := time.Now()
	if _, err := os.Stat("bench/main.go"); err != nil {
		return errors.New("run it in the repository's top directory: go run ./bench")
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()

	r := report{options: o, machine: describeMachine(), versions: l.versions, systems: o.systems, began: began}
	steps := []struct {
		part string
		do   func(context.Context, *lab, *report) error
	}{
		{"matrix", measureMatrix},
		{"allocs", measureAllocs},
		{"results", measureResults},
		{"idle", measureIdle},
		{"levels", measureLevels},
		{"tenants", measureTenants},
		{"insight", measureInsight},
		{"operations", measureOperations},
		{"profile", takeProfiles},
	}
	for _, s := range steps {
		if !o.wants(s.part) {
			continue
		}
		progress("== %s", s.part)
		if err := s.do(ctx, l, &r); err != nil {
			// What was measured so far is worth keeping.
			fmt.Print(r.markdown())
			return fmt.Errorf("%s: %w", s.part, err)
		}
	}
	r.took = time.Since(began)
	return r.write(os.Stdout)
}

// raiseFileLimit lets this process, and those it starts, hold a few thousand connections.
func raiseFileLimit() error {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", lim.Max, err)
	}
	return nil
}
