package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Which servers are used follows from what each says of itself and from what was
// known before; nothing else is remembered.
//
//   - The cluster has one system identifier, decided once. A server with another one
//     is foreign: a data directory of something else at a configured address.
//   - The highest timeline seen wins. A primary below it is fenced, for its successor
//     may have taken writes already, even while that is down.
//   - Two primaries on that timeline are a split brain, and none at all: nobody can tell
//     which is right.
//     Two that were started at the same microsecond are one server, configured twice.
//   - A primary that was lost and comes back as it was is none as long as another server keeps
//     the monitor waiting, from the start perhaps, or has not been asked since: it may have been
//     promoted meanwhile. What it answers clients does not tell.
//   - A replica below the primary's timeline does not follow that primary. What it
//     replays may never have happened, so nothing is read from it.
//   - A server that leaves the cluster is read from no more. If it is the primary, and no
//     other is, it stays that: who lists the servers may err, or be late. It is Unlisted then, which is said. Once another is,
//     it is fenced like any.

// judge gives each state its Status and derives the topology. known says that all
// servers had time to answer.
func judge(states []State, before *Topology, known bool) *Topology {
	t := &Topology{States: states, Known: known, SystemID: before.SystemID, Timeline: before.Timeline}
	if t.SystemID == "" && known {
		var agreed bool
		if t.SystemID, agreed = identify(states); !agreed {
			for i := range states {
				states[i].mixed()
			}
			return t
		}
	}
	for i := range states {
		states[i].Status = states[i].alone(t.SystemID, known)
	}
	if !known {
		return t
	}
	t.Timeline = newest(states, t)
	t.elect()
	t.doubt(before)
	t.gather()
	for i := range states {
		states[i].explain(t)
	}
	return t
}

// alone returns what can be said of one server by itself.
func (st *State) alone(id string, known bool) Status {
	switch {
	case !st.Up && st.Role == RoleUnknown && errors.Is(st.Err, ErrNoLogin), st.Up && !known:
		return StatusUnknown
	case !st.Up:
		return StatusDown
	case st.SystemID != id:
		st.Err = fmt.Errorf("it belongs to another cluster: its system identifier is %s, not %s", st.SystemID, id)
		return StatusForeign
	case !st.Leaving.IsZero():
		return StatusLeaving
	case st.Slow:
		return StatusSlow
	}
	return StatusServing
}

// mixed sets the state of a server while nobody can tell which cluster is meant.
func (st *State) mixed() {
	if st.Status = StatusDown; st.Up {
		st.Status = StatusForeign
		st.Err = fmt.Errorf("its system identifier is %s, another server's is not, and which cluster is meant cannot be told: take the wrong servers out of the configuration", st.SystemID)
	}
}

// newest returns the highest timeline of the cluster. One that was seen before counts unless
// every server tells that it is no more: then whoever was on it has been made anew. Where two names
// lead to one server, as while names change places, the server that one of them led to tells nothing.
func newest(states []State, t *Topology) uint32 {
	line, all := uint32(0), true
	for i := range states {
		st := &states[i]
		if st.Role != RoleUnknown && st.SystemID == t.SystemID {
			line = max(line, st.Timeline)
		}
		all = all && st.Up && st.Status != StatusForeign &&
			!slices.ContainsFunc(states[:i], func(o State) bool { return o.Started != "" && o.Started == st.Started })
	}
	if all {
		return line
	}
	return max(line, t.Timeline)
}

// elect finds the primary: among those that stay, or else among those that leave.
func (t *Topology) elect() {
	leaving := func(s Status) bool { return s == StatusLeaving }
	if !t.electAmong(Status.Usable) {
		t.electAmong(leaving)
	}
	for i := range t.States {
		st := &t.States[i]
		if leaving(st.Status) && st.Role == RolePrimary && !t.sameAsPrimary(st) {
			st.Status = StatusFenced
		}
	}
}

// doubt takes back the election of a primary that was lost, under this name or another, and may
// have been succeeded by one that does not answer.
func (t *Topology) doubt(before *Topology) {
	if t.Primary == nil || before.Primary != nil {
		return
	}
	lost, back := MomentOf(before.State(t.Primary).Since), false
	for i := range before.States { // which tell of a primary that was lost before anything was known of the cluster, too
		if was := &before.States[i]; !was.Up && was.Role == RolePrimary && was.Timeline == t.Timeline {
			lost, back = max(lost, MomentOf(was.Since)), true
		}
	}
	if t.Timeline > before.Timeline && !back {
		return
	}
	for i := range t.States {
		if o := &t.States[i]; (o.awaited() || o.Probed < lost) && o.Server != t.Primary {
			st := find(t.States, t.Primary)
			st.Status, t.Primary = StatusUnknown, nil
			st.Err = fmt.Errorf("it was lost and is back, and %s, which may have been promoted meanwhile, does not answer", o.Server.Address)
			return
		}
	}
}

// awaited reports whether the monitor waits for a server's answer for longer than usual, or has
// had none yet, good or bad.
func (st *State) awaited() bool {
	return st.Status == StatusSlow || st.Status == StatusUnknown
}

// sameAsPrimary reports whether a server is the primary by another name.
func (t *Topology) sameAsPrimary(st *State) bool {
	return t.Primary != nil && st.Started != "" && st.Started == t.State(t.Primary).Started
}

