package cluster

import (
	"slices"
	"testing"
)

// TestJudge: each server is "p1" (calls itself primary, timeline 1), "r1", with "-" behind it
// if it does not answer, or "?" if nothing is known of it.
func TestJudge(t *testing.T) {
	for _, try := range []struct {
		name     string
		servers  []string
		primary  int // -1 is none
		replicas []int
		known    bool
	}{
		{"ordinary", []string{"p1", "r1", "r1"}, 0, []int{1, 2}, true},
		{"any order", []string{"r1", "r1", "p1"}, 2, []int{0, 1}, true},
		{"one alone", []string{"p1"}, 0, nil, true},
		{"no primary", []string{"r1", "r1"}, -1, []int{0, 1}, true},
		{"primary down", []string{"p1-", "r1"}, -1, []int{1}, true},
		{"replica down", []string{"p1", "r1-", "r1"}, 0, []int{2}, true},
		{"all down", []string{"p1-", "r1-"}, -1, nil, true},
		{"two primaries, one newer", []string{"p1", "p2", "r2"}, 1, []int{2}, true},
		{"two primaries, the first newer", []string{"p2", "p1"}, 0, nil, true},
		{"two primaries alike", []string{"p1", "p1", "r1"}, -1, []int{2}, true},
		{"three primaries alike", []string{"p1", "p1", "p1"}, -1, nil, true},
		{"two alike and a newer one", []string{"p1", "p1", "p2"}, 2, nil, true},
		{"two alike and an older one", []string{"p2", "p2", "p1"}, -1, nil, true},
		{"an older one, then two alike", []string{"p1", "p2", "p2"}, -1, nil, true},
		{"the newer one down", []string{"p1", "p2-"}, 0, nil, true},
		{"a replica on another timeline", []string{"p2", "r1"}, 0, []int{1}, true},
		{"nothing known", []string{"?", "?"}, -1, nil, false},
		{"one not known", []string{"p1", "?"}, 0, nil, false},
		{"none", nil, -1, nil, true},
	} {
		var states []State
		for i, text := range try.servers {
			st := State{Server: &Server{Index: i}, Up: len(text) == 2}
			switch text[0] {
			case 'p':
				st.Role = RolePrimary
			case 'r':
				st.Role = RoleReplica
			default:
				st.Err = ErrNoLogin
			}
			if len(text) > 1 {
				st.Timeline = uint32(text[1] - '0')
			}
			states = append(states, st)
		}
		got := judge(states)
		gotPrimary := -1
		if got.Primary != nil {
			gotPrimary = got.Primary.Index
		}
		var replicas []int
		for _, r := range got.Replicas {
			replicas = append(replicas, r.Index)
		}
		if gotPrimary != try.primary || !slices.Equal(replicas, try.replicas) || got.Known != try.known {
			t.Errorf("%s: primary %d, replicas %v, known %v; want %d, %v, %v",
				try.name, gotPrimary, replicas, got.Known, try.primary, try.replicas, try.known)
		}
	}
}

// shares is how often each replica is picked of many times, each use lasting for
// the given number of further picks.
func shares(t *Topology, picks, lasting int) []int {
	counts := make([]int, len(t.Replicas))
	var using []*Server
	for i := range picks {
		s := t.Replica(uint32(i), AnyTime)
		counts[slices.Index(t.Replicas, s)]++
		s.Begin()
		if using = append(using, s); len(using) > lasting {
			using[0].End()
			using = using[1:]
		}
	}
	return counts
}

func TestWeights(t *testing.T) {
	for _, try := range []struct {
		weights []int
		lasting int
		want    []int // of 1200 picks
	}{
		{[]int{1, 1}, 0, []int{600, 600}},
		{[]int{1, 1, 1}, 10, []int{400, 400, 400}},
		{[]int{1, 3}, 40, []int{300, 900}},
		{[]int{2, 0, 1}, 30, []int{800, 0, 400}},
		{[]int{0, 0}, 5, []int{600, 600}},
	} {
		got := shares(&Topology{Replicas: servers(try.weights...)}, 1200, try.lasting)
		for i := range got {
			if d := got[i] - try.want[i]; d < -60 || d > 60 {
				t.Errorf("weights %v: picked %v times, want about %v", try.weights, got, try.want)
				break
			}
		}
	}
}

func TestReplica(t *testing.T) {
	if s := (&Topology{}).Replica(7, AnyTime); s != nil {
		t.Errorf("of none: %v", s)
	}
	ss := servers(1, 1, 1)
	ss[0].Begin()
	ss[2].Begin()
	tp := &Topology{Replicas: ss}
	for turn := range uint32(5) {
		if s := tp.Replica(turn, AnyTime); s != ss[1] {
			t.Errorf("turn %d: %s, not the one at leisure", turn, s.Address)
		}
	}
	tp.Replica(1<<32-1, AnyTime) // turns wrap around
}

// The primary takes its share of reads only where it may.
func TestReader(t *testing.T) {
	ss := servers(1, 1)
	c := New(Options{Servers: ss})
	set := func(primaryUp, replicaUp bool) {
		c.update(func(states []State) {
			states[0] = State{Server: ss[0], Role: RolePrimary, Up: primaryUp}
			states[1] = State{Server: ss[1], Role: RoleReplica, Up: replicaUp}
		})
	}
	reader := func(primary bool) int {
		s := c.Reader(primary, AnyTime)
		if s == nil {
			return -1
		}
		return s.Index
	}
	set(true, true)
	ss[1].Begin()
	for want, got := range map[string][2]int{
		"not the primary":         {reader(false), 1},
		"the primary, at leisure": {reader(true), 0},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d", want, got[0])
		}
	}
	ss[0].Begin()
	if reader(true) != 1 {
		t.Error("among equals the replica reads")
	}
	set(true, false)
	if reader(false) != -1 || reader(true) != 0 {
		t.Error("without a replica")
	}
	set(false, true)
	if reader(false) != 1 || reader(true) != 1 {
		t.Error("without a primary")
	}
}

func BenchmarkReader(b *testing.B) {
	ss := servers(1, 1, 1)
	c := New(Options{Servers: ss})
	c.update(func(states []State) {
		for i := range states {
			states[i] = State{Server: ss[i], Role: RoleReplica, Up: true}
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		if c.Reader(false, AnyTime) == nil {
			b.Fatal("none")
		}
	}
}
