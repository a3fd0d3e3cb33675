package sim

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/pgweir/pgweir/internal/simpg"
)

// oracle judges what a single answer cannot tell: under what everything ran, what all
// sessions share, and what is there in the end.
type oracle struct {
	w *world

	mu     sync.Mutex          // protects the fields below
	ran1   map[string][]string // how the steps of a marker ran on the cluster
	ran2   map[string][]string // and on the server alone
	owners map[uint64]string   // of transactions of the cluster
	shared map[string]fate     // of markers appended to what all share
	doubts map[string][]string // owners whose rows may be one or the other
}

// fate is what is known of something a session appended.
type fate uint8

const (
	attempted fate = iota // it may be there, or come
	acknowledged
	rolledBack
)

func newOracle(w *world) *oracle {
	return &oracle{w: w, ran1: map[string][]string{}, ran2: map[string][]string{}, owners: map[uint64]string{},
		shared: map[string]fate{}, doubts: map[string][]string{}}
}

// tell has traces tell every statement that a server runs.
var tell bool

// observer is told what a model runs.
type observer struct {
	o     *oracle
	alone bool
}

var markers = regexp.MustCompile(`\bc\d+\.\d+\.\d+\b`)

// unmarked reports quickly that a text has no marker, as most have none: they are the proxy's own.
func unmarked(text string) bool {
	for {
		i := strings.IndexByte(text, '.')
		if i < 0 {
			return true
		}
		if i > 0 && text[i-1] >= '0' && text[i-1] <= '9' {
			return false
		}
		text = text[i+1:]
	}
}

// statement is told of a statement when it is over.
func (ob *observer) statement(e *simpg.Event) {
	if e.Err != nil && strings.HasPrefix(e.Err.Message, "simpg:") {
		ob.o.w.fault("the model does not know what is asked by %s: %s: %.200s", e.User, e.Err.Message, e.Text)
	}
	if tell && !ob.alone && e.User != simpg.Superuser {
		ob.o.w.note("%s %d (%s): %.150q %q (search_path %s): %v", e.Server, e.PID, e.User, e.Text, e.Params, e.SearchPath, e.Err)
	}
	m := markerOf(e)
	if m == "" {
		return
	}
	how := signature(e)
	o := ob.o
	o.mu.Lock()
	defer o.mu.Unlock()
	ran := o.ran1
	if ob.alone {
		ran = o.ran2
	} else if e.Transaction != 0 {
		owner := m[:strings.LastIndexByte(m, '.')]
		if before := o.owners[e.Transaction]; before != "" && before != owner {
			o.w.fault("%s and %s are in one transaction on %s", before, m, e.Server)
		}
		o.owners[e.Transaction] = owner
	}
	if !slices.Contains(ran[m], how) {
		ran[m] = append(ran[m], how)
	}
}

func markerOf(e *simpg.Event) string {
	if e.User == simpg.Superuser {
		return "" // the proxy's own
	}
	for _, p := range e.Params {
		if m := markers.Find(p); m != nil {
			return string(m)
		}
	}
	if unmarked(e.Text) {
		return ""
	}
	return markers.FindString(e.Text)
}

var tempSchema = regexp.MustCompile(`pg_temp_\d+`)

// sets are texts that begin with a setting: to them it is one whether what they set reads NULL
// or is empty before.
var sets = regexp.MustCompile(`^(?i)\s*((begin|start transaction)[^;]*;\s*)?(set|reset|select set_config)\b`)

// signature is what a statement ran under that must be its session's.
func signature(e *simpg.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s as %s (%s) in %s", e.Kind, e.Role, e.Session, e.SearchPath)
	for _, name := range slices.Sorted(maps.Keys(e.Custom)) {
		if e.Custom[name] == "" && sets.MatchString(e.Text) {
			continue
		}
		fmt.Fprintf(&b, " %s=%q", name, e.Custom[name])
	}
	if len(e.Temporary) > 0 {
		fmt.Fprintf(&b, " with %v", slices.Sorted(slices.Values(e.Temporary)))
	}
	if len(e.Tables) > 0 {
		fmt.Fprintf(&b, " using %v", slices.Sorted(slices.Values(e.Tables)))
	}
	return tempSchema.ReplaceAllString(b.String(), "pg_temp")
}

// seen is what a step that observes must see.
type seen struct{ must []string }

// asked notes that a step is about to be sent.
func (o *oracle) asked(s *session, step *Step) *seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch step.Check {
	case appends:
		o.shared[s.marker()] = attempted
	case observes:
		at := &seen{}
		for m, f := range o.shared {
			if f == acknowledged && o.w.promised(s.owner(), m) {
				at.must = append(at.must, m)
			}
		}
		return at
	case asOne:
	}
	return nil
}

