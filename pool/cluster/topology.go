// Package cluster decides which server of a replication cluster runs a statement. A
// Cluster's monitor probes every server for its role and health and publishes what that
// makes of the cluster as one immutable Topology (judge.go holds the rules); a tracker
// keeps as of when each replica is fresh (freshness.go). Callers pick a server from the
// Topology and report what they find wrong with one.
package cluster

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
)

// Role is what a server says it is.
type Role uint8

const (
	RoleUnknown Role = iota
	RolePrimary
	RoleReplica
)

var roleNames = [...]string{"unknown", "primary", "replica"}

func (r Role) String() string { return roleNames[r] }

// Status is what a server is good for.
type Status uint8

const (
	StatusUnknown    Status = iota // not asked yet
	StatusServing                  // it is used
	StatusSlow                     // it keeps the monitor waiting: no reads while others serve them
	StatusDown                     // it cannot be used: State.Err says why
	StatusForeign                  // it belongs to another cluster
	StatusFenced                   // a primary that another one has succeeded
	StatusSplitBrain               // one of several primaries on one timeline
	StatusDiverged                 // a replica that does not follow onto the primary's timeline
	StatusDuplicate                // the primary, configured by another name
	StatusLeaving                  // it is no longer one of the cluster's: what runs there may end
	Statuses
)

var statusNames = [Statuses]string{"unknown", "serving", "slow", "down", "foreign", "fenced", "split_brain", "diverged", "duplicate", "leaving"}

func (s Status) String() string { return statusNames[s] }

// Usable reports whether statements may run on a server of that status.
func (s Status) Usable() bool { return s == StatusServing || s == StatusSlow }

// Server is one server of the cluster: where it is, and its load. Safe for concurrent use.
type Server struct {
	Address string

	tlsName atomic.Pointer[string]
	weight  atomic.Int64 // share of reads; 0 is only if no other replica can
	// disabled keeps all reads away from it while it is a replica.
	disabled atomic.Bool
	// Signals, of capacity 1: to probe it, and to ask how far it has replayed.
	probeNow, locateNow chan struct{}

	load  atomic.Int64
	fresh atomic.Pointer[freshness] // nil if it is not known to be; see freshness.go
	lag   atomic.Int64              // ns it lately took to replay what was committed

	returned  atomic.Int64 // Moment at which it came back; 0 once it has its full share again
	asked     atomic.Bool  // a probe is under way
	alive     atomic.Bool  // and meanwhile it answered somebody
	loginAnew atomic.Bool  // the next probe must be by a new login
	seen      seen         // who answers at its address
	resampled Moment       // when the sampler last connected to it because of that; follow's own
}

// NewServer makes a server that nothing is known of. Of two replicas with twice the
// weight one gets twice the reads; with weight 0 it gets none that another can serve.
func NewServer(address string, weight int) *Server {
	s := &Server{Address: address, probeNow: make(chan struct{}, 1), locateNow: make(chan struct{}, 1)}
	s.weight.Store(int64(weight))
	return s
}

// MemberServer is NewServer of what is declared or found.
func MemberServer(m Member) *Server {
	s := NewServer(m.Address, m.Weight)
	s.declare(&m)
	return s
}

// TLSName is the name that its certificate must bear where that is not its address's.
func (s *Server) TLSName() string {
	if name := s.tlsName.Load(); name != nil {
		return *name
	}
	return ""
}

// declare takes over what is declared or found of the server.
func (s *Server) declare(m *Member) {
	s.weight.Store(int64(m.Weight))
	s.tlsName.Store(&m.TLSName)
}

// Disabled reports whether somebody keeps reads away from it.
func (s *Server) Disabled() bool { return s.disabled.Load() }

// Begin counts a use of one of the server's connections, until End.
func (s *Server) Begin() { s.load.Add(1) }

// End ends what Begin began.
func (s *Server) End() { s.load.Add(-1) }

// Load returns how many connections of the server are in use.
func (s *Server) Load() int64 { return s.load.Load() }

// Answered notes that the server has just answered a statement. It costs next to
// nothing. What answers clients is not down because a probe of it failed.
func (s *Server) Answered() {
	if s.asked.Load() {
		s.alive.Store(true)
	}
}

// returning is how long a server that was away gets less than its share of reads:
// its caches are cold.
const returning = 5 * time.Second

// fullShare is a weight of 1 for a server that was not away.
const fullShare = 64

// share returns the server's weight, in parts of fullShare, as far as it has returned.
func (s *Server) share() int64 {
	full := s.weight.Load() * fullShare
	at := s.returned.Load()
	if at == 0 {
		return full
	}
	away := Now() - Moment(at)
	if away >= Moment(returning) {
		s.returned.CompareAndSwap(at, 0)
		return full
	}
	return max(full*int64(away)/int64(returning), 1)
}

