package backend

// Sequences notes whose the values are that sequences gave to a connection's server process:
// lastval and currval tell them to anybody who has it next.
// https://www.postgresql.org/docs/current/functions-sequence.html
type Sequences struct{ session uint64 }

// Drawn returns the session that alone has drawn from sequences; 0 is that it may be several.
func (s *Sequences) Drawn() uint64 { return s.session }

// NoteDrawn notes that a session may draw, having nothing left there of others' draws; 0 is
// one that may not tell its own from others'.
func (s *Sequences) NoteDrawn(session uint64) { s.session = session }
