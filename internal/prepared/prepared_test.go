package prepared

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRegistry(t *testing.T) {
	r := new(Registry)
	none, one := []byte{0, 0}, []byte{0, 1, 0, 0, 0, 23}
	a := r.Statement([]byte("select 1"), none, "")
	if a != r.Statement([]byte("select 1"), none, "") {
		t.Error("equal statements have two identities")
	}
	// No two different ones may be taken for one, however their parts are cut.
	all := []*Statement{a,
		r.Statement([]byte("select 1"), one, ""), r.Statement([]byte("select 2"), none, ""), r.Statement(nil, none, ""),
		r.SQLStatement("prepare ", " as select 1", ""), r.SQLStatement("prepare  ", "as select 1", ""), r.SQLStatement("", "prepare  as select 1", ""),
		r.Statement([]byte("select 1"), none, "public"), r.SQLStatement("prepare ", " as select 1", "public"),
		r.Statement([]byte("S\x00\x00\x00"), nil, ""),
	}
	names := map[string]bool{}
	for i, s := range all {
		if names[s.Name] || !strings.HasPrefix(s.Name, NamePrefix) {
			t.Errorf("statement %d has the name %q", i, s.Name)
		}
		names[s.Name] = true
	}
	if sql := r.SQLStatement("prepare ", " as select 1", ""); sql != all[4] || sql.SQL != "prepare "+sql.Name+" as select 1" {
		t.Errorf("%+v", sql)
	}
	if a.Text != "select 1" || a.Types != string(none) {
		t.Errorf("%+v", a)
	}
}

// What nobody has is forgotten, with the room it took; what somebody has is not.
func TestRegistryForgets(t *testing.T) {
	r := new(Registry)
	get := func(i int) *Statement { return r.Statement(fmt.Appendf(nil, "select %d", i), []byte{0, 0}, "") }
	kept := get(0)
	for i := range 10000 {
		get(i)
	}
	deadline := time.Now().Add(10 * time.Second)
	for known := func() int { r.mu.Lock(); defer r.mu.Unlock(); return max(len(r.known), r.most) }; known() > 1024; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("%d are known", known())
		}
	}
	if get(0) != kept {
		t.Error("one that somebody has was forgotten")
	}
	if name := get(1).Name; name == "_pgweir_2" {
		t.Error("a forgotten statement came back under its old name, which servers may hold still")
	}
	r.Forget(kept)
	if again := get(0); again == kept || again.Name == kept.Name {
		t.Error("a forgotten statement came back under its old name")
	}
	runtime.KeepAlive(kept)
}

// A registry that nobody has any more is collected, with the statements that it keeps for good.
func TestRegistryIsCollected(t *testing.T) {
	collected := make(chan struct{})
	func() {
		r := new(Registry)
		r.Own("begin")
		runtime.AddCleanup(r, func(c chan struct{}) { close(c) }, collected)
	}()
	for deadline := time.Now().Add(10 * time.Second); ; runtime.GC() {
		select {
		case <-collected:
			return
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("it is kept")
		}
	}
}

func TestRegistryIsConcurrent(t *testing.T) {
	r := new(Registry)
	var found sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				text := fmt.Sprintf("select %d", i)
				s := r.Statement([]byte(text), nil, "")
				if other, known := found.LoadOrStore(text, s); known && other != s {
					t.Errorf("%s has two identities", text)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkRegistry(b *testing.B) {
	r := new(Registry)
	text, types := []byte("select abalance from pgbench_accounts where aid = $1"), []byte{0, 0}
	b.ReportAllocs()
	for b.Loop() {
		r.Statement(text, types, "")
	}
}

// A connection keeps a bounded number beyond a batch, and says which must go, the least used first.
func TestHeld(t *testing.T) {
	t.Parallel()
	h := NewHeld(2)
	var r Registry
	get := func(text string) *Statement { return r.Statement([]byte(text), nil, "") }
	one, two, three := get("1"), get("2"), get("3")
	require.False(t, h.Holds(one))
	h.Hold(one)
	h.Hold(two)
	h.EndBatch()
	require.Empty(t, h.TakeOwed())
	require.True(t, h.Holds(one), "which uses it")
	h.Hold(three)
	require.True(t, h.Holds(one) && h.Holds(three), "none goes within a batch")
	h.EndBatch()
	require.Equal(t, []*Statement{two}, h.TakeOwed(), "the least recently used")
	require.True(t, !h.Holds(two) && h.Holds(one) && h.Holds(three))
	h.Drop(one)
	h.Hold(two)
	h.EndBatch()
	require.Empty(t, h.TakeOwed(), "a dropped one takes no room")
	h.Unnamed = 5
	h.Clear()
	require.True(t, !h.Holds(two) && !h.Holds(three) && h.Unnamed == 0)
}

func TestPassing(t *testing.T) {
	t.Parallel()
	var r Registry
	h := NewHeld(4)
	kept, passing := r.Statement([]byte("select 1"), nil, ""), r.Statement([]byte("select 2"), nil, "")
	h.Hold(kept)
	h.Hold(passing)
	h.Pass(passing)
	require.True(t, h.Holds(passing), "the batch it was prepared for may use it")
	h.EndBatch()
	require.True(t, h.Holds(kept))
	require.Equal(t, []*Statement{passing}, h.TakeOwed())
	require.False(t, h.Holds(passing))
	require.Empty(t, h.TakeOwed())
}
