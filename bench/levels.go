package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// consistencies are pgweir's levels; "" is the load without any, for direct connections.
var consistencies = []string{"eventual", "session", "tenant", "database", "strong"}

// mixes are shares of reads, in per cent.
var mixes = []int{90, 50}

// levelClients share the load of one mix.
const levelClients = 32

// mixed is one mix of reads and writes at one level, with what came of it in each round.
type mixed struct {
	reads    int
	level    string // empty: direct
	samples  []figures
	replicas []float64 // of the reads, in per cent
}

func (m *mixed) String() string {
	if m.level == "" {
		return fmt.Sprintf("%d/%d, direct", m.reads, 100-m.reads)
	}
	return fmt.Sprintf("%d/%d, %s", m.reads, 100-m.reads, m.level)
}

// mixScripts are the two kinds of transactions, of one statement each.
var mixScripts = map[string]string{
	"read":  "\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
	"write": "\\set aid random(1, 100000 * :scale)\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n",
}

// measureLevels runs mixes of reads and writes at each level, and directly, in turns.
func measureLevels(ctx context.Context, l *lab, r *report) error {
	for _, reads := range mixes {
		var all []*mixed
		for _, s := range l.systems {
			switch s.name {
			case direct:
				all = append(all, &mixed{reads: reads})
			case pgweir:
				for _, level := range consistencies {
					all = append(all, &mixed{reads: reads, level: level})
				}
			}
		}
		r.mixes = append(r.mixes, all...)
		for round := range l.options.rounds {
			for _, m := range rotate(all, round) {
				err := l.mix(ctx, m)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					m.samples, m.replicas = append(m.samples, failedRun), append(m.replicas, math.NaN())
					r.fault("%v, round %d: %v", m, round+1, err)
				}
			}
		}
	}
	return nil
}

// mix runs one mix once.
func (l *lab) mix(ctx context.Context, m *mixed) error {
	s := l.system(direct)
	if m.level != "" {
		s = l.system(pgweir)
	}
	w := load{script: "mixed", mode: "extended", clients: levelClients, reads: m.reads, level: m.level}
	before, err := s.reads(ctx)
	if err != nil {
		return err
	}
	f, err := l.pgbench(ctx, s, w, l.options.seconds, 100*time.Millisecond, nothing)
	if err != nil {
		return err
	}
	after, err := s.reads(ctx)
	if err != nil {
		return err
	}
	onReplicas := math.NaN()
	if m.level != "" {
		onReplicas = share(before, after, "replica")
	}
	m.samples, m.replicas = append(m.samples, f), append(m.replicas, onReplicas)
	progress("%-22v %8.0f tps  p50 %6.0f µs  p99 %6.0f µs  reads on replicas %3.0f %%", m, f.tps, f.p50, f.p99, onReplicas)
	return nil
}

// system finds one of the run's systems.
func (l *lab) system(name string) *system {
	for _, s := range l.systems {
		if s.name == name {
			return s
		}
	}
	return nil
}

// scriptArgs are what pgbench is told of a load's script.
func (l *lab) scriptArgs(w load) []string {
	switch w.script {
	case "select":
		return []string{"-S"}
	case "paced":
		return []string{"-S", "-R", strconv.Itoa(pace)}
	case "tpcb":
		return nil // what pgbench does by itself
	case "block", "string", oneStatement, manyStatements:
		return []string{"-s", strconv.Itoa(l.options.scale), "-f", filepath.Join(l.dir, w.script+".sql")}
	case "mix":
		w.reads = mixes[0]
		fallthrough
	case "mixed":
		return []string{"-s", strconv.Itoa(l.options.scale),
			"-f", fmt.Sprintf("%s@%d", filepath.Join(l.dir, "read.sql"), w.reads),
			"-f", fmt.Sprintf("%s@%d", filepath.Join(l.dir, "write.sql"), 100-w.reads)}
	case eachTransaction, eachSession, pausing:
		return []string{"-s", strconv.Itoa(l.options.scale), "-D", "fresh=1", "-f", filepath.Join(l.dir, w.script+".sql")}
	}
	panic("no script " + w.script)
}

// reads tells how many reads pgweir has run on each kind of server; nothing of others.
func (s *system) reads(ctx context.Context) (map[string]float64, error) {
	if s.http == "" {
		return nil, nil
	}
	body, err := s.fetch(ctx, "/metrics", 10*time.Second)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for line := range strings.Lines(string(body)) {
		if strings.Contains(line, `class="read"`) {
			text.WriteString(line)
		}
	}
	return sumBy(text.String(), "pgweir_statements_total", "target"), nil
}

// levelsTable shows what each level costs.
func (r *report) levelsTable() string {
	if len(r.mixes) == 0 {
		return ""
	}
	var t table
	fmt.Fprintf(&t, "## Consistency levels\n\n%d clients, transactions of one statement: reads or updates of one row of pgbench_accounts by its key. "+
		"Direct has the primary alone.\n\n", levelClients)
	t.head(2, "reads/writes", "level", "transactions/s", "÷ direct", "p50 µs", "p99 µs", "reads on replicas, %")
	var alone *mixed
	for _, m := range r.mixes {
		name, ratio := m.level, math.NaN()
		if name == "" {
			name, alone = "direct", m
		} else if alone != nil && alone.reads == m.reads {
			ratio = medianRatio(m.of(tps), alone.of(tps))
		}
		t.row(fmt.Sprintf("%d/%d", m.reads, 100-m.reads), name, show(m.of(tps), "%.0f"), number(ratio, "%.2f"),
			show(m.of(p50), "%.0f"), show(m.of(p99), "%.0f"), number(median(known(m.replicas)), "%.0f"))
	}
	return t.String()
}

// of are one figure's values, one a round.
func (m *mixed) of(figure func(figures) float64) []float64 {
	var all []float64
	for _, f := range m.samples {
		all = append(all, figure(f))
	}
	return all
}
