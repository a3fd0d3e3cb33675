package proxy_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestRefusedLoginsLeaveNothing: of a login that ends in an error nothing is kept.
func TestRefusedLoginsLeaveNothing(t *testing.T) {
	s := start(t)
	refused := func(n int) uint64 {
		for range n {
			if conn, err := pgconn.Connect(t.Context(), s.dsn("no_such_database")); err == nil {
				_ = conn.Close(t.Context())
				t.Fatal("logged in to a database that is not there")
			}
		}
		s.logs.TakeAll()
		runtime.GC()
		runtime.GC() // what the first finds in pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapObjects
	}
	const more = 400
	before := refused(100)
	if after := refused(more); after > before+more/2 {
		t.Errorf("%d objects are kept of %d logins", after-before, more)
	}
}

// TestAnalysisIsCounted: the time it takes to find out what a statement is counts in
// pgweir_added_seconds.
func TestAnalysisIsCounted(t *testing.T) {
	database := newDatabase(t, "select 1")
	s := start(t)
	c := raw(t, s.addr, database)
	added := func() (sum float64) {
		families, err := s.reg.Gather()
		must(t, err)
		for _, f := range families {
			if f.GetName() == "pgweir_added_seconds" {
				for _, m := range f.GetMetric() {
					sum += m.GetHistogram().GetSampleSum()
				}
			}
		}
		return sum
	}
	c.query("select 2") // it dials
	before := added()
	c.query("select 3")
	short := added()
	c.query("select 1 where 1 in (" + strings.Repeat("1, ", 60000) + "1)")
	if long := added(); long-short < 0.01 {
		t.Errorf("%.6f s were added to a statement of 180 KB, %.6f s to a short one", long-short, short-before)
	}
}
