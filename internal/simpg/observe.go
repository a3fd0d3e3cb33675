package simpg

import (
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
)

// Observer is told what happens in a cluster, in the order in which it happens: with the
// cluster's lock held. It must return without waiting and must not call the cluster.
type Observer interface {
	// Statement is told of a statement when it is over, and of what it needed that the
	// proxy's own statements do not hide: the settings are those it ran under.
	Statement(e *Event)
	// Transaction is told of the end of a transaction that has changed data.
	Transaction(t *Outcome)
	// Session is told of the beginning and the end of a session on a server.
	Session(s *SessionEvent)
}

// Event is one statement that was executed. Its slices and maps are the observer's to keep.
type Event struct {
	Time     time.Time
	Server   string
	PID      uint32
	User     string // logged in
	Database string
	Text     string   // the whole of the simple query's or prepared statement's text that it stands in
	Kind     string   // of the parse tree: SelectStmt, VariableSetStmt, …; empty for an empty query
	Params   [][]byte // as text; nil is NULL
	// What it ran under, as it began.
	Role        string // current_user
	Session     string // session_user
	SearchPath  string
	Custom      map[string]string // custom settings that are defined; '' is unset
	Temporary   []string          // temporary relations of the session
	Isolation   string
	ReadOnly    bool
	Transaction uint64 // counts the cluster's; the same in all statements of one
	Status      byte   // before it: 'I' (alone or first of an implicit transaction), 'T', 'E'
	// What came of it.
	Tables []string // relations it read or wrote, "schema.name"
	Read   lsn.LSN  // its snapshot shows all commits up to here, and none behind
	Rows   [][]string
	Tag    string
	Err    *Error // nil if it succeeded
}

// Outcome is the end of a transaction.
type Outcome struct {
	Time        time.Time
	Server      string
	PID         uint32
	Transaction uint64
	Timeline    uint32
	Committed   bool
	LSN         lsn.LSN // of its commit record's end
	Durable     bool    // its record was flushed before anybody was told
}

// SessionEvent is the beginning or the end of a session.
type SessionEvent struct {
	Time     time.Time
	Server   string
	PID      uint32
	User     string
	Database string
	Began    bool
	Err      *Error // why it ended, if it was made to
}
