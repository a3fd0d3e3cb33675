package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestHistoriesOfTwoInstances: what a level promises holds for clients of two proxies behind
// a balancer where these say that they are not alone; where they do not, it does not.
func TestHistoriesOfTwoInstances(t *testing.T) {
	l := newLagging(t, historySetup, map[string]string{"recovery_min_apply_delay": "5ms"},
		func(c *config.Config) { c.Routing.FreshnessWait = 20 * time.Millisecond })
	for _, run := range []struct {
		level      string
		soleWriter bool
	}{{"session", false}, {"tenant", false}, {"database", false}, {"strong", false}, {"database", true}} {
		t.Run(fmt.Sprintf("%s, sole writer %v", run.level, run.soleWriter), func(t *testing.T) {
			l.config.Routing.SoleWriter = run.soleWriter
			both := []*service{l.proxy(t), l.proxy(t)}
			address := balancer(t, func(n int) string { return both[n%2].addr })
			must(t, l.WaitReplay(t.Context()))
			ctx, cancel := context.WithTimeout(t.Context(), historyLength(t))
			defer cancel()
			var h history
			var g errgroup.Group
			g.Go(func() error { return disturb(ctx, l, rand.New(rand.NewPCG(historySeed, 100)), false) })
			if err := errors.Join(h.record(ctx, (&service{addr: address}).dsn, run.level), g.Wait()); err != nil {
				t.Fatal(err)
			}
			reads, writes := h.count()
			for i, s := range both {
				onReplica := s.metric(t, "pgweir_statements_total", "target=replica")
				t.Logf("instance %d: %.0f of %d reads on replicas, %d writes; redirected %v", i+1, onReplica, reads, writes, s.metric(t, "pgweir_reads_redirected_total"))
				if onReplica == 0 || s.metric(t, "pgweir_statements_total", "target=primary") == 0 {
					t.Error("the run proves nothing")
				}
			}
			violations := h.violations(run.level)
			if run.soleWriter {
				if len(violations) == 0 {
					t.Error("nothing is missed where each takes itself for the only one: the other runs prove nothing")
				}
				return
			}
			for _, v := range violations {
				t.Error(v)
			}
		})
	}
}

// BenchmarkSoleWriter is what it costs reads at level database that others commit, too: eight
// clients read a register, alone and beside a writer of another. On two shared cores, with
// replicas on the same machine:
//
//	                no writes   writes
//	sole writer         36 µs    47 µs between two reads
//	others, too        176 µs   184 µs, and 99.9 % of the reads on replicas
func BenchmarkSoleWriter(b *testing.B) {
	cluster := pgtest.New(b, pgtest.Options{Replicas: 2})
	must(b, cluster.Exec(b.Context(), historySetup))
	must(b, cluster.WaitReplay(b.Context()))
	for _, soleWriter := range []bool{true, false} {
		for _, writes := range []string{"no writes", "writes"} {
			b.Run(fmt.Sprintf("sole writer %v, %s", soleWriter, writes), func(b *testing.B) {
				cfg := failoverConfig(b, cluster)
				cfg.Routing.SoleWriter = soleWriter
				s := startConfig(b, cfg)
				ctx, stop := context.WithCancel(b.Context())
				var g errgroup.Group
				if writes == "writes" {
					conn := s.connect(b, "postgres")
					g.Go(func() error {
						for ctx.Err() == nil {
							if _, err := conn.Exec(b.Context(), "update r set v = v + 1 where id = 1"); err != nil {
								return err
							}
							time.Sleep(5 * time.Millisecond)
						}
						return nil
					})
				}
				before := s.metric(b, "pgweir_statements_total", "target=replica")
				b.SetParallelism(4)
				b.RunParallel(func(pb *testing.PB) {
					conn := s.connect(b, "postgres")
					for pb.Next() {
						var v int
						if err := conn.QueryRow(b.Context(), "select v from r where id = 0").Scan(&v); err != nil {
							b.Error(err)
						}
					}
				})
				stop()
				must(b, g.Wait())
				b.ReportMetric(100*(s.metric(b, "pgweir_statements_total", "target=replica")-before)/float64(b.N), "%onreplica")
			})
		}
	}
}
