package main

import (
	"slices"
	"testing"

	"github.com/pgweir/pgweir/pool/cluster"
)

func TestSuccession(t *testing.T) {
	for _, try := range []struct {
		timelines   []uint32 // 0 is a replica
		newest, old []int
	}{
		{[]uint32{1, 0}, []int{0}, nil},
		{[]uint32{0, 0}, nil, nil},
		{[]uint32{1, 2, 0}, []int{1}, []int{0}},
		{[]uint32{2, 1, 2}, []int{0, 2}, []int{1}},
		{[]uint32{1, 1, 3}, []int{2}, []int{0, 1}},
	} {
		var states []serverState
		for _, line := range try.timelines {
			states = append(states, serverState{Probe: cluster.Probe{InRecovery: line == 0, Timeline: line}})
		}
		if newest, old := succession(states); !slices.Equal(newest, try.newest) || !slices.Equal(old, try.old) {
			t.Errorf("%v: %v, %v", try.timelines, newest, old)
		}
	}
	twice := serverState{Probe: cluster.Probe{Timeline: 1, Started: "2026-01-01", SystemID: "7"}}
	other := twice
	other.Started = "2026-01-02"
	if newest, old := succession([]serverState{twice, twice, other}); !slices.Equal(newest, []int{0, 2}) || len(old) > 0 {
		t.Errorf("one server by two addresses, and another: %v, %v", newest, old)
	}
}
