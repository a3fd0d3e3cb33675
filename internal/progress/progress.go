// Package progress tells people how far long work is.
package progress

import (
	"cmp"
	"fmt"
	"io"
	"time"
)

// Interval is how often a Meter speaks if nothing else is said.
const Interval = 2 * time.Second

// Meter says how far work is once it has gone on for an interval, and every interval from then on;
// short work is silent. A Meter is for one goroutine.
type Meter struct {
	To    io.Writer
	Every time.Duration // Interval if it is zero

	next time.Time
}

// Tell writes a line if it is time for one. The first interval begins with the first call.
func (m *Meter) Tell(format string, args ...any) {
	switch now := time.Now(); {
	case m.next.IsZero():
		m.next = now.Add(cmp.Or(m.Every, Interval))
	case now.After(m.next):
		m.next = now.Add(cmp.Or(m.Every, Interval))
		_, _ = fmt.Fprintf(m.To, format+"\n", args...)
	}
}
