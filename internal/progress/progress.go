// Package progress tells people how far long work is.
package progress

import (
	"fmt"
	"io"
	"time"
)

// Interval is how often a Meter speaks if nothing else is said.
const Interval = 2 * time.Second

// Meter says how far work is once it has taken an interval, and every interval from then on; short
// work is silent. A Meter is for one goroutine.
type Meter struct {
	to    io.Writer
	every time.Duration
	next  time.Time
}

// Start begins the first interval. every is Interval if it is zero.
func Start(to io.Writer, every time.Duration) *Meter {
	if every == 0 {
		every = Interval
	}
	return &Meter{to: to, every: every, next: time.Now().Add(every)}
}

// Tell writes a line if it is time for one.
func (m *Meter) Tell(format string, args ...any) {
	if now := time.Now(); now.After(m.next) {
		m.next = now.Add(m.every)
		_, _ = fmt.Fprintf(m.to, format+"\n", args...)
	}
}
