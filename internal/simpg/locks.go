package simpg

import "slices"

// lockMode is a mode of a lock on a table (13.3.1 of the manual). Rows and values of keys
// are locked in lockShare or lockExclusive.
type lockMode int8

const (
	lockRead      lockMode = iota + 1 // ACCESS SHARE
	lockRowShare                      // ROW SHARE
	lockWrite                         // ROW EXCLUSIVE
	lockSelf                          // SHARE UPDATE EXCLUSIVE
	lockShare                         // SHARE
	lockShareRow                      // SHARE ROW EXCLUSIVE
	lockAlmost                        // EXCLUSIVE
	lockExclusive                     // ACCESS EXCLUSIVE
)

// conflicts reports whether two sessions cannot hold the modes at a time.
func (m lockMode) conflicts(o lockMode) bool {
	if m < o {
		m, o = o, m
	}
	switch m {
	case lockExclusive:
		return true
	case lockAlmost:
		return o >= lockRowShare
	case lockShareRow:
		return o >= lockWrite
	case lockShare:
		return o == lockWrite || o == lockSelf
	case lockSelf:
		return o == lockSelf
	case lockWrite, lockRowShare, lockRead:
	}
	return false
}

// rowLock is a session's lock of a table, a row or a value of a key.
type rowLock struct {
	owner *session
	mode  lockMode
	at    int // how many the owner had before, for savepoints
}

type tableID struct {
	database string
	oid      uint32
}

type rowID struct {
	database, relation string
	id                 int64
}

type keyValue struct{ database, relation, key, value string }

// lock locks what for the session, waiting while another has it in the way. waited tells
// that it had to; got is false only with skip.
func (se *session) lock(what any, mode lockMode, nowait, skip bool) (waited, got bool) {
	s := se.server
	for {
		i := slices.IndexFunc(s.locks[what], func(l rowLock) bool { return l.owner != se && l.mode.conflicts(mode) })
		if i < 0 {
			break
		}
		switch {
		case skip:
			return waited, false
		case nowait:
			raise("55P03", "could not obtain lock on row in relation")
		}
		waited = true
		se.waitFor(s.locks[what][i].owner, func() bool {
			return !slices.ContainsFunc(s.locks[what], func(l rowLock) bool { return l.owner != se && l.mode.conflicts(mode) })
		})
	}
	if !slices.ContainsFunc(s.locks[what], func(l rowLock) bool { return l.owner == se && l.mode >= mode }) {
		s.locks[what] = append(s.locks[what], rowLock{se, mode, se.locked})
		se.locked++
	}
	return waited, true
}

// waitFor waits for what another session holds, unless they wait for each other.
func (se *session) waitFor(holder *session, ready func() bool) {
	if se.server.deadlock(se, holder) {
		raise("40P01", "deadlock detected")
	}
	se.waitsFor = holder
	e := caught(func() { se.await(ready) })
	if se.waitsFor = nil; e != nil {
		panic(e)
	}
}

// errAgain has a statement be analyzed again: it waited for who may have changed a table.
var errAgain = &Error{Severity: "ERROR", Code: "XX000", Message: "simpg: not analyzed again"}

// steadily analyzes what f does, again if it had to wait.
func (se *session) steadily(f func()) {
	for {
		e := caught(f)
		if e == nil {
			return
		}
		if e != errAgain {
			panic(e)
		}
		se.takeSnapshot()
	}
}

// deadlock reports whether se waiting for holder closes a circle.
func (s *Server) deadlock(se, holder *session) bool {
	for holder != nil {
		if holder == se {
			return true
		}
		holder = holder.waitsFor
	}
	return false
}

// unlockRows gives up the session's locks but for so many of the first.
func (s *Server) unlockRows(se *session, keep int) {
	if se.locked == keep {
		return
	}
	for what, list := range s.locks {
		if list = slices.DeleteFunc(list, func(l rowLock) bool { return l.owner == se && l.at >= keep }); len(list) == 0 {
			delete(s.locks, what)
		} else {
			s.locks[what] = list
		}
	}
	se.locked = keep
}

// advisoryKey is what an advisory lock is of. Keys of one bigint and of two integers differ.
type advisoryKey struct {
	database  string
	high, low int64
	two       bool
}

// advisoryLock is held by sessions, each as often as it took it.
type advisoryLock struct {
	holders map[*session]*held
}

type held struct{ session, xact, shared int }

// advisory takes an advisory lock; try does not wait.
func (se *session) advisory(k advisoryKey, xact, shared, try bool) bool {
	s := se.server
	k.database = se.database
	free := func() bool {
		l := s.advisory[k]
		if l == nil {
			return true
		}
		for o, h := range l.holders {
			if o != se && !(shared && h.session+h.xact == h.shared) {
				return false
			}
		}
		return true
	}
	if !free() {
		if try {
			return false
		}
		se.await(free)
	}
	l := s.advisory[k]
	if l == nil {
		l = &advisoryLock{holders: map[*session]*held{}}
		s.advisory[k] = l
	}
	h := l.holders[se]
	if h == nil {
		h = &held{}
		l.holders[se] = h
	}
	if shared {
		h.shared++
	}
	if xact {
		h.xact++
	} else {
		h.session++
	}
	return true
}

// advisoryUnlock gives up a session's lock once; false is that it had none.
func (se *session) advisoryUnlock(k advisoryKey, shared bool) bool {
	k.database = se.database
	l := se.server.advisory[k]
	if l == nil || l.holders[se] == nil || l.holders[se].session == 0 || shared && l.holders[se].shared == 0 {
		return false
	}
	h := l.holders[se]
	if h.session--; shared {
		h.shared--
	}
	se.server.dropAdvisory(k, se)
	return true
}

func (s *Server) dropAdvisory(k advisoryKey, se *session) {
	l := s.advisory[k]
	if h := l.holders[se]; h.session+h.xact == 0 {
		delete(l.holders, se)
	}
	if len(l.holders) == 0 {
		delete(s.advisory, k)
	}
	s.cluster.wakeAll()
}

// unlockAdvisory gives up those of the transaction, or all of the session's.
func (s *Server) unlockAdvisory(se *session, xact bool) {
	for k, l := range s.advisory {
		h := l.holders[se]
		if h == nil {
			continue
		}
		if h.xact = 0; !xact {
			h.session = 0
		}
		h.shared = min(h.shared, h.session)
		s.dropAdvisory(k, se)
	}
}
