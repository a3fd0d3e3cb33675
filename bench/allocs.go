package main

import (
	"context"
	"fmt"
	"time"
)

// allocClients are few enough to find a connection at once, and enough to wait for one.
var allocClients = []int{8, 64}

// allocation is what pgweir allocates for one query of a load, and how many of its
// statements it sent to a replica, in per cent.
type allocation struct {
	load
	objects  float64
	replicas float64
}

// rowResult is the result whose rows are counted, rowBytes a row of it on the wire:
// header, number of columns, length and value.
var rowResult = largeResults[0]

const rowBytes = 5 + 2 + 4 + 100

// measureAllocs counts pgweir's allocations per query under each load. Reading the
// count allocates too; what a reading costs is measured first and taken off.
func measureAllocs(ctx context.Context, l *lab, r *report) error {
	for _, s := range l.systems {
		if s.name != pgweir {
			continue
		}
		for _, w := range l.options.matrixOf(allocClients) {
			a, err := l.allocations(ctx, s, w)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				r.fault("allocations, %v: %v", w, err)
				continue
			}
			progress("%-30s %.2f allocations/query, %.0f %% on replicas", w, a.objects, a.replicas)
			r.allocs = append(r.allocs, a)
			if w.script == "tpcb" && a.replicas > 1 {
				r.fault("%v: %.0f %% of the statements of transactions that write ran on replicas", w, a.replicas)
			}
		}
		n, err := s.rowAllocations(ctx)
		if err != nil {
			return err
		}
		progress("%.3f allocations for 1,000 rows", n)
		r.rowAllocs = &n
	}
	return nil
}

// rowAllocations counts allocations for 1,000 rows of a large result.
func (s *system) rowAllocations(ctx context.Context) (float64, error) {
	own, err := scrapeCost(ctx, s)
	if err != nil {
		return 0, err
	}
	t, err := s.transfer(ctx, rowResult.sql, 1, 2*time.Second, s.mallocs)
	if err != nil {
		return 0, fmt.Errorf("allocations, %s: %w", rowResult.name, err)
	}
	return max(t.growth-own, 0) / (t.mb * 1e6 / rowBytes) * 1000, nil
}

// mallocs is the probe of a pgweir's allocations.
func (s *system) mallocs(ctx context.Context) (float64, error) {
	v, err := s.metrics(ctx, "go_memstats_mallocs_total")
	if err != nil {
		return 0, err
	}
	return v[0], nil
}

func (l *lab) allocations(ctx context.Context, s *system, w load) (allocation, error) {
	own, err := scrapeCost(ctx, s)
	if err != nil {
		return allocation{}, err
	}
	before, err := s.statements(ctx)
	if err != nil {
		return allocation{}, err
	}
	count := 0.0
	f, err := l.pgbench(ctx, s, w, 3, 500*time.Millisecond, func(ctx context.Context) (float64, error) {
		v, err := s.mallocs(ctx)
		count++
		return v - count*own, err
	})
	if err != nil {
		return allocation{}, err
	}
	after, err := s.statements(ctx)
	// A reading may cost less under load than it did on the idle proxy.
	return allocation{w, max(f.cost, 0), share(before, after, "replica")}, err
}

// share is how much of the growth of all counters is one's, in per cent.
func share(before, after map[string]float64, of string) float64 {
	all := 0.0
	for key, n := range after {
		all += n - before[key]
	}
	return 100 * (after[of] - before[of]) / all
}

// scrapeCost is what one reading of the metrics allocates on an idle proxy.
func scrapeCost(ctx context.Context, s *system) (float64, error) {
	const times = 10
	var first, last float64
	for i := range times + 1 {
		v, err := s.mallocs(ctx)
		if err != nil {
			return 0, fmt.Errorf("read metrics: %w", err)
		}
		if i == 0 {
			first = v
		}
		last = v
	}
	return (last - first) / times, nil
}
