package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// gathered are the values by name and labels, of histograms their counts and sums.
func gathered(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(m))
	families, err := reg.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range families {
		for _, v := range f.GetMetric() {
			var labels []string
			for _, l := range v.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			key := strings.TrimPrefix(f.GetName(), "pgweir_") + fmt.Sprint(labels)
			switch {
			case v.Counter != nil:
				all[key] = v.Counter.GetValue()
			case v.Gauge != nil:
				all[key] = v.Gauge.GetValue()
			default:
				all[key] = float64(v.Histogram.GetSampleCount())
				all[key+" sum"] = v.Histogram.GetSampleSum()
			}
		}
	}
	return all
}

func newMetrics(tenants bool) *Metrics {
	server := cluster.NewServer("a:5432", 1)
	cl := cluster.New(cluster.Options{Name: "c", Servers: []*cluster.Server{server}})
	slots := func(each func(*cluster.Server, pool.Slots)) { each(server, pool.Slots{Open: 4, Bound: 5, Refused: 6}) }
	return New(Sources{
		Verified:  func() (asked, differing uint64) { return 5, 1 },
		Pools:     func(each func(Pool)) { each(Pool{"a:5432", "db", "user", pool.Stats{Size: 3, Idle: 2}}) },
		Databases: func(each func(Database)) { each(Database{"c/db", router.Stats{Hits: 7}}) },
		Clusters: func(each func(Cluster)) {
			each(Cluster{Name: "c", Topology: cl.Topology(), Failovers: 2, Slots: slots, Discovers: true, Found: 3, Unfound: 4})
		},
		OldestPins: func() (oldest [Pins]time.Duration) { oldest[0] = time.Minute; return oldest },
		Tenants:    func() bool { return tenants },
	})
}

// TestCollect: what is counted is shown, under labels that are the enums' names.
func TestCollect(t *testing.T) {
	m := newMetrics(true)
	m.Statement(router.TargetReplica, router.ReasonRead, router.ClassRead)
	m.Answered(2 * time.Second)
	m.Retried(RetryConflict)
	require.EqualValues(t, 1, m.ClientEntered())
	m.LoggedIn(time.Second)
	m.ServerError()
	m.AwaitedFreshness(router.Tenant, time.Millisecond, true)
	m.AwaitedFreshness(router.Tenant, time.Millisecond, false)
	m.Pinned(0, router.PinTemp|router.PinListen)
	m.Pinned(router.PinTemp|router.PinListen, router.PinTemp)
	m.Adopted(0)
	m.Adopted(3)
	m.TenantUnset(router.ClassWrite)
	all := gathered(t, m)
	for key, want := range map[string]float64{
		"statements_total[read read replica]":                1,
		"statement_seconds[]":                                1,
		"statement_seconds[] sum":                            2,
		"retries_total[recovery_conflict]":                   1,
		"retries_total[shutdown]":                            0,
		"clients[]":                                          1,
		"logins_total[ok]":                                   1,
		"logins_total[failed]":                               0,
		"errors_total[server]":                               1,
		"reads_delayed_total[tenant]":                        2,
		"reads_redirected_total[tenant]":                     1,
		"freshness_wait_seconds[tenant]":                     2,
		"pinned_sessions[" + router.PinTemp.String() + "]":   1,
		"pinned_sessions[" + router.PinListen.String() + "]": 0,
		"pins_total[" + router.PinListen.String() + "]":      1,
		"adopted_settings[] sum":                             3,
		"affinity_total[hit]":                                1,
		"affinity_total[miss]":                               1,
		"tenant_unset_total[write]":                          1,
		"pool_connections[db a:5432 idle user]":              2,
		"plan_cache_total[c/db hit]":                         7,
		"failovers_total[c]":                                 2,
		"server_connections[c a:5432]":                       4, "server_connections_bound[c a:5432]": 5, "server_full_total[c a:5432]": 6,
		"discoveries_total[c failed]":                           4,
		"cluster_has_primary[c]":                                0,
		"oldest_pin_seconds[" + router.PinSet(1).String() + "]": 60,
	} {
		got, ok := all[key]
		require.True(t, ok, "%s is not among %v", key, all)
		require.Equal(t, want, got, key)
	}
}

// TestTenants: without tenants nothing is shown of them.
func TestTenants(t *testing.T) {
	require.Contains(t, gathered(t, newMetrics(true)), "tenant_left_total[]")
	require.NotContains(t, gathered(t, newMetrics(false)), "tenant_left_total[]")
}
