package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// probe reads a counter that only grows.
type probe func(context.Context) (float64, error)

// reading is what a probe told and when.
type reading struct {
	at    time.Time
	value float64
}

// watch reads p at once and then at intervals until ctx ends, which is no error.
func watch(ctx context.Context, every time.Duration, p probe) ([]reading, error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var all []reading
	for {
		v, err := p(ctx)
		if ctx.Err() != nil {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, reading{time.Now(), v})
		select {
		case <-ctx.Done():
			return all, nil
		case <-tick.C:
		}
	}
}

// nothing is the probe of a system without a proxy.
func nothing(context.Context) (float64, error) { return 0, nil }

// cpuOf tells the CPU time of a process, user and system of all its threads, in
// microseconds. The kernel keeps it in nanoseconds, where /proc counts ticks of 10 ms.
func cpuOf(pid int) probe {
	// The clock of another process is made of its complemented id and the kind of
	// clock; see clock_getcpuclockid(3).
	const scheduler = 2
	clock := int32(^pid<<3 | scheduler)
	return func(context.Context) (float64, error) {
		var ts unix.Timespec
		if err := unix.ClockGettime(clock, &ts); err != nil {
			return 0, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
		}
		return float64(ts.Nano()) / 1e3, nil
	}
}

// chainOf tells the CPU time of processes and all their children, as cpuOf does. What a
// child had used when it was last seen stays counted after its end.
func chainOf(pids ...int) probe {
	used := map[int]float64{}
	return func(ctx context.Context) (sum float64, err error) {
		for _, pid := range pids {
			if used[pid], err = cpuOf(pid)(ctx); err != nil {
				return 0, err
			}
			for _, child := range children(pid) {
				if v, err := cpuOf(child)(ctx); err == nil { // else it has just ended
					used[child] = v
				}
			}
		}
		for _, v := range used {
			sum += v
		}
		return sum, nil
	}
}

// children are the processes that any thread of a process has started and that live.
func children(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is valid
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread that has ended has none
		for _, word := range bytes.Fields(text) {
			child, _ := strconv.Atoi(string(word)) // the kernel wrote a number
			all = append(all, child)
		}
	}
	return all
}

// resident is the memory of a process that is in RAM, in bytes.
func resident(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return parseRollup(text)
}

// parseRollup finds the line "Rss: 1234 kB".
func parseRollup(text []byte) (float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) == 3 && string(f[0]) == "Rss:" {
			kb, err := strconv.ParseFloat(string(f[1]), 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no Rss in %q", text)
}

// settled returns the resident size of a process once it has not changed by more than
// half a per cent for two seconds, or as it stands after a quarter of a minute.
func settled(ctx context.Context, pid int) (float64, error) {
	const every, steady, longest = 250 * time.Millisecond, 8, 60
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, same := 0.0, 0
	for range longest {
		rss, err := resident(pid)
		if err != nil {
			return 0, err
		}
		if change := rss - last; change > rss/200 || change < -rss/200 {
			last, same = rss, 0
		} else if same++; same == steady {
			return rss, nil
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-tick.C:
		}
	}
	return last, nil
}
