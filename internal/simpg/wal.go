package simpg

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
)

// record is one record of the log. The log of a server that was promoted has another end
// than that of the server it followed: they share what was before.
type record struct {
	end      lsn.LSN // where it ends, and the next begins
	state    *state  // after it
	timeline uint32
	flushed  time.Time // when it is on disk
}

// walWriterDelay is wal_writer_delay. What nobody waits for is flushed within three of it.
const walWriterDelay = 200 * time.Millisecond

// Server is one server. Its exported methods may be called concurrently.
type Server struct {
	Name    string
	cluster *Cluster

	log      []record // of a standby: what it has replayed
	inbox    []record // of a standby: what it has on disk and not replayed
	upstream *Server  // nil on a primary

	running bool
	began   time.Time // of the postmaster
	refuses *Error    // what new connections are told, nil for nothing
	slots   int       // -1 none at all; 0 is Options.Slots

	lag    time.Duration
	paused bool // it replays nothing
	cut    bool // it receives nothing

	sessions  []*session
	strangers map[*link]bool // connections that have not logged in
	advisory  map[advisoryKey]*advisoryLock
	locks     map[any][]rowLock
	nextOID   uint32
	drawn     map[string]int64 // of sequences, by "database schema.name": the last value given out
}

func (s *Server) now() *record { return &s.log[len(s.log)-1] }

func (s *Server) line() uint32 { return s.now().timeline }

func (s *Server) recovering() bool { return s.upstream != nil }

// write adds a record of so many bytes. With wait it is flushed at once, and what is
// before it too.
func (s *Server) write(st *state, size int, wait bool, r *rand.Rand) *record {
	last, now := s.now(), s.cluster.clock()
	due := now
	if !wait {
		due = now.Add(time.Duration(1+r.IntN(3*int(walWriterDelay/time.Millisecond))) * time.Millisecond)
	}
	s.log = append(s.log, record{end: last.end + lsn.LSN(size+7)&^7, state: st, timeline: last.timeline, flushed: due})
	for i := len(s.log) - 2; i > 0 && s.log[i].flushed.After(due); i-- {
		s.log[i].flushed = due
	}
	return s.now()
}

// flush has all of the log on disk by now.
func (s *Server) flush(now time.Time) {
	for i := len(s.log) - 1; i > 0 && s.log[i].flushed.After(now); i-- {
		s.log[i].flushed = now
	}
}

// flushedTo is the number of records on disk by now.
func (s *Server) flushedTo(now time.Time) int {
	n := len(s.log)
	for n > 1 && s.log[n-1].flushed.After(now) {
		n--
	}
	return n
}

// advance has a standby receive and replay what is due by now.
func (s *Server) advance(now time.Time) {
	u := s.upstream
	if u == nil || !s.running {
		return
	}
	u.advance(now)
	if have := len(s.log) + len(s.inbox); !s.cut && u.running && s.follows(u) {
		s.inbox = append(s.inbox, u.log[have:max(have, u.flushedTo(now))]...)
	}
	for !s.paused && len(s.inbox) > 0 && !s.inbox[0].flushed.Add(s.lag).After(now) {
		s.replay()
	}
}

func (s *Server) replay() {
	s.log = append(s.log, s.inbox[0])
	s.inbox = s.inbox[1:]
}

// follows reports whether a server's log goes on where s's ends.
func (s *Server) follows(u *Server) bool {
	all := s.now()
	n := len(s.log) + len(s.inbox)
	if len(s.inbox) > 0 {
		all = &s.inbox[len(s.inbox)-1]
	}
	return n <= len(u.log) && u.log[n-1].end == all.end && u.log[n-1].timeline == all.timeline
}

// Lag has a standby replay what is flushed so much later. 0, as in the beginning, is at once.
func (s *Server) Lag(d time.Duration) { s.control(func() { s.lag = d }) }

// Pause stops and resumes the replay of a standby.
func (s *Server) Pause(paused bool) { s.control(func() { s.paused = paused }) }

// Cut parts a standby from its upstream, or joins it again.
func (s *Server) Cut(cut bool) { s.control(func() { s.cut = cut }) }

// Slots bounds the connections; -1 lets none in, 0 is what Options say.
func (s *Server) Slots(n int) { s.control(func() { s.slots = n }) }

// Replayed is where a standby's replay, or a primary's log, stands now.
func (s *Server) Replayed() (end lsn.LSN) {
	s.control(func() { end = s.now().end })
	return end
}

// Timeline is the server's.
func (s *Server) Timeline() (line uint32) {
	s.control(func() { line = s.line() })
	return line
}

