package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// History is what is played: data, made from a seed or by hand, that says everything a run
// does but for what the seed draws of the network and the servers. Leaving parts of it out
// makes another history, which is how one that fails is made short.
type History struct {
	Seed    Seed
	Knobs   Knobs
	Scripts []Script
	Events  []Event
	Faults  []Fault
}

// Knobs are how the proxy and the servers are set up.
type Knobs struct {
	Direct      bool // without a proxy: what is wrong then is the model's fault, or the oracle's
	Replicas    int
	PoolSize    int
	Consistency string
	Wait        time.Duration // freshness_wait
	Verify      bool          // connections are asked what they carry as they are released
	Declared    bool          // the tenant's setting is in the configuration
	Statements  int           // pool.max_statements
	Lag         time.Duration // of replicas
	Async       bool          // synchronous_commit is off
	Slots       int           // of each server; 0 is no bound
	Delay       time.Duration // of the network, at most
	Stall       int           // of 1,000 pieces
	Acquire     time.Duration // pool.acquire_timeout, where sessions have to share connections; 0 is the default
	SCRAM       bool          // everybody proves who he is, to the proxy and to the servers
}

// Script is what one client does, one step after the other. A step is at hand by its
// place; markers in its texts and arguments name session and step, so that everything a
// server runs can be traced to who sent it.
type Script struct {
	Name    string
	User    string
	Options map[string]string // startup parameters
	Steps   []Step
}

// Step is what a client sends at once, and waits for the answer of.
type Step struct {
	Wait   time.Duration // before it
	Simple string        // one simple query
	Calls  []Call        // or messages of the extended protocol, with a Sync behind the last
	Copy   string        // what a simple query that asks for it is given (COPY FROM STDIN)
	Redial bool          // or: leave, and come back as a new session
	Vanish bool          // or: go without a word in the middle of the next step
	Cancel time.Duration // a cancel request goes out so long after it; 0 is none
	Check  check         // what is expected beyond what one server would answer
}

// copyFails as Step.Copy is that the client fails.
const copyFails = "\x00"

// check says how a step's answer is judged.
type check uint8

const (
	asOne    check = iota // as one server alone answers: it concerns what the session owns
	appends               // it adds the marker to what all sessions share
	observes              // it reads what all share
)

// Call is one Parse, Bind, Describe and Execute; parts are left out where they are empty.
type Call struct {
	Name  string // of the prepared statement
	Parse string // its text; empty with a Name binds one that is there
	Args  []string
	Rows  uint32 // at most; 0 is all
	Close bool   // the statement, in place of running it
	Only  bool   // Parse and Describe only
	Bare  bool   // it is not described
	Again bool   // go on with the unnamed portal, whatever it holds
	Flush bool   // a Flush follows, and what is behind it is sent once the answers are there
	Apart bool   // the Execute is behind a Flush, too
}

// Event happens to servers at a time after the beginning.
type Event struct {
	At   time.Duration
	Do   Deed
	On   string // server, or session
	For  time.Duration
	Text string // SQL, for Admin; the other server, for Exchange
	Next *Knobs // for Reload
}

// Deed is what an Event does.
type Deed string

// The deeds.
const (
	Crash     Deed = "crash"     // the server is gone without a word; it starts again after For
	Stop      Deed = "stop"      // it shuts down, ending its sessions; it starts again after For
	Promote   Deed = "promote"   // the primary is gone for good, and another takes over
	Freeze    Deed = "freeze"    // nothing reaches it or leaves it for a while
	Reset     Deed = "reset"     // its connections break
	Lag       Deed = "lag"       // it replays later by For, from now on
	Exchange  Deed = "exchange"  // its name and that of another change places, for a while or for good
	Admin     Deed = "admin"     // somebody runs SQL on the primary past the proxy
	Terminate Deed = "terminate" // a session on it is ended by an administrator
	Cancel    Deed = "cancel"    // what a session on it runs is canceled by an administrator
	Reload    Deed = "reload"    // the proxy's configuration is another one from now on
	Drain     Deed = "drain"     // the proxy shuts down
)

