package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resultsFile is what a full run rewrites.
const resultsFile = "bench/RESULTS.md"

// The names flags accept, in the order things are run and shown.
var (
	allSystems = []string{direct, pgbouncer, base, pgweir}
	allParts   = []string{"matrix", "allocs", "results", "idle", "levels", "tenants", "insight", "operations", "profile"}
	allLoads   = []string{"select", "tpcb", "block", "string", "mix", "paced"}
	allModes   = []string{"simple", "extended", "prepared"}
)

// options is one command line.
type options struct {
	// What is measured.
	systems []string
	parts   []string
	loads   []string
	modes   []string
	clients []int

	// How long.
	rounds  int
	seconds int
	timeout time.Duration

	// Setting.
	scale       int
	poolSize    int
	idleClients int
	profiled    int      // clients of the profiled loads
	binary      string   // pgweir, built by the run when empty
	baseBinary  string   // an older pgweir to compare with
	weirEnv     []string // NAME=value, for pgweir only

	out     string // empty only prints
	command string // as it was given, for the report
}

func (o options) wants(part string) bool { return slices.Contains(o.parts, part) }

func (o options) runs(system string) bool { return slices.Contains(o.systems, system) }

// lists are the flags that hold several values.
type lists struct {
	systems, parts, loads, modes, clients, env string
	quick, profile                             bool
}

func (o *options) flags(l *lists) *flag.FlagSet {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(os.Stderr)
	fs.StringVar(&l.systems, "systems", "", "systems to compare: direct,pgbouncer,pgweir (all by default; base comes with -base)")
	fs.StringVar(&l.parts, "parts", "", "parts to run: matrix,allocs,results,idle,levels,tenants,insight,operations,profile (all but profile by default)")
	fs.StringVar(&l.loads, "loads", "", "pgbench scripts: select,tpcb (both by default), block,string,mix,paced")
	fs.StringVar(&l.modes, "modes", "", "query modes: simple,extended,prepared (all by default)")
	fs.StringVar(&l.clients, "clients", "1,8,64,256", "numbers of clients")
	fs.StringVar(&l.env, "weir-env", "", "NAME=value,… for the environment of pgweir (not of base)")
	fs.BoolVar(&l.quick, "quick", false, "a smoke test of every part: 1 round of 1 s, 1 and 8 clients, 200 idle clients")
	fs.BoolVar(&l.profile, "profile", false, "also save CPU profiles of pgweir to "+profileDir)
	fs.IntVar(&o.rounds, "rounds", 3, "rounds; medians are taken over them")
	fs.IntVar(&o.seconds, "seconds", 3, "seconds each system runs in a round, the first half second of which is not counted")
	fs.DurationVar(&o.timeout, "timeout", 25*time.Minute, "bound of the whole run")
	fs.IntVar(&o.scale, "scale", 10, "pgbench's scale factor (100,000 accounts each)")
	fs.IntVar(&o.poolSize, "pool", 20, "server connections of each pool")
	fs.IntVar(&o.idleClients, "idle", 2000, "idle clients whose memory is measured")
	fs.IntVar(&o.profiled, "profile-clients", 64, "clients during a profile")
	fs.StringVar(&o.binary, "pgweir", "", "pgweir binary to run (built by default)")
	fs.StringVar(&o.baseBinary, "base", "", "another pgweir binary to compare with")
	fs.StringVar(&o.out, "out", "", "file for the report (default "+resultsFile+" for a full run, else none)")
	return fs
}

// parseOptions reads the command line. A run narrowed by any flag prints its report
// and leaves the results of the last full run alone, unless -out says otherwise.
func parseOptions(args []string) (options, error) {
	o := options{command: strings.Join(append([]string{"go run ./bench"}, args...), " ")}
	var l lists
	fs := o.flags(&l)
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if l.quick {
		o.rounds, o.seconds, o.idleClients, l.clients = 1, 1, 200, "1,8"
	}
	if err := o.fill(l); err != nil {
		return o, err
	}
	if full(fs) && o.out == "" {
		o.out = resultsFile
	}
	return o, o.validate()
}

// fill takes the lists apart.
func (o *options) fill(l lists) (err error) {
	for _, list := range []struct {
		to       *[]string
		flag     string
		given    string
		of, dflt []string
	}{
		{&o.systems, "systems", l.systems, allSystems, o.defaultSystems()},
		{&o.parts, "parts", l.parts, allParts, allParts[:len(allParts)-1]},
		{&o.loads, "loads", l.loads, allLoads, allLoads[:2]},
		{&o.modes, "modes", l.modes, allModes, allModes},
	} {
		if *list.to, err = choose(list.given, list.of, list.dflt); err != nil {
			return fmt.Errorf("-%s: %w", list.flag, err)
		}
	}
	if o.clients, err = numbers(l.clients); err != nil {
		return fmt.Errorf("-clients: %w", err)
	}
	if l.profile && !o.wants("profile") {
		o.parts = append(o.parts, "profile")
	}
	if l.env != "" {
		o.weirEnv = strings.Split(l.env, ",")
	}
	return nil
}

// full tells whether no flag narrows the run.
func full(fs *flag.FlagSet) bool {
	harmless := []string{"profile", "profile-clients", "pgweir", "timeout", "out"}
	full := true
	fs.Visit(func(f *flag.Flag) { full = full && slices.Contains(harmless, f.Name) })
	return full
}

func (o options) defaultSystems() []string {
	if o.baseBinary != "" {
		return allSystems
	}
	return []string{direct, pgbouncer, pgweir}
}

func (o options) validate() error {
	for _, n := range []struct {
		flag       string
		value, max int
	}{
		{"rounds", o.rounds, 100}, {"seconds", o.seconds, 600}, {"scale", o.scale, 1000},
		{"profile-clients", o.profiled, maxConnections - 50}, {"pool", o.poolSize, 200}, {"idle", o.idleClients, 4000},
		{"clients", slices.Max(o.clients), maxConnections - 50}, {"clients", slices.Min(o.clients), maxConnections - 50},
	} {
		if n.value < 1 || n.value > n.max {
			return fmt.Errorf("-%s: %d is not between 1 and %d", n.flag, n.value, n.max)
		}
	}
	if o.runs(base) && o.baseBinary == "" {
		return fmt.Errorf("-systems: base needs -base, the path of a pgweir binary")
	}
	return nil
}

// choose picks the named ones of a list, in the list's order.
func choose(given string, of, dflt []string) ([]string, error) {
	if given == "" {
		return slices.Clone(dflt), nil
	}
	wanted := strings.Split(given, ",")
	for _, w := range wanted {
		if !slices.Contains(of, w) {
			return nil, fmt.Errorf("%q is none of %s", w, strings.Join(of, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(of), func(s string) bool { return !slices.Contains(wanted, s) }), nil
}

func numbers(given string) ([]int, error) {
	var list []int
	for s := range strings.SplitSeq(given, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", s)
		}
		list = append(list, n)
	}
	return list, nil
}
