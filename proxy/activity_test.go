package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
)

// TestActivities: what sessions are doing is shown as it is, with the age of the oldest
// transaction, and so is what the proxy answers itself and what passes it unseen.
func TestActivities(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, func(cfg *config.Config) { cfg.Pool.Size = 1 })
	are := func(activity string, n float64) {
		t.Helper()
		until(t, fmt.Sprint(n, " sessions are ", activity), func() bool { return s.metric(t, "pgweir_client_states", "state="+activity) == n })
	}
	age := func(activity string) float64 {
		return s.metric(t, "pgweir_oldest_transaction_seconds", "state="+activity)
	}
	first, second := s.connect(t, database), s.connect(t, database)
	are("idle", 2)
	if age("active") != 0 || age("idle_in_transaction") != 0 {
		t.Error("nobody has a transaction")
	}
	began := time.Now()
	for _, sql := range []string{"begin", "create temp table x ()"} { // which takes the one connection there is
		_, err := first.Exec(bounded(t, patience), sql)
		must(t, err)
	}
	are("idle_in_transaction", 1)
	until(t, "it is a tenth of a second old", func() bool { return age("idle_in_transaction") > 0.1 })
	if got := age("idle_in_transaction"); got > time.Since(began).Seconds() {
		t.Errorf("%v s old, and began %v ago", got, time.Since(began))
	}
	done := make(chan error)
	go func() {
		_, err := second.Exec(bounded(t, patience), "create temp table y as select pg_sleep(0.5)::text")
		done <- err
	}()
	are("waiting", 1)
	until(t, "it has waited for a while", func() bool { return age("waiting") > 0.05 })
	_, err := first.Exec(bounded(t, patience), "rollback")
	must(t, err)
	are("active", 1)
	are("idle", 1)
	must(t, <-done)
	are("idle", 2)

	if s.metric(t, "pgweir_statements_total", "reason=local") == 0 {
		t.Error("BEGIN was not counted")
	}
	conn, err := pgconn.Connect(bounded(t, patience), s.dsn(database)+" replication=database")
	must(t, err)
	if _, err := conn.Exec(t.Context(), "IDENTIFY_SYSTEM").ReadAll(); err != nil {
		t.Error(err)
	}
	must(t, conn.Close(bounded(t, patience)))
	if n := s.metric(t, "pgweir_statements_total", "reason=replication"); n != 1 {
		t.Errorf("%v replication connections were counted", n)
	}
}
