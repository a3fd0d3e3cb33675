package simpg

import "strings"

// logAhead is how many values a record of the log covers (SEQ_LOG_VALS): after a crash or
// a failover a sequence goes on behind them.
const logAhead = 32

// sequence finds a sequence by its name as text, as a cast to regclass does.
func (se *session) sequence(name string) *relation {
	name = strings.ReplaceAll(name, `"`, "")
	schema, rel, ok := strings.Cut(name, ".")
	if !ok {
		schema, rel = "", name
	}
	r := se.find(schema, rel)
	if r == nil {
		raise("42P01", `relation "%s" does not exist`, name)
	}
	if r.kind != 'S' {
		raise("42809", `"%s" is not a sequence`, rel)
	}
	return r
}

func (se *session) nextval(name string) int64 {
	r := se.sequence(name)
	se.allowed(r, "USAGE")
	return se.draw(r)
}

// draw gives out a sequence's next value, which no rollback takes back.
func (se *session) draw(r *relation) int64 {
	s := se.server
	at := se.database + " " + r.key()
	v, ok := s.drawn[at]
	logged := se.sequenceLogged(r)
	if !ok {
		v = logged
	}
	v += r.increment
	s.drawn[at] = v
	if v > logged {
		se.logSequence(r, v+logAhead)
	}
	se.drew[r.key()], se.last = v, r.key()
	return v
}

// sequenceLogged is the last value that the log says may have been given out.
func (se *session) sequenceLogged(r *relation) int64 {
	if now := se.server.now().state.databases[se.database].relations[r.key()]; now != nil {
		return now.sequence
	}
	return r.sequence
}

// logSequence writes a sequence's value to the log, outside of any transaction. One made
// by this transaction is not there yet.
func (se *session) logSequence(r *relation, to int64) {
	s := se.server
	st := s.now().state
	if st.databases[se.database].relations[r.key()] == nil {
		return
	}
	st = st.clone()
	st.changing(se.database).changing(r.key()).sequence = to
	s.write(st, 99, false, se.rand)
}

func (se *session) currval(name string) datum {
	r := se.sequence(name)
	v, ok := se.drew[r.key()]
	if !ok {
		raise("55000", `currval of sequence "%s" is not yet defined in this session`, r.name)
	}
	return v
}

func (se *session) lastval() datum {
	if se.last == "" {
		raise("55000", "lastval is not yet defined in this session")
	}
	return se.drew[se.last]
}

func (se *session) setval(name string, to int64) datum {
	r := se.sequence(name)
	se.allowed(r, "UPDATE")
	se.server.drawn[se.database+" "+r.key()] = to
	se.logSequence(r, to)
	se.drew[r.key()] = to
	return to
}
