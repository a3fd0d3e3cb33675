package proxy

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/router/tenant"
)

// book is a ledger with what it logs.
type book struct {
	*ledger
	mu     sync.Mutex
	logged []string
}

func newBook(max int, interval time.Duration) *book {
	b := &book{}
	b.ledger = newLedger(max, interval, func(s sighting, n uint64) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.logged = append(b.logged, fmt.Sprintf("%s %d/%d", s.fingerprint, n, s.count))
	})
	return b
}

// see notes one sighting as a session does.
func (b *book) see(fingerprint, table string, at time.Time) {
	c := &tenant.Case{Tables: []tenant.Table{{Name: table, Kind: tenant.KindList}}, Severity: tenant.Danger}
	k := sightingKey{database: "d", fingerprint: fingerprint, kind: c.Kind(), severity: c.Severity}
	s := b.find(k)
	if s == nil {
		s = b.keep(&sighting{sightingKey: k, tables: []string{table}, counts: b.counters(c)})
	}
	b.note(s, run{at: at, mode: tenant.ModeLog})
}

func TestLedgerInterval(t *testing.T) {
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

// TestLedgerBound: whatever is sent, no more is kept than the bounds allow, and the
// statements seen last are.
func TestLedgerBound(t *testing.T) {
	b := newBook(100, time.Hour)
	const seen = 3 * maxAuditTables
	for i := range seen {
		b.see(fmt.Sprintf("f%04d", i), fmt.Sprintf("t%04d", i), time.Now())
		b.see("often", "t0000", time.Now())
	}
	st := b.stats()
	require.Equal(t, 100, st.statements)
	require.EqualValues(t, seen+1-100, st.evicted)
	require.Len(t, st.tables, maxAuditTables+1)
	require.EqualValues(t, seen-maxAuditTables, st.tables[tableCount{otherTables, "list", tenant.Danger}])
	require.EqualValues(t, seen+1, st.tables[tableCount{"t0000", "list", tenant.Danger}])
	require.Len(t, b.logged, 100, "entries logged in one interval")
	require.Equal(t, "often", b.list("d")[0].fingerprint)
	require.Equal(t, fmt.Sprintf("f%04d", seen-99), b.list("d")[1].fingerprint)
}

func TestLedgerTogether(t *testing.T) {
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
			b.stats()
			b.list("d")
		}
	})
	wg.Wait()
	require.EqualValues(t, 8*500, b.stats().tables[tableCount{"t", "list", tenant.Danger}])
	require.Equal(t, 5, b.stats().statements)
}

func TestBindValues(t *testing.T) {
	rest := []byte{
		0, 2, 0, 1, 0, 0, // formats: binary, text
		0, 3,
		0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe,
		0, 0, 0, 1, 'x',
		0xff, 0xff, 0xff, 0xff,
		0, 0,
	}
	list := bindValues(rest)
	require.Len(t, list, 3)
	text, ok := list[0].text("int4")
	require.True(t, ok)
	require.Equal(t, "-2", text)
	_, ok = list[0].text("point")
	require.False(t, ok)
	text, ok = list[1].text("int4")
	require.True(t, ok)
	require.Equal(t, "x", text)
	_, ok = list[2].text("int4")
	require.False(t, ok)
	for i := range rest {
		if i < len(rest)-2 {
			require.Nil(t, bindValues(rest[:i]), i)
		}
	}
	one := bindValues([]byte{0, 1, 0, 1, 0, 2, 0, 0, 0, 2, 0, 1, 0, 0, 0, 2, 0, 2})
	for i, want := range []string{"1", "2"} { // one format is for all
		text, ok := one[i].text("int4")
		require.True(t, ok)
		require.Equal(t, want, text)
	}
}