// Running reports whether the server runs; primary, whether it is no standby.
func (s *Server) Running() (running, primary bool) {
	s.control(func() { running, primary = s.running, s.upstream == nil })
	return running, primary
}

// control runs f with the lock held, at what is replayed by now, and lets everybody look again.
func (s *Server) control(f func()) {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.advance(s.cluster.clock())
	f()
	s.advance(s.cluster.clock())
	s.cluster.wakeAll()
}

// CatchUp has all replicas receive and replay everything, whatever their lag.
func (c *Cluster) CatchUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	for _, s := range c.servers {
		u := s.upstream
		if u == nil || !s.running || !s.follows(u) {
			continue
		}
		u.flush(now)
		s.inbox = append(s.inbox, u.log[len(s.log)+len(s.inbox):]...)
		for len(s.inbox) > 0 {
			s.replay()
		}
	}
	c.wakeAll()
}

// Crash ends the server at once, without a word to its clients: what is not flushed is lost.
func (s *Server) Crash() {
	s.control(func() {
		s.log = slices.Clip(s.log[:s.flushedTo(s.cluster.clock())])
		s.stop(nil)
	})
}

// Stop ends the server in an orderly way (mode fast): clients are told, and everything is
// flushed and, on replicas that are not cut off, received.
func (s *Server) Stop() {
	s.control(func() {
		now := s.cluster.clock()
		s.flush(now)
		for _, o := range s.cluster.servers {
			if o.upstream == s {
				o.advance(now)
			}
		}
		s.stop(errShutdown)
	})
}

func (s *Server) stop(why *Error) {
	s.running = false
	for _, se := range slices.Clone(s.sessions) {
		se.end(why)
	}
	for l := range s.strangers {
		_ = l.conn.Close()
	}
	s.locks, s.advisory = map[any][]rowLock{}, map[advisoryKey]*advisoryLock{}
}

// Start starts the server again, as what it was: a primary, or a standby of what it followed.
func (s *Server) Start() { s.control(s.start) }

func (s *Server) start() {
	s.cluster.starts++ // no two servers start at the same microsecond
	s.running, s.began, s.refuses = true, s.cluster.clock().Add(time.Duration(s.cluster.starts)*time.Microsecond), nil
	s.drawn = map[string]int64{}
}

// Starting has new connections refused because the server is starting up, until it is
// called with false.
func (s *Server) Starting(starting bool) {
	s.control(func() {
		if s.refuses = nil; starting {
			s.refuses = errStarting
		}
	})
}

// Promote makes a standby a primary on a timeline of its own, after it has replayed what
// it received. What it did not receive is not in its history.
func (s *Server) Promote() {
	s.control(func() {
		if s.upstream == nil {
			return
		}
		for len(s.inbox) > 0 {
			s.replay()
		}
		s.upstream = nil
		s.drawn = map[string]int64{}
		s.cluster.timeline++
		last := *s.now()
		last.timeline, last.end, last.flushed = s.cluster.timeline, last.end+0x80, s.cluster.clock()
		s.log = append(s.log, last)
		for _, se := range s.sessions {
			se.promoted()
		}
	})
}

// Follow makes the server, which must not run, a standby of another, with a copy of all
// that has flushed.
func (s *Server) Follow(upstream *Server) {
	s.control(func() {
		upstream.advance(s.cluster.clock())
		s.upstream, s.inbox = upstream, nil
		s.log = slices.Clone(upstream.log[:upstream.flushedTo(s.cluster.clock())])
	})
}

// Synchronous changes Options.Synchronous: a failover leaves nobody to wait for.
func (c *Cluster) Synchronous(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.options.Synchronous = names
	c.wakeAll()
}

// awaitStandbys waits as synchronous replication does. If it is canceled the commit
// stands, with a warning.
func (se *session) awaitStandbys(end lsn.LSN) {
	c := se.server.cluster
	mode := se.set.is("synchronous_commit")
	if mode == "local" {
		return
	}
	err := caught(func() {
		se.awaitPolling(func() bool {
			return !slices.ContainsFunc(c.options.Synchronous, func(name string) bool {
				o := c.Server(name)
				if o == nil || o.upstream != se.server {
					return true
				}
				o.advance(c.clock())
				at := o.now().end
				if n := len(o.inbox); n > 0 && mode != "remote_apply" {
					at = o.inbox[n-1].end
				}
				return at < end
			})
		}, time.Millisecond)
	})
	if err != nil {
		se.notice(&Error{Severity: "WARNING", Code: "01000", Message: "canceling wait for synchronous replication due to user request",
			Detail: "The transaction has already committed locally, but might not have been replicated to the standby."})
	}
}
