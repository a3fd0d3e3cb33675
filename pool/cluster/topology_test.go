package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// said are the states of servers: "p1" calls itself primary on timeline 1, "r1" is a
// replica, with "-" behind it if it does not answer now, "~" if it is slow, and "x" if
// it has another system identifier, "=" if it is the first server by another name; "?" is nothing known, "!" never reached.
func said(texts ...string) (states []State) {
	for i, text := range texts {
		st := State{Server: NewServer("server"+strconv.Itoa(i), 0), SystemID: "1", Up: true}
		switch text[0] {
		case 'p':
			st.Role = RolePrimary
		case 'r':
			st.Role = RoleReplica
		case '!':
			st = State{Server: st.Server, Err: errDown}
		default:
			st = State{Server: st.Server, Err: ErrNoLogin}
		}
		if len(text) > 1 {
			st.Timeline = uint32(text[1] - '0')
		}
		if strings.HasSuffix(text, "-") {
			st.Up, st.Err = false, errDown
		}
		st.Slow = strings.HasSuffix(text, "~")
		if st.Started = strconv.Itoa(i); strings.HasSuffix(text, "=") {
			st.Started = "0"
		}
		if strings.HasSuffix(text, "x") {
			st.SystemID = "2"
		}
		states = append(states, st)
	}
	return states
}

func TestJudge(t *testing.T) {
	for _, try := range []struct {
		name     string
		servers  []string
		primary  int // -1 is none
		replicas []int
		others   string // servers of a status that is worth a word
	}{
		{"ordinary", []string{"p1", "r1", "r1"}, 0, []int{1, 2}, ""},
		{"any order", []string{"r1", "r1", "p1"}, 2, []int{0, 1}, ""},
		{"one alone", []string{"p1"}, 0, nil, ""},
		{"no primary", []string{"r1", "r1"}, -1, []int{0, 1}, ""},
		{"primary down", []string{"p1-", "r1"}, -1, []int{1}, "0 down"},
		{"replica down", []string{"p1", "r1-", "r1"}, 0, []int{2}, "1 down"},
		{"all down", []string{"p1-", "r1-"}, -1, nil, "0 down, 1 down"},
		{"never reached", []string{"p1", "!"}, 0, nil, "1 down"},
		{"two primaries, one newer", []string{"p1", "p2", "r2"}, 1, []int{2}, "0 fenced"},
		{"two primaries, the first newer", []string{"p2", "p1"}, 0, nil, "1 fenced"},
		{"two primaries alike", []string{"p1", "p1", "r1"}, -1, []int{2}, "0 split_brain, 1 split_brain"},
		{"one primary by two names", []string{"p1", "p1=", "r1"}, 0, []int{2}, "1 duplicate"},
		{"one of two by two names", []string{"p1", "p1", "p1="}, -1, nil, "0 split_brain, 1 split_brain, 2 duplicate"},
		{"three primaries alike", []string{"p1", "p1", "p1"}, -1, nil, "0 split_brain, 1 split_brain, 2 split_brain"},
		{"two alike and a newer one", []string{"p1", "p1", "p2"}, 2, nil, "0 fenced, 1 fenced"},
		{"two alike and an older one", []string{"p2", "p2", "p1"}, -1, nil, "0 split_brain, 1 split_brain, 2 fenced"},
		{"an older one, then two alike", []string{"p1", "p2", "p2"}, -1, nil, "0 fenced, 1 split_brain, 2 split_brain"},
		{"the newer one down", []string{"p1", "p2-"}, -1, nil, "0 fenced, 1 down"},
		{"a replica knows of a newer one", []string{"p1", "r2"}, -1, []int{1}, "0 fenced"},
		{"a replica does not follow", []string{"p2", "r1", "r2"}, 0, []int{2}, "1 diverged"},
		{"nor while the new primary is down", []string{"p2-", "r1", "r2"}, -1, []int{2}, "0 down, 1 diverged"},
		{"a replica of the old primary", []string{"p1", "r1", "p2"}, 2, nil, "0 fenced, 1 diverged"},
		{"a slow replica", []string{"p1", "r1~", "r1"}, 0, []int{2}, "1 slow"},
		{"the only replica is slow", []string{"p1", "r1~"}, 0, nil, "1 slow"},
		{"all are slow", []string{"p1~", "r1~"}, 0, []int{1}, "0 slow, 1 slow"},
		{"slow without a primary", []string{"p1-", "r1~"}, -1, []int{1}, "0 down, 1 slow"},
		{"a foreign server", []string{"p1", "r1", "p9x"}, 0, []int{1}, "2 foreign"},
		{"a foreign server first", []string{"p9x", "r1", "p1"}, 2, []int{1}, "0 foreign"},
		{"a foreign replica", []string{"p1", "r9x"}, 0, nil, "1 foreign"},
		{"foreign servers among themselves", []string{"p1", "p1x"}, -1, nil, "0 foreign, 1 foreign"},
		{"a foreign server while not all answer", []string{"!", "r1", "p1x"}, -1, nil, "0 down, 1 foreign, 2 foreign"},
		{"foreign to the most", []string{"!", "r1", "r1", "r1", "p1x"}, -1, []int{1, 2, 3}, "0 down, 4 foreign"},
		{"none", nil, -1, nil, ""},
	} {
		got := judge(said(try.servers...), &Topology{}, true)
		gotPrimary := -1
		if got.Primary != nil {
			gotPrimary = index(got.Primary)
		}
		var replicas []int
		for _, r := range got.Replicas {
			replicas = append(replicas, index(r))
		}
		var others []string
		for i, st := range got.States {
			if st.Status != StatusServing {
				others = append(others, fmt.Sprintf("%d %s", i, st.Status))
				if st.Status != StatusSlow && st.Err == nil {
					t.Errorf("%s: no reason is given for %s", try.name, st.Status)
				}
			}
		}
		if gotPrimary != try.primary || !slices.Equal(replicas, try.replicas) || strings.Join(others, ", ") != try.others || !got.Known {
			t.Errorf("%s: primary %d, replicas %v, %v; want %d, %v, %s",
				try.name, gotPrimary, replicas, others, try.primary, try.replicas, try.others)
		}
	}
}

