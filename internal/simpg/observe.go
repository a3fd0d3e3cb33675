package simpg

// Event is one statement that was executed. Its slices and maps are the observer's to keep.
type Event struct {
	Server string
	PID    uint32
	User   string   // logged in
	Text   string   // the whole of the simple query's or prepared statement's text that it stands in
	Kind   string   // of the parse tree: SelectStmt, VariableSetStmt, …; empty for an empty query
	Params [][]byte // as text; nil is NULL
	// What it ran under, as it began.
	Role        string // current_user
	Session     string // session_user
	SearchPath  string
	Custom      map[string]string // custom settings that are defined; '' is unset
	Temporary   []string          // temporary relations of the session
	Transaction uint64            // counts the cluster's; the same in all statements of one
	// What came of it.
	Tables []string // relations it read or wrote, "schema.name"
	Err    *Error   // nil if it succeeded
}

// observing begins an observer's event.
func (se *session) observing(text string, s *stmt, params [][]byte) {
	if se.server.cluster.options.Observer == nil {
		return
	}
	e := &Event{
		Server: se.server.Name, PID: se.pid, User: se.user, Text: text, Params: params,
		Role: se.currentUser(), Session: se.sessionUser(), SearchPath: se.set.is("search_path"), Custom: map[string]string{},
		Transaction: se.tx.id, Temporary: se.temporary(),
	}
	if s != nil {
		e.Kind = s.kind
	}
	for name := range se.set.defined {
		e.Custom[name] = se.set.is(name)
	}
	se.event = e
}

// observe tells the observer of the statement at hand.
func (se *session) observe(err *Error) {
	if e := se.event; e != nil {
		e.Err = err
		se.event = nil
		se.server.cluster.options.Observer(e)
	}
}
