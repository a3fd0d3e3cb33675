package simpg

import "slices"

// rowLock is a session's lock of a row, of a value of a key or of a table.
type rowLock struct {
	owner *session
	share bool
	at    int // how many the owner had before, for savepoints
}

type rowID struct {
	database, relation string
	id                 int64
}

type keyValue struct{ database, relation, key, value string }

// lock locks what for the session, waiting while another has it. waited tells that it had
// to; got is false only with skip.
func (se *session) lock(what any, share, nowait, skip bool) (waited, got bool) {
	s := se.server
	for {
		i := slices.IndexFunc(s.locks[what], func(l rowLock) bool { return l.owner != se && !(l.share && share) })
		if i < 0 {
			break
		}
		switch {
		case skip:
			return waited, false
		case nowait:
			raise("55P03", "could not obtain lock on row in relation")
		}
		holder := s.locks[what][i].owner
		waited = true
		if s.deadlock(se, holder) {
			raise("40P01", "deadlock detected")
		}
		se.waitsFor = holder
		e := caught(func() {
			se.await(func() bool {
				return !slices.ContainsFunc(s.locks[what], func(l rowLock) bool { return l.owner == holder })
			})
		})
		if se.waitsFor = nil; e != nil {
			panic(e)
		}
	}
	if !slices.ContainsFunc(s.locks[what], func(l rowLock) bool { return l.owner == se && (share || !l.share) }) {
		s.locks[what] = append(s.locks[what], rowLock{se, share, se.locked})
		se.locked++
	}
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