// What was seen once is not forgotten: the identity, and that a timeline began.
func TestJudgeRemembers(t *testing.T) {
	first := judge(said("p2", "r2"), &Topology{}, true)
	if first.SystemID != "1" || first.Timeline != 2 {
		t.Fatalf("%+v", first)
	}
	if got := judge(said("p3x", "p1"), first, true); got.Primary != nil || got.States[0].Status != StatusForeign || got.States[1].Status != StatusFenced || got.Timeline != 2 {
		t.Errorf("%+v", got)
	}
	if got := judge(said("!", "p3"), first, true); got.Primary == nil || got.Timeline != 3 {
		t.Errorf("%+v", got)
	}
	// A promotion by mistake is over once its server is made anew.
	if got := judge(said("p1", "r1"), first, true); got.Primary == nil || got.Timeline != 1 {
		t.Errorf("%+v", got)
	}
	if got := judge(said("p1", "!"), first, true); got.Primary != nil || got.Timeline != 2 {
		t.Errorf("%+v", got)
	}
	// Nor does it end where both names lead to the server that was succeeded.
	if got := judge(said("p1", "p1="), first, true); got.Primary != nil || got.Timeline != 2 {
		t.Errorf("%+v", got)
	}
}

// A primary that was lost and comes back as it was may have a successor that does not
// answer. It waits for that one's answer, or its end.
func TestJudgeDoubts(t *testing.T) {
	before := judge(said("p1", "r1"), &Topology{}, true)
	lost := judge(said("p1-", "r1"), before, true)
	for _, test := range []struct {
		before  *Topology
		servers []string
		primary bool
	}{
		{before, []string{"p1", "r1~"}, true}, // it was never lost
		{lost, []string{"p1", "r1"}, true},
		{lost, []string{"p1", "r1~"}, false},
		{lost, []string{"p1~", "r1"}, true},
		{lost, []string{"p1", "r1-"}, true},
		{lost, []string{"p1-", "p2"}, true},
		{lost, []string{"p1~", "p2"}, true}, // a new timeline tells who it is
	} {
		states := said(test.servers...)
		for i := range states {
			states[i].Probed = Now()
		}
		got := judge(states, test.before, true)
		if (got.Primary != nil) != test.primary {
			t.Errorf("%v: primary %v", test.servers, got.Primary)
		}
		if !test.primary && (got.States[0].Status != StatusUnknown || got.States[0].Err == nil) {
			t.Errorf("%v: %+v", test.servers, got.States[0])
		}
	}
	again := func(of *Topology, texts ...string) []State {
		states := said(texts...)
		for i := range states {
			states[i].Server = of.States[i].Server
		}
		return states
	}
	lost.States[0].Since = time.Now()
	asked := again(lost, "p1", "r1-")
	asked[1].Probed = MomentOf(lost.States[0].Since) - 1
	if got := judge(asked, lost, true); got.Primary != nil {
		t.Errorf("nobody has asked since: %+v", got)
	}
	asked[1].Probed = MomentOf(lost.States[0].Since)
	if got := judge(asked, lost, true); got.Primary == nil {
		t.Errorf("it was asked: %+v", got)
	}
	asked = again(lost, "p1", "r1") // it answers clients, not the question
	asked[1].Probed = MomentOf(lost.States[0].Since) - 1
	if got := judge(asked, lost, true); got.Primary != nil {
		t.Errorf("nobody has asked since: %+v", got)
	}
	early := judge(said("p1-", "!"), &Topology{}, false) // lost before the other one had time to answer
	if got := judge(again(early, "p1", "r1~"), early, true); got.Primary != nil {
		t.Errorf("it was known: %+v", got)
	}
	early = judge(said("p1-", "!", "r1"), &Topology{}, false)
	if got := judge(again(early, "p1-", "?", "p1"), early, true); got.Primary != nil {
		t.Errorf("it was known by another name: %+v", got)
	}
	lost = judge(said("p1-", "r1", "r1"), judge(said("p1", "r1", "r1"), &Topology{}, true), true)
	lost.States[0].Since = time.Now()
	asked = again(lost, "p1-", "r1", "p1")
	for i := range asked {
		asked[i].Probed = MomentOf(lost.States[0].Since)
	}
	if got := judge(asked, lost, true); got.Primary == nil {
		t.Errorf("all were asked: %+v", got)
	}
	asked = again(lost, "p1-", "r1", "p1")
	asked[0].Probed, asked[1].Probed = MomentOf(lost.States[0].Since), MomentOf(lost.States[0].Since)-1
	if got := judge(asked, lost, true); got.Primary != nil {
		t.Errorf("nobody has asked since it was lost under another name: %+v", got)
	}
}