// State is what the monitor last learned of one server.
type State struct {
	Server   *Server
	Role     Role
	Up       bool // it answers
	Slow     bool // it has not answered the latest probe in time
	Timeline uint32
	SystemID string
	Version  int    // server_version_num
	Started  string // when its postmaster was started: another one is another life
	// Many: several servers answer at its address, of which State tells one or another.
	Many bool
	// Unproved is why it does not tell how far it is, so that nothing can be known of its
	// freshness; nil if it does.
	Unproved error
	// Leaving is since when it is no longer one of the cluster's; zero if it is.
	Leaving time.Time
	// LSN is how far its log is inserted (a primary) or replayed (a replica).
	LSN    lsn.LSN
	Probed Moment    // when the probe began that found this
	Since  time.Time // of Status
	Status Status
	Err    error // why it is not used, or is slow; or used though it is Unlisted
}

// Unlisted reports whether it is used though it is no longer one of the cluster's: as the only primary.
func (st *State) Unlisted() bool { return st.Status.Usable() && !st.Leaving.IsZero() }

// Topology is all servers at one moment. It is immutable.
type Topology struct {
	States   []State   // in the order servers came, each once
	Primary  *Server   // nil while there is none
	Replicas []*Server // those that may serve reads
	Known    bool      // every server was asked, or had time enough to answer

	// SystemID is the cluster's identity: decided once, then never another.
	SystemID string
	// Timeline is the highest known of the cluster; a primary on a lower one is fenced.
	Timeline uint32
}

// State returns s's state. One that is not of the cluster, or no longer, is leaving.
func (t *Topology) State(s *Server) State {
	if st := find(t.States, s); st != nil {
		return *st
	}
	return State{Server: s, Status: StatusLeaving}
}

// Has reports whether s is of the cluster, or still leaves it.
func (t *Topology) Has(s *Server) bool { return find(t.States, s) != nil }

// find returns a server's state within a few; nil if it is not among them.
func find(states []State, s *Server) *State {
	for i := range states {
		if states[i].Server == s {
			return &states[i]
		}
	}
	return nil
}

// Role returns s's role.
func (t *Topology) Role(s *Server) Role { return t.State(s).Role }

// Version is the highest server_version_num of its servers, and 0 while none has answered:
// physical replicas are of the primary's major version.
func (t *Topology) Version() (version int) {
	for i := range t.States {
		version = max(version, t.States[i].Version)
	}
	return version
}

// Provable reports whether a replica's freshness can be known: it and the primary tell how
// far they are.
func (t *Topology) Provable(s *Server) bool {
	return t.Primary != nil && t.State(t.Primary).Unproved == nil && t.State(s).Unproved == nil
}

// Abandoned reports whether what runs on s must not go on: nobody can rely on what
// it does, or it hangs. What a replica still reads may come to its end.
func (t *Topology) Abandoned(s *Server) bool {
	switch st := t.State(s); st.Status {
	case StatusForeign, StatusFenced, StatusSplitBrain:
		return true
	case StatusDown:
		var network net.Error
		return errors.As(st.Err, &network) && network.Timeout()
	case StatusUnknown, StatusServing, StatusSlow, StatusDiverged, StatusDuplicate, StatusLeaving:
	}
	return false
}

// Lag returns how many bytes of the primary's log a replica has not replayed, and
// whether that is known.
func (t *Topology) Lag(s *Server) (bytes uint64, known bool) {
	st := t.State(s)
	if st.Role != RoleReplica || st.Status != StatusServing || !t.Provable(s) {
		return 0, false
	}
	// They are asked at the same time, so that a replica may seem ahead.
	if head := t.State(t.Primary).LSN; head > st.LSN {
		return uint64(head - st.LSN), true
	}
	return 0, true
}

// Replica picks, of the replicas fresh as of a moment, the one with the least
// load for its share, turn by turn among equals; nil if there is none.
func (t *Topology) Replica(turn uint32, asOf Moment) *Server {
	n := uint32(len(t.Replicas))
	if n == 0 {
		return nil
	}
	var best *Server
	var bestLoad, bestShare int64
	for i := range n {
		s := t.Replicas[(turn+i)%n]
		if s.weight.Load() == 0 || !s.Fresh(asOf) {
			continue
		}
		// Loads compare as (load+1)/share without dividing.
		load, share := s.Load()+1, s.share()
		if best == nil || load*bestShare < bestLoad*share {
			best, bestLoad, bestShare = s, load, share
		}
	}
	if best != nil {
		return best
	}
	for i := range n { // those of weight 0
		if s := t.Replicas[(turn+i)%n]; s.Fresh(asOf) {
			return s
		}
	}
	return nil
}
