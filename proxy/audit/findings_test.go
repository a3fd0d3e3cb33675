package audit

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/router/tenant"
)

// book is a findings store with what it logs.
type book struct {
	*findings
	mu     sync.Mutex
	logged []string
}

func newBook(max int, interval time.Duration) *book {
	b := &book{}
	b.findings = newFindings(max, interval, func(s finding, n uint64) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.logged = append(b.logged, fmt.Sprintf("%s %d/%d", s.fingerprint, n, s.count))
	})
	return b
}

// see notes one finding as a session does.
func (b *book) see(fingerprint, table string, at time.Time) {
	c := &tenant.Case{Tables: []tenant.Table{{Name: table, Kind: tenant.KindList}}, Severity: tenant.Danger}
	k := findingKey{database: "d", fingerprint: fingerprint, kind: c.Kind(), severity: c.Severity}
	s := b.find(k)
	if s == nil {
		s = b.keep(&finding{findingKey: k, tables: []string{table}, counts: b.counters(c)})
	}
	b.record(s, occurrence{at: at, mode: tenant.ModeLog})
}

func TestFindingsInterval(t *testing.T) {
	b := newBook(10, time.Minute)
	start := time.Now()
	for i := range 5 {
		b.see("f", "t", start.Add(time.Duration(i)*time.Second))
	}
	require.Equal(t, []string{"f 1/1"}, b.logged)
	b.flush(start.Add(30*time.Second), false)
	require.Len(t, b.logged, 1)
	b.flush(start.Add(time.Minute), false)
	require.Equal(t, []string{"f 1/1", "f 4/5"}, b.logged)
	b.flush(start.Add(time.Hour), false) // nothing was seen since
	require.Len(t, b.logged, 2)
	b.see("f", "t", start.Add(time.Hour))
	b.see("f", "t", start.Add(time.Hour+time.Second))
	require.Equal(t, []string{"f 1/1", "f 4/5", "f 1/6"}, b.logged)
	b.flush(start.Add(time.Hour+time.Second), true)
	require.Equal(t, "f 1/7", b.logged[3])
	list := b.list("d")
	require.Len(t, list, 1)
	require.Equal(t, start, list[0].first)
	require.Equal(t, start.Add(time.Hour+time.Second), list[0].at)
	require.Empty(t, b.list("other"))
}

// TestFindingsBound: whatever is sent, no more is kept than the bounds allow, and the
// statements seen last are.
func TestFindingsBound(t *testing.T) {
	b := newBook(100, time.Hour)
	const seen = 3 * maxAuditTables
	for i := range seen {
		b.see(fmt.Sprintf("f%04d", i), fmt.Sprintf("t%04d", i), time.Now())
		b.see("often", "t0000", time.Now())
	}
	st := b.now()
	require.Equal(t, 100, st.statements)
	require.EqualValues(t, seen+1-100, st.evicted)
	require.Len(t, st.tables, maxAuditTables+1)
	require.EqualValues(t, seen-maxAuditTables, st.tables[tableCount{otherTables, "list", tenant.Danger}])
	require.EqualValues(t, seen+1, st.tables[tableCount{"t0000", "list", tenant.Danger}])
	require.Len(t, b.logged, 100, "entries logged in one interval")
	require.Equal(t, "often", b.list("d")[0].fingerprint)
	require.Equal(t, fmt.Sprintf("f%04d", seen-99), b.list("d")[1].fingerprint)
}

func TestFindingsTogether(t *testing.T) {
	b := newBook(5, time.Nanosecond)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				b.see(fmt.Sprint("f", (g+i)%10), "t", time.Now())
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			b.flush(time.Now(), false)
			b.now()
			b.list("d")
		}
	})
	wg.Wait()
	require.EqualValues(t, 8*500, b.now().tables[tableCount{"t", "list", tenant.Danger}])
	require.Equal(t, 5, b.now().statements)
}