// Before all servers had time to answer nothing is used.
func TestJudgeWaits(t *testing.T) {
	got := judge(said("p1", "?"), &Topology{}, false)
	if got.Known || got.Primary != nil || got.SystemID != "" || got.States[0].Status != StatusUnknown {
		t.Errorf("%+v", got)
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

// A server that was away takes its share of reads little by little.
func TestReturning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ss := servers(1, 1)
		tp := &Topology{Replicas: ss}
		ss[1].returned.Store(int64(Now()))
		last := 0
		for step := range 5 {
			got := shares(tp, 640, 64)[1]
			if step == 0 && got > 40 || got < last {
				t.Errorf("after %v of %v: %d of 640 reads, %d before", time.Duration(step)*returning/4, returning, got, last)
			}
			last = got
			time.Sleep(returning / 4)
		}
		if last < 300 || ss[1].returned.Load() != 0 {
			t.Errorf("in the end it has %d of 640 reads", last)
		}
	})
}

// The primary takes its share of reads only where it may.
func TestReader(t *testing.T) {
	ss := servers(1, 1)
	c := New(Options{Servers: ss})
	set := func(primaryUp, replicaUp bool) {
		c.update(func(states []State) {
			states[0] = State{Server: ss[0], Role: RolePrimary, Up: primaryUp, Err: errDown}
			states[1] = State{Server: ss[1], Role: RoleReplica, Up: replicaUp, Err: errDown}
		})
	}
	reader := func(primary bool) int {
		s := c.Reader(primary, AnyTime)
		if s == nil {
			return -1
		}
		return index(s)
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
