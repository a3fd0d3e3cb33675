package cluster

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func members(addresses ...string) (ms []Member) {
	for _, a := range addresses {
		ms = append(ms, Member{Address: a, Weight: 1})
	}
	return ms
}

// settle lets a few probes pass.
func settle() {
	time.Sleep(3 * interval)
	synctest.Wait()
}

func (w *watched) addresses() (as []string) {
	for _, st := range w.Topology().States {
		as = append(as, st.Server.Address)
	}
	return as
}

// Servers come, go and come back while others are in use.
func TestMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		settle()
		w.fakes.set(2, replica(1), nil)
		if err := w.SetMembers(members("server0", "server1", "server2")); err != nil {
			t.Fatal(err)
		}
		settle()
		tp := w.Topology()
		if len(tp.Replicas) != 2 || tp.Primary != w.servers[0] || tp.States[0].Server != w.servers[0] {
			t.Fatalf("a new server: %+v", tp.States)
		}
		// One that is in use stays known until it is not.
		gone := w.servers[1]
		gone.Begin()
		_ = w.SetMembers(members("server0", "server2"))
		settle()
		if tp := w.Topology(); len(tp.Replicas) != 1 || tp.Replicas[0].Address != "server2" || tp.State(gone).Status != StatusLeaving || tp.Abandoned(gone) {
			t.Fatalf("while it leaves: %+v", tp.States)
		}
		_ = w.SetMembers(members("server0", "server1", "server2"))
		settle()
		if tp := w.Topology(); tp.State(gone).Status != StatusServing || len(tp.Replicas) != 2 {
			t.Fatalf("it came back: %+v", tp.States)
		}
		_ = w.SetMembers(members("server0", "server2"))
		gone.End()
		settle()
		if got := w.addresses(); !slices.Equal(got, []string{"server0", "server2"}) || w.Topology().Has(gone) {
			t.Errorf("it has left: %v", got)
		}
		w.fakes.forget()
		settle()
		if n := w.fakes.count(); n > 8 {
			t.Errorf("%d probes of two servers in three intervals", n)
		}
		if err := w.SetMembers(nil); err == nil || len(w.Topology().States) != 2 {
			t.Errorf("no server: %v", err)
		}
	})
}

// A primary that is not listed stays it until another one is, or it is one no more.
func TestPrimaryThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1))
		settle()
		old := w.servers[0]
		_ = w.SetMembers(members("server1"))
		settle()
		st := w.Topology().State(old)
		if w.Topology().Primary != old || st.Status != StatusServing || !st.Unlisted() || st.Err == nil {
			t.Fatalf("it is the only one: %+v", w.Topology().States)
		}
		_ = w.SetMembers(members("server0", "server1"))
		if st := w.Topology().State(old); st.Unlisted() || st.Err != nil {
			t.Fatalf("it is listed again: %+v", st)
		}
		_ = w.SetMembers(members("server1"))
		settle()
		old.Begin() // a session writes there
		w.fakes.set(1, primary(2), nil)
		settle()
		if tp := w.Topology(); tp.Primary != w.servers[1] || tp.State(old).Status != StatusFenced || !tp.Abandoned(old) {
			t.Errorf("another is the primary: %+v", tp.States)
		}
		old.End()
		settle()
		if w.Topology().Has(old) {
			t.Errorf("nothing runs there: %+v", w.Topology().States)
		}
	})
}

// A cluster may begin with no server at all.
func TestMembersFromNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		w.fakes.set(0, primary(1), nil)
		settle()
		if tp := w.Topology(); tp.Known || len(tp.States) != 0 {
			t.Errorf("nothing is known: %+v", tp)
		}
		_ = w.SetMembers(members("server0"))
		settle()
		if tp := w.Topology(); !tp.Known || tp.Primary == nil {
			t.Errorf("one came: %+v", tp)
		}
	})
}

// A weight that changes does not disturb its server.
func TestMemberWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, primary(1), replica(1), replica(1))
		settle()
		ms := members("server0", "server1", "server2")
		ms[1].Weight = 0
		_ = w.SetMembers(ms)
		settle()
		for turn := range uint32(4) {
			if s := w.Topology().Replica(turn, AnyTime); s != w.servers[2] {
				t.Errorf("%v serves a read", s.Address)
			}
		}
	})
}
