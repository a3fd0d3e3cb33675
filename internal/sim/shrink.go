package sim

import (
	"slices"
	"strings"
	"time"
)

// shrink leaves out of a history that fails what it fails without, and returns the shortest
// found until a deadline, with what came of it.
func shrink(h *History, o *Outcome, play func(*History) *Outcome, deadline time.Time) (*History, *Outcome) {
	kind := kindOf(o)
	for smaller := true; smaller; {
		smaller = false
		for candidate := range candidates(h) {
			if time.Now().After(deadline) {
				return h, o
			}
			if got := play(candidate); len(got.Faults) > 0 && kindOf(got) == kind {
				h, o, smaller = candidate, got, true
				break
			}
		}
	}
	return h, o
}

// kindOf is a fault's nature: its text without what differs from run to run.
func kindOf(o *Outcome) string {
	f := markers.ReplaceAllString(o.Faults[0], "")
	for _, known := range []string{"ran otherwise", "does not see", "never committed", "is gone", "was done", "believes", "logs an error", "no answer",
		"at rest", "the connection ended", "cannot log in", "could not log in", "the model", "wanted", "in the end", "bubble"} {
		if strings.Contains(f, known) {
			return known
		}
	}
	return ""
}

// candidates are histories with less in them, those with least first.
func candidates(h *History) func(yield func(*History) bool) {
	return func(yield func(*History) bool) {
		for i := range h.Scripts {
			if len(h.Scripts[i].Steps) > 0 && !yield(h.with(func(h *History) { h.Scripts[i].Steps = nil })) {
				return
			}
		}
		for i := range h.Faults {
			if !yield(h.with(func(h *History) { h.Faults = slices.Delete(h.Faults, i, i+1) })) {
				return
			}
		}
		for i := range h.Events {
			if !yield(h.with(func(h *History) { h.Events = slices.Delete(h.Events, i, i+1) })) {
				return
			}
		}
		for i := range h.Scripts {
			n := len(h.Scripts[i].Steps)
			for size := n / 2; size > 0; size /= 2 {
				for at := 0; at+size <= n; at += size {
					if !yield(h.with(func(h *History) { h.Scripts[i].Steps = slices.Delete(h.Scripts[i].Steps, at, at+size) })) {
						return
					}
				}
			}
		}
		for _, simpler := range simplify(h) {
			if !yield(simpler) {
				return
			}
		}
	}
}

// simplify are histories with a plainer world, or fewer calls in a step.
func simplify(h *History) (out []*History) {
	k := &h.Knobs
	if k.Stall > 0 {
		out = append(out, h.with(func(h *History) { h.Knobs.Stall = 0 }))
	}
	if k.Replicas > 0 {
		out = append(out, h.with(func(h *History) { h.Knobs.Replicas-- }))
	}
	if k.Lag > 0 {
		out = append(out, h.with(func(h *History) { h.Knobs.Lag = 0 }))
	}
	if k.Statements > 0 {
		out = append(out, h.with(func(h *History) { h.Knobs.Statements = 0 }))
	}
	if k.Verify {
		out = append(out, h.with(func(h *History) { h.Knobs.Verify = false }))
	}
	for i := range h.Scripts {
		if len(h.Scripts[i].Options) > 0 {
			out = append(out, h.with(func(h *History) { h.Scripts[i].Options = nil }))
		}
		for j := range h.Scripts[i].Steps {
			for c := range h.Scripts[i].Steps[j].Calls {
				if len(h.Scripts[i].Steps[j].Calls) > 1 {
					out = append(out, h.with(func(h *History) {
						s := &h.Scripts[i].Steps[j]
						s.Calls = slices.Delete(slices.Clone(s.Calls), c, c+1)
					}))
				}
				for _, flush := range []func(c *Call) *bool{func(c *Call) *bool { return &c.Flush }, func(c *Call) *bool { return &c.Apart }} {
					if *flush(&h.Scripts[i].Steps[j].Calls[c]) {
						out = append(out, h.with(func(h *History) {
							s := &h.Scripts[i].Steps[j]
							s.Calls = slices.Clone(s.Calls)
							*flush(&s.Calls[c]) = false
						}))
					}
				}
			}
		}
	}
	return out
}

// with returns a copy that was changed.
func (h *History) with(change func(*History)) *History {
	c := *h
	c.Faults, c.Events = slices.Clone(h.Faults), slices.Clone(h.Events)
	c.Scripts = slices.Clone(h.Scripts)
	for i := range c.Scripts {
		c.Scripts[i].Steps = slices.Clone(c.Scripts[i].Steps)
	}
	change(&c)
	return &c
}
