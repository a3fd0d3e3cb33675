package batch

import (
	"testing"

	"github.com/pgweir/pgweir/internal/setting"
)

// passThrough are batches that go as they came.
func passThrough() map[string]*asked {
	query := newAsked()
	query.query("SELECT 1")
	unnamed := newAsked()
	unnamed.parseMessage("", "SELECT $1")
	unnamed.describe("")
	unnamed.run("", "1")
	unnamed.sync()
	return map[string]*asked{"query": query, "unnamed": unnamed}
}

func TestPassThroughAllocatesNothing(t *testing.T) {
	for name, a := range passThrough() {
		a.Encode()
		if n := testing.AllocsPerRun(100, func() { a.Attempt.Reset(); a.Encode() }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	batches := passThrough()
	named := newAsked()
	named.prepare("mine", "SELECT $1")
	named.holds("mine")
	named.run("mine", "1")
	named.sync()
	batches["named"] = named
	within := newAsked()
	within.query("SELECT 1")
	batches["settings within"] = within
	opening := newAsked()
	opening.query("SELECT 1")
	opening.begin("BEGIN", "SET LOCAL app.tenant = '7'")
	batches["opening"] = opening
	for _, name := range []string{"query", "unnamed", "named", "settings within", "opening"} {
		a := batches[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a.Attempt.Reset()
				switch name {
				case "settings within":
					a.Takes, a.Changes = TakesWithin, someChanges
				case "opening":
					a.Replays = ReplaysBlock
				}
				a.Encode()
			}
		})
	}
}

var someChanges = []setting.Change{{Name: "app.tenant", Value: "7"}}