// has reports whether a deed is among the events.
func (h *History) has(d Deed) bool {
	return slices.ContainsFunc(h.Events, func(e Event) bool { return e.Do == d })
}

// shares reports whether sessions may have to wait for connections that others have.
func (h *History) shares() bool {
	few := func(k *Knobs) bool { return k != nil && k.PoolSize < len(h.Scripts) }
	return few(&h.Knobs) || slices.ContainsFunc(h.Events, func(e Event) bool { return few(e.Next) })
}

// String prints the history as a script.
func (h *History) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %+v\n", h.Seed, h.Knobs)
	for _, e := range h.Events {
		fmt.Fprintf(&b, "  at %v: %s %s", e.At, e.Do, e.On)
		if e.For > 0 {
			fmt.Fprintf(&b, " for %v", e.For)
		}
		if e.Text != "" {
			fmt.Fprintf(&b, ": %s", e.Text)
		}
		if e.Next != nil {
			fmt.Fprintf(&b, ": %+v", *e.Next)
		}
		b.WriteByte('\n')
	}
	for i := range h.Faults {
		fmt.Fprintf(&b, "  %v\n", &h.Faults[i])
	}
	for i := range h.Scripts {
		s := &h.Scripts[i]
		if len(s.Steps) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s (%s", s.Name, s.User)
		for _, k := range sortedKeys(s.Options) {
			fmt.Fprintf(&b, ", %s=%s", k, s.Options[k])
		}
		b.WriteString("):\n")
		for j := range s.Steps {
			fmt.Fprintf(&b, "  %2d %s\n", j, s.Steps[j].String())
		}
	}
	return b.String()
}

func (s *Step) String() string {
	var b strings.Builder
	if s.Wait >= time.Millisecond {
		fmt.Fprintf(&b, "[%v] ", s.Wait.Round(time.Millisecond))
	}
	switch {
	case s.Redial:
		b.WriteString("-- leaves and comes back")
	case s.Vanish:
		b.WriteString("-- vanishes in the next step, and comes back")
	case s.Calls == nil:
		b.WriteString(s.Simple)
	}
	if s.Copy != "" {
		fmt.Fprintf(&b, " <- %q", s.Copy)
	}
	for i := range s.Calls {
		b.WriteString(s.Calls[i].String() + " · ")
		if s.Calls[i].Flush {
			b.WriteString("Flush · ")
		}
	}
	if s.Calls != nil {
		b.WriteString("Sync")
	}
	if s.Cancel > 0 {
		fmt.Fprintf(&b, " -- canceled after %v", s.Cancel)
	}
	return b.String()
}

func (c *Call) String() string {
	switch {
	case c.Close:
		return fmt.Sprintf("Close %q", c.Name)
	case c.Only:
		return fmt.Sprintf("Parse %q: %s", c.Name, c.Parse)
	case c.Again:
		return fmt.Sprintf("Execute (%d rows at most)", c.Rows)
	}
	text := fmt.Sprintf("%q", c.Name)
	if c.Parse != "" {
		text = c.Parse
		if c.Name != "" {
			text = fmt.Sprintf("%q: %s", c.Name, text)
		}
	}
	if len(c.Args) > 0 {
		text += fmt.Sprintf(" %q", c.Args)
	}
	if c.Apart {
		text += " (run behind a Flush)"
	}
	if c.Rows > 0 {
		text += fmt.Sprintf(" (%d rows at most)", c.Rows)
	}
	if c.Bare {
		text += " (not described)"
	}
	return text
}

// long is what stands for "%l" in texts and arguments: more than a client's messages are gathered up to.
var long = strings.Repeat("long ", 60<<10)

// mark puts the marker of a session's step in the place of "%m", its owner's in that of "%o".
func mark(text, marker string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	owner := marker[:max(strings.LastIndexByte(marker, '.'), 0)]
	return strings.NewReplacer("%m", marker, "%o", owner, "%l", long).Replace(text)
}