// electAmong finds the primary among servers of some status that call themselves one. It
// reports whether there are any.
func (t *Topology) electAmong(of func(Status) bool) bool {
	var candidates []*State
	for i := range t.States {
		st := &t.States[i]
		switch {
		case !of(st.Status) || st.Role != RolePrimary:
		case st.Timeline < t.Timeline:
			st.Status = StatusFenced
		case len(candidates) > 0 && st.Started != "" && st.Started == candidates[0].Started:
			st.Status = StatusDuplicate
			st.Err = fmt.Errorf("it is %s by another name", candidates[0].Server.Address)
		default:
			candidates = append(candidates, st)
		}
	}
	if len(candidates) == 1 {
		st := candidates[0]
		t.Primary = st.Server
		if st.Status == StatusLeaving {
			st.Status = StatusServing
		}
		return true
	}
	for _, st := range candidates {
		st.Status = StatusSplitBrain
	}
	return len(candidates) > 0
}

// gather finds the replicas that serve reads: the slow ones only if nobody else can.
func (t *Topology) gather() {
	var slow []*Server
	for i := range t.States {
		st := &t.States[i]
		if !st.Status.Usable() || st.Role != RoleReplica {
			continue
		}
		switch {
		case t.diverged(st):
			st.Status = StatusDiverged
		case st.Status == StatusSlow:
			if !st.Server.Disabled() {
				slow = append(slow, st.Server)
			}
		case st.Server.Disabled():
		default:
			t.Replicas = append(t.Replicas, st.Server)
		}
	}
	if len(t.Replicas) == 0 && (t.Primary == nil || t.State(t.Primary).Status == StatusSlow) {
		t.Replicas = slow
	}
}

// diverged reports whether a replica follows another history than the cluster's.
func (t *Topology) diverged(st *State) bool {
	if st.Timeline >= t.Timeline {
		return false
	}
	// As long as nobody was promoted in earnest, a higher timeline is but a rumour.
	for i := range t.States {
		o := &t.States[i]
		if o.Role == RolePrimary && o.Timeline == t.Timeline && o.Status != StatusForeign {
			return true
		}
	}
	return false
}

// errUnlisted is of a primary that is used though it is no longer one of the cluster's.
var errUnlisted = errors.New("it is not listed any more, but still used: no other primary is known")

// explain says in words why a server is not used, or is though it should not be, where that is not an error of its own.
func (st *State) explain(t *Topology) {
	if st.Err == errUnlisted { //nolint:errorlint // it is never wrapped, and is of what was before
		st.Err = nil
	}
	switch st.Status {
	case StatusServing:
		if st.Err = nil; st.Unlisted() {
			st.Err = errUnlisted
		}
	case StatusFenced:
		if st.Timeline == t.Timeline {
			st.Err = errors.New("it is a primary, no longer one of the cluster's, and another one is: stop it")
			break
		}
		st.Err = fmt.Errorf("it is a primary on timeline %d, and timeline %d has begun elsewhere: rewind it (pg_rewind) or clone it anew as a standby", st.Timeline, t.Timeline)
	case StatusSplitBrain:
		st.Err = fmt.Errorf("several servers are primaries on timeline %d, so none takes writes: stop all but the right one", st.Timeline)
	case StatusDiverged:
		st.Err = fmt.Errorf("it is a standby on timeline %d and does not follow the primary onto timeline %d: point its primary_conninfo there, or clone it anew", st.Timeline, t.Timeline)
	case StatusUnknown, StatusSlow, StatusDown, StatusForeign, StatusDuplicate, StatusLeaving: // it is
	}
}

// identify decides the cluster's system identifier: the only one there is; of
// several the one that more than half of the servers have; or, if all servers
// answer, that of the largest group, the only one with a primary among equals.
func identify(states []State) (id string, agreed bool) {
	count, primaries := map[string]int{}, map[string]int{}
	answered := 0
	for i := range states {
		st := &states[i]
		if !st.Up {
			continue
		}
		answered++
		count[st.SystemID]++
		if st.Role == RolePrimary {
			primaries[st.SystemID]++
		}
	}
	if len(count) == 0 {
		return "", true
	}
	most := 0
	for _, n := range count {
		most = max(most, n)
	}
	var leading, withPrimary []string
	for id, n := range count {
		if n == most {
			leading = append(leading, id)
			if primaries[id] > 0 {
				withPrimary = append(withPrimary, id)
			}
		}
	}
	switch {
	case len(count) == 1, 2*most > len(states), len(leading) == 1 && answered == len(states):
		return leading[0], true
	case len(withPrimary) == 1 && answered == len(states):
		return withPrimary[0], true
	}
	return "", false
}

// reasons say why there is no primary.
func (t *Topology) reasons() string {
	var texts []string
	for _, st := range t.States {
		if st.Err != nil && !st.Status.Usable() {
			texts = append(texts, fmt.Sprintf("%s: %v", st.Server.Address, st.Err))
		}
	}
	switch {
	case len(texts) > 0:
		return strings.Join(texts, "; ")
	case !t.Known:
		return "the servers have not been asked yet"
	}
	return "every server is a standby"
}
