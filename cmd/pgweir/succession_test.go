package main

import (
	"slices"
	"testing"
)

func TestSuccession(t *testing.T) {
	for _, try := range []struct {
		timelines   []int // 0 is a replica
		newest, old []int
	}{
		{[]int{1, 0}, []int{0}, nil},
		{[]int{0, 0}, nil, nil},
		{[]int{1, 2, 0}, []int{1}, []int{0}},
		{[]int{2, 1, 2}, []int{0, 2}, []int{1}},
		{[]int{1, 1, 3}, []int{2}, []int{0, 1}},
	} {
		var states []serverState
		for _, line := range try.timelines {
			states = append(states, serverState{replica: line == 0, timeline: line})
		}
		if newest, old := succession(states); !slices.Equal(newest, try.newest) || !slices.Equal(old, try.old) {
			t.Errorf("%v: %v, %v", try.timelines, newest, old)
		}
	}
}
