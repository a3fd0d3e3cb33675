package backend

// Predecessors is what is known of the sessions that had a connection before.
type Predecessors struct {
	last      uint64
	temporary bool
}

// HandOver notes the session that the connection goes to, by a number that is not 0, and
// reports whether that is another one than had it last. A fresh connection comes from
// nobody, so it is another one too.
func (p *Predecessors) HandOver(session uint64) (another bool) {
	another = p.last != session
	p.last = session
	return another
}

// LastUser returns the session of the last HandOver; 0 is none.
func (p *Predecessors) LastUser() uint64 { return p.last }

// NoteTemporary says whether the session may just have had temporary objects.
func (p *Predecessors) NoteTemporary(may bool) { p.temporary = p.temporary || may }

// HadTemporary reports whether any session may have had temporary objects: their schema
// stays.
func (p *Predecessors) HadTemporary() bool { return p.temporary }
