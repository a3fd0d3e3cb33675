package backend

import (
	"testing"

	"github.com/pgweir/pgweir/internal/prepared"
)

// A connection holds a bounded number, and says which must go, the least used first.
func TestHeld(t *testing.T) {
	b := New(&Login{}, 2)
	r := prepared.NewRegistry(10)
	get := func(text string) *prepared.Statement { return r.Statement([]byte(text), nil, "") }
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
	b.DropAll()
	if b.Holds(two) || b.Holds(three) || b.Unnamed != 0 {
		t.Error("DropAll leaves something")
	}
	if out := b.Hold(one); len(out) != 0 {
		t.Errorf("to make room goes %v", out)
	}
}
