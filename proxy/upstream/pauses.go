package upstream

import "sync"

// pauses are the databases, as clients name them, of which nothing is to reach a server for now. A
// Directory's mu protects them.
type pauses struct {
	all bool
	of  map[string]bool
	// following is held while pools are told.
	following sync.Mutex
}

func (ps *pauses) has(database string) bool { return ps.all || ps.of[database] }
