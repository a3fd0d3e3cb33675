package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
)

// BenchmarkPlans compares proxies that have plans explained and that have not, in turns, by
// how long clients wait: eight of them, with more statements than can be explained meanwhile.
//
//	go test ./proxy -run xxx -bench Plans -benchtime 40x
//
// On two shared cores with ten times as much other work, 101 plans were made, the median was 16.7 ms without and 18.3 ms with,
// and the 99th percentile 130 ms and 114 ms: no difference that the noise would let one see.
func BenchmarkPlans(b *testing.B) {
	const clients, statements, turn = 8, 500, 100
	var columns []string
	for i := range statements {
		columns = append(columns, fmt.Sprintf("c%d int", i))
	}
	db := newDatabase(b, "create table t (id int primary key, "+strings.Join(columns, ", ")+"); insert into t select generate_series(1, 20000); analyze t")
	var conns [2][clients]*pgx.Conn
	for i := range conns {
		s := start(b, func(c *config.Config) {
			c.Insight.Enabled, c.Insight.Plans.Enabled, c.Pool.Size = true, i == 1, clients
			c.Insight.MaxBytes = 64 << 20
		})
		for k := range clients {
			conns[i][k] = s.connect(b, db)
		}
		if i == 1 {
			defer func() { b.ReportMetric(s.metric(b, "pgweir_insight_plans_total", "result=kept"), "plans") }()
		}
	}
	var took [2][]time.Duration
	b.ResetTimer()
	for n := range b.N {
		for k := range conns {
			i := (n + k) % 2
			var mu sync.Mutex
			var all sync.WaitGroup
			for k := range clients {
				all.Go(func() {
					var own []time.Duration
					for j := range turn {
						began := time.Now()
						_, err := conns[i][k].PgConn().Exec(b.Context(), fmt.Sprintf("select c%d from t where id = %d", (n*turn+j)%statements, j)).ReadAll()
						if err != nil {
							b.Error(err)
						}
						own = append(own, time.Since(began))
					}
					mu.Lock()
					took[i] = append(took[i], own...)
					mu.Unlock()
				})
			}
			all.Wait()
		}
	}
	for i, name := range []string{"off", "on"} {
		slices.Sort(took[i])
		for _, q := range []int{50, 99} {
			b.ReportMetric(float64(took[i][len(took[i])*q/100].Microseconds()), fmt.Sprintf("%s-p%d-µs", name, q))
		}
	}
	b.ReportMetric(0, "ns/op")
	require.NotEmpty(b, took[0])
}
