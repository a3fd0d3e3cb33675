// Package cluster is which server: a Monitor learns the role and health of every
// server of one replication cluster and publishes them as one immutable Topology;
// a statement picks from it.
package cluster

import (
	"sync/atomic"
	"time"
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

// Server is one configured server: what never changes of it, and its load. Safe for concurrent use.
type Server struct {
	Address string
	Index   int // in the cluster's configuration
	Weight  int // share of reads; 0 is only if no other replica can

	load  atomic.Int64
	fresh atomic.Int64 // Moment as of which it is fresh; see freshness.go
	lag   atomic.Int64 // ns it lately took to replay what was committed
}

// Begin and End bracket a use of one of the server's connections.
func (s *Server) Begin() { s.load.Add(1) }

// End is the other side of Begin.
func (s *Server) End() { s.load.Add(-1) }

// Load is how many connections of the server are in use.
func (s *Server) Load() int64 { return s.load.Load() }

// State is what the monitor last learned of one server.
type State struct {
	Server   *Server
	Role     Role
	Up       bool
	Timeline uint32
	SystemID string
	Version  int // server_version_num
	Since    time.Time
	Err      error // why it is not up
}

// Topology is all servers at one moment. It is immutable.
type Topology struct {
	States   []State   // by Server.Index
	Primary  *Server   // nil while there is none
	Replicas []*Server // those that are up
	Known    bool      // every server was asked at least once
}

// State is s's state.
func (t *Topology) State(s *Server) State { return t.States[s.Index] }

// Role is s's role.
func (t *Topology) Role(s *Server) Role { return t.States[s.Index].Role }

// Replica picks, of the replicas fresh as of a moment, the one with the least
// load for its weight, turn by turn among equals; nil if there is none.
func (t *Topology) Replica(turn uint32, asOf Moment) *Server {
	n := uint32(len(t.Replicas))
	if n == 0 {
		return nil
	}
	var best *Server
	var bestLoad int64
	for i := range n {
		s := t.Replicas[(turn+i)%n]
		if s.Weight == 0 || !s.Fresh(asOf) {
			continue
		}
		// Loads compare as (load+1)/weight without dividing.
		load := s.Load() + 1
		if best == nil || load*int64(best.Weight) < bestLoad*int64(s.Weight) {
			best, bestLoad = s, load
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
