package simpg

import "slices"

// rowLock is a row, or a value of a key, that a transaction has locked.
type rowLock struct {
	what  any // rowID or keyValue
	owner *session
	share bool
	at    int // index among the owner's locks, for savepoints
}

type rowID struct {
	database, relation string
	id                 int64
}

type keyValue struct{ database, relation, key, value string }

// lockRow locks what for the session, waiting while another has it. It reports whether it
// had to wait.
func (se *session) lock(what any, share, nowait, skip bool) (waited, got bool) {
	s := se.server
	for {
		i := slices.IndexFunc(s.locks, func(l *rowLock) bool { return l.what == what && l.owner != se && !(l.share && share) })
		if i < 0 {
			break
		}
		switch {
		case skip:
			return false, false
		case nowait:
			raise("55P03", `could not obtain lock on row in relation`)
		}
		holder := s.locks[i].owner
		waited = true
		if s.deadlock(se, holder) {
			raise("40P01", "deadlock detected")
		}
		se.waitsFor = holder
		se.await(func() bool {
			return !slices.ContainsFunc(s.locks, func(l *rowLock) bool { return l.what == what && l.owner == holder })
		})
		se.waitsFor = nil
	}
	s.locks = append(s.locks, &rowLock{what: what, owner: se, share: share, at: s.rowLocks(se)})
	return waited, true
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

func (s *Server) rowLocks(se *session) (n int) {
	for _, l := range s.locks {
		if l.owner == se {
			n++
		}
	}
	return n
}

// unlockRows gives up the session's locks from the one with the number on.
func (s *Server) unlockRows(se *session, from int) {
	s.locks = slices.DeleteFunc(s.locks, func(l *rowLock) bool { return l.owner == se && l.at >= from })
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
