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

// A connection holds a bounded number, and says which must go, the least used first.
func TestHeld(t *testing.T) {
	b := NewHeld(2)
	r := new(Registry)
	get := func(text string) *Statement { return r.Statement([]byte(text), nil, "") }
	one, two, three := get("1"), get("2"), get("3")
	if b.Holds(one) || len(b.Hold(one)) != 0 || len(b.Hold(two)) != 0 || !b.Holds(one) {
		t.Fatal("the first two")
	}
	if out := b.Hold(three); len(out) != 1 || out[0] != two {
		t.Errorf("to make room goes %v", out)
	}
	if b.Holds(two) || !b.Holds(one) || !b.Holds(three) {
		t.Error("held are others")
	}
	b.Drop(one)
	b.Drop(two)
	if b.Holds(one) || len(b.Hold(two)) != 0 {
		t.Error("a dropped one takes room")
	}
	b.Unnamed = 5
	b.Clear()
	if b.Holds(two) || b.Holds(three) || b.Unnamed != 0 {
		t.Error("Clear leaves something")
	}
	if out := b.Hold(one); len(out) != 0 {
		t.Errorf("to make room goes %v", out)
	}
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
	require.False(t, h.Keeps(passing))
	require.True(t, h.Keeps(kept))
	require.Equal(t, []*Statement{passing}, h.TakeOwed())
	require.False(t, h.Holds(passing))
	require.Empty(t, h.TakeOwed())
}