// ran judges a step that both sides answered alike.
func (o *oracle) ran(s *session, step *Step, got []frame, at *seen) {
	o.compareRuns(s)
	if step.Check == appends {
		s.pending = append(s.pending, s.marker())
	}
	if at != nil {
		o.observe(s, got, at)
	}
	last := got[len(got)-1]
	idle := last.typ == 'Z' && last.body == "I"
	if !idle && !slices.ContainsFunc(got, func(f frame) bool { return f.typ == 'C' && strings.HasPrefix(f.body, "COMMIT") }) {
		return
	}
	s.pending = slices.DeleteFunc(s.pending, func(m string) bool { // behind COMMIT AND CHAIN some may wait for the next end
		f := rolledBack
		switch {
		case o.thereAlone(m):
			f = acknowledged
		case !idle:
			return false
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.shared[m] = f
		return true
	})
}

func (o *oracle) thereAlone(marker string) bool {
	rows, err := o.w.alone.Query(database, "select who from log where who = '"+marker+"'")
	return err == nil && len(rows) > 0
}

// compareRuns compares under what the step at hand ran on both sides.
func (o *oracle) compareRuns(s *session) {
	marker := s.marker()
	o.mu.Lock()
	ran, right := o.ran1[marker], o.ran2[marker]
	o.mu.Unlock()
	if step := &s.script.Steps[s.step]; len(right) == 0 && strings.Contains(step.said(), "isolation level") || (len(right) == 0 || step.inParts()) && len(s.names(step)) > 0 {
		return // one server may refuse to run it any more, or modes behind a Parse
	} else if s.resetsThere(step) {
		return
	}
	for _, how := range ran {
		if !slices.Contains(right, how) {
			o.w.fault("%s ran otherwise:\n\t   %s\n\trather than\n\t   %s", marker, how, strings.Join(right, "\n\t   "))
		}
	}
}

// observe judges what a session saw of what all share.
func (o *oracle) observe(s *session, got []frame, at *seen) {
	saw := map[string]bool{}
	for _, f := range got {
		switch {
		case f.typ == 'E':
			return
		case f.typ == 'D':
			for _, v := range f.values() {
				if m := markers.FindString(v); m != "" {
					if saw[m] {
						o.w.fault("%s sees %s twice", s.marker(), m)
					}
					saw[m] = true
				}
			}
		}
	}
	for _, m := range at.must {
		if !saw[m] {
			o.w.fault("%s does not see %s, which was committed before it was asked", s.marker(), m)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for m := range saw {
		if f, known := o.shared[m]; !known || f == rolledBack {
			o.w.fault("%s sees %s, which was never committed", s.marker(), m)
		}
	}
}

// undone notes that a step had no effect.
func (o *oracle) undone(s *session, step *Step) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if step.Check == appends {
		o.shared[s.marker()] = rolledBack
	}
}

// never notes that something was rolled back.
func (o *oracle) never(marker string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shared[marker] = rolledBack
}

// rows are what owners have on a model, by owner.
func rows(c *simpg.Cluster) map[string]string {
	all := map[string]string{}
	found, err := c.Query(database, "select owner, id, tenant, v from items order by id")
	if err != nil {
		all[""] = err.Error()
	}
	for _, r := range found {
		all[r[0]] += strings.Join(r[1:], ",") + "; "
	}
	return all
}

func (o *oracle) rowsAlone(owner string) string { return rows(o.w.alone)[owner] }

// doubt notes that a step may have been done or not. It was not run on the server alone,
// and is now.
func (o *oracle) doubt(s *session, step *Step) {
	before := o.rowsAlone(s.owner())
	s.follow(step)
	o.doubtful(s, before)
}

// doubtful notes that what a session owns is as it was, or as it is on the server alone.
func (o *oracle) doubtful(s *session, before string) {
	after := o.rowsAlone(s.owner())
	o.compareRuns(s)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.doubts[s.owner()] = []string{before, after}
}

// forget notes that nothing can be said of what an owner has.
func (o *oracle) forget(owner string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.doubts[owner] = []string{}
}

// atRest judges what is there in the end.
func (o *oracle) atRest() {
	if o.w.model.Primary() == nil {
		return
	}
	o.sharedAtRest()
	got, right := rows(o.w.model), rows(o.w.alone)
	maps.DeleteFunc(right, func(owner, _ string) bool { return o.doubts[owner] != nil })
	for owner, want := range o.doubts {
		if len(want) > 0 && !slices.Contains(want, got[owner]) {
			o.w.fault("in the end %s has %q rather than %q", owner, got[owner], want)
		}
		delete(got, owner)
	}
	for _, owner := range slices.Sorted(maps.Keys(got)) {
		if got[owner] != right[owner] {
			o.w.fault("in the end %s has %q rather than %q", owner, got[owner], right[owner])
		}
		delete(right, owner)
	}
	for _, owner := range slices.Sorted(maps.Keys(right)) {
		o.w.fault("in the end %s has nothing rather than %q", owner, right[owner])
	}
}

// sharedAtRest judges what is there of what all share.
func (o *oracle) sharedAtRest() {
	found, err := o.w.model.Query(database, "select who from log")
	if err != nil {
		o.w.fault("in the end: %v", err)
		return
	}
	there := map[string]int{}
	for _, r := range found {
		there[r[0]]++
	}
	for _, m := range sortedKeys(o.shared) {
		switch n, f := there[m], o.shared[m]; {
		case n > 1:
			o.w.fault("%s was done %d times", m, n)
		case n == 0 && f == acknowledged:
			o.w.fault("%s was acknowledged and is gone", m)
		case n == 1 && f == rolledBack:
			o.w.fault("%s was rolled back and is there", m)
		}
		delete(there, m)
	}
	for _, m := range sortedKeys(there) {
		o.w.fault("%s is there, and nobody sent it", m)
	}
}
