package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// cell is one load with what every system made of it.
type cell struct {
	load
	samples map[string][]figures // by system, one a round; NaN where a round failed
	faults  []string
}

// cpuEvery is how often the CPU clock of a proxy is read during a run. A reading costs a
// system call of this process and nothing of the proxy's.
const cpuEvery = 20 * time.Millisecond

// failedRun is put in the place of a run that failed.
var failedRun = figures{tps: math.NaN(), p50: math.NaN(), p99: math.NaN(), cost: math.NaN()}

// matrixOf are the loads of the wanted scripts and modes with each number of clients.
func (o options) matrixOf(clients []int) []load {
	var all []load
	for _, script := range o.loads {
		for _, mode := range o.modes {
			for _, n := range clients {
				all = append(all, load{script: script, mode: mode, clients: n})
			}
		}
	}
	return all
}

// rotate returns the systems in another order each round, so that none always runs
// first or behind the same neighbour.
func rotate[T any](all []T, round int) []T {
	if len(all) == 0 {
		return nil
	}
	at := round % len(all)
	return append(append([]T(nil), all[at:]...), all[:at]...)
}

// blockScripts are a transaction for one of 100 tenants, in four messages and in one string.
var blockScripts = map[string]string{
	"block":  blockBegin + "BEGIN;\nSET LOCAL app.current_org_id = ':tenant';\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\nCOMMIT;\n",
	"string": blockBegin + "BEGIN\\; SET LOCAL app.current_org_id = ':tenant'\\; SELECT abalance FROM pgbench_accounts WHERE aid = :aid\\; COMMIT;\n",
}

const blockBegin = "\\set aid random(1, 100000 * :scale)\n\\set tenant random(1, 100)\n"

// measureMatrix runs pgbench over all loads, the systems in turns.
func measureMatrix(ctx context.Context, l *lab, r *report) error {
	loads := l.options.matrixOf(l.options.clients)
	total, done, began := 0, 0, time.Now()
	for _, w := range loads {
		total += l.options.rounds * len(l.able(w))
	}
	for _, w := range loads {
		c := &cell{load: w, samples: map[string][]figures{}}
		r.cells = append(r.cells, c)
		for round := range l.options.rounds {
			for _, s := range rotate(l.able(w), round) {
				f, err := l.pgbench(ctx, s, w, l.options.seconds, cpuEvery, s.cpu())
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					f = failedRun
					c.faults = append(c.faults, fmt.Sprintf("%s, round %d: %v", s.name, round+1, err))
				}
				c.samples[s.name] = append(c.samples[s.name], f)
				done++
				left := time.Since(began) / time.Duration(done) * time.Duration(total-done)
				tellRun(fmt.Sprintf("%d/%d, %v left", done, total, left.Round(time.Second)), w, s.name, f, err)
			}
		}
	}
	return nil
}

func tellRun(where string, w load, system string, f figures, err error) {
	if err != nil {
		progress("[%s] %-30s %-9s %v", where, w, system, err)
		return
	}
	progress("[%s] %-30s %-9s %8.0f tps  p50 %6.0f µs  p99 %6.0f µs  cpu %5.1f µs/query",
		where, w, system, f.tps, f.p50, f.p99, f.cost)
}

// able are the systems that can serve a load.
func (l *lab) able(w load) []*system {
	var all []*system
	for _, s := range l.systems {
		if s.prepared || w.mode != "prepared" {
			all = append(all, s)
		}
	}
	return all
}

// of are one figure's values of a system, one a round.
func (c *cell) of(system string, figure func(figures) float64) []float64 {
	var all []float64
	for _, f := range c.samples[system] {
		all = append(all, figure(f))
	}
	return all
}

func tps(f figures) float64  { return f.tps }
func p50(f figures) float64  { return f.p50 }
func p99(f figures) float64  { return f.p99 }
func cost(f figures) float64 { return f.cost }
