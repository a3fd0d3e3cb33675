package simpg

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// sendBuffer is how much a server gathers before it sends without being asked to.
const sendBuffer = 8192

// session is one session on a server. All of it but io is protected by the cluster's lock,
// which its goroutine holds while it executes and gives up to wait.
type session struct {
	server   *Server
	io       *link
	pid      uint32
	key      []byte
	user     string // who logged in
	database string
	began    time.Time
	rand     *rand.Rand

	set   *settings
	tx    *transaction
	names *names
	heard map[string]bool // channels it listens to
	drew  map[string]int64
	last  string // sequence that lastval is of

	busy     bool // it executes something that can be canceled
	canceled *Error
	ended    *Error        // it is to end, and say this; errSilent says nothing
	wake     chan struct{} // somebody changed something it may wait for
	waits    bool
	waitsFor *session
	locked   int       // how many rows and the like it has locked
	deadline time.Time // of the statement
	event    *Event    // of the statement
	text     string    // that the message at hand is about
	nested   int       // calls of functions within each other
	pending  []pgproto3.NotificationResponse
}

var (
	errShutdown = &Error{Severity: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command"}
	errStarting = &Error{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"}
	errSilent   = &Error{Severity: "FATAL", Message: "the connection is gone"}
	errSlots    = &Error{Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already"}
)

func (c *Cluster) clock() time.Time { return time.Now() }

// Serve serves one connection, from its first byte until it ends, and closes it.
func (s *Server) Serve(conn net.Conn) {
	l := &link{conn: conn}
	defer conn.Close()
	se := s.accept(l)
	if se == nil {
		return
	}
	defer se.leave()
	for {
		typ, body, err := se.receive()
		if err != nil || typ == 'X' {
			return
		}
		se.handle(typ, body)
	}
}

// leave is the end of a session.
func (se *session) leave() {
	s := se.server
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if e := caught(func() { se.rollback() }); e != nil {
		panic(e)
	}
	if se.server.running {
		se.dropTemporary()
	}
	s.unlockAdvisory(se, false)
	s.sessions = slices.DeleteFunc(s.sessions, func(o *session) bool { return o == se })
	s.cluster.wakeAll()
}

// end has the session say why and end, as soon as it gets to it. The lock is held.
func (se *session) end(why *Error) {
	if why == nil {
		why = errSilent
		_ = se.io.conn.Close()
	}
	if se.ended == nil {
		se.ended = why
	}
	se.io.unblock()
	se.poke()
}

// poke has the session look at what has changed, whatever it waits for.
func (se *session) poke() {
	select {
	case se.wake <- struct{}{}:
	default:
	}
	se.io.interrupt()
}

func (c *Cluster) wakeAll() {
	for _, s := range c.servers {
		for _, se := range s.sessions {
			if se.waits {
				select {
				case se.wake <- struct{}{}:
				default:
				}
			}
		}
	}
}

// await waits until ready, with the lock given up meanwhile. It raises if the session is
// canceled, ended or out of time.
func (se *session) await(ready func() bool) { se.awaitPolling(ready, 0) }

// awaitPolling is await, and looks again after each such time.
func (se *session) awaitPolling(ready func() bool, every time.Duration) {
	c := se.server.cluster
	se.waits = true
	defer func() { se.waits = false }()
	for {
		se.checkInterrupts()
		if ready() {
			return
		}
		var timer <-chan time.Time
		wait := every
		if !se.deadline.IsZero() {
			if left := se.deadline.Sub(c.clock()); wait == 0 || left < wait {
				wait = left
			}
		}
		if wait > 0 {
			t := time.NewTimer(wait)
			defer t.Stop()
			timer = t.C
		}
		c.mu.Unlock()
		if se.io.urgent {
			_ = se.flushed()
		}
		select {
		case <-se.wake:
		case <-timer:
		}
		c.mu.Lock()
		se.server.advance(c.clock())
	}
}

// sleep waits for a time.
func (se *session) sleep(d time.Duration) {
	until := se.server.cluster.clock().Add(d)
	se.awaitPolling(func() bool { return !se.server.cluster.clock().Before(until) }, max(d, time.Nanosecond))
}

// checkInterrupts raises if the session is to stop what it does.
func (se *session) checkInterrupts() {
	switch {
	case se.ended != nil:
		panic(se.ended)
	case se.canceled != nil:
		e := se.canceled
		se.canceled = nil
		panic(e)
	case !se.deadline.IsZero() && !se.server.cluster.clock().Before(se.deadline):
		se.deadline = time.Time{}
		raise("57014", "canceling statement due to statement timeout")
	}
}

// Cancel cancels what a session runs, as pg_cancel_backend does.
func (s *Server) Cancel(pid uint32) { s.interrupt(pid, nil, errCanceled) }

// Terminate ends a session, as pg_terminate_backend does.
func (s *Server) Terminate(pid uint32) { s.interrupt(pid, errShutdown, nil) }

// Conflict has recovery cancel what a session of a standby runs, or end it if it is idle in
// a transaction.
func (s *Server) Conflict(pid uint32) {
	s.control(func() {
		for _, se := range s.sessions {
			switch {
			case se.pid != pid || !s.recovering() || se.tx.id == 0:
			case se.busy:
				se.canceled = errConflict
				se.poke()
			default:
				e := *errConflict
				e.Severity, e.Message = "FATAL", "terminating connection due to conflict with recovery"
				e.Hint = "In a moment you should be able to reconnect to the database and repeat your command."
				se.end(&e)
			}
		}
	})
}

var (
	errCanceled = &Error{Severity: "ERROR", Code: "57014", Message: "canceling statement due to user request"}
	errConflict = &Error{Severity: "ERROR", Code: "40001", Message: "canceling statement due to conflict with recovery",
		Detail: "User query might have needed to see row versions that must be removed."}
)

func (s *Server) interrupt(pid uint32, end, cancel *Error) {
	s.control(func() {
		for _, se := range s.sessions {
			if se.pid == pid {
				se.signal(end, cancel)
			}
		}
	})
}

func (se *session) signal(end, cancel *Error) {
	switch {
	case end != nil:
		se.end(end)
	case se.busy:
		se.canceled = cancel
		se.poke()
	}
}

// Sessions lists the process ids of the sessions, oldest first.
func (s *Server) Sessions() (pids []uint32) {
	s.control(func() {
		for _, se := range s.sessions {
			pids = append(pids, se.pid)
		}
	})
	return pids
}

// promoted tells the session's client that its server is no standby any more.
func (se *session) promoted() { se.poke() }

// receive waits for a message of the client's. An error is the end of the session, of
// which the client has been told.
func (se *session) receive() (typ byte, body []byte, err error) {
	for {
		c := se.server.cluster
		c.mu.Lock()
		idle := !se.names.skips && !se.io.began()
		if idle && se.tx.block == 'I' {
			se.deliver()
		}
		until, expiry := se.idleUntil()
		e := se.ended
		if e == nil && expiry != nil && !c.clock().Before(until) {
			e, se.ended = expiry, expiry
		}
		c.mu.Unlock()
		if e != nil {
			se.fatal(e)
			return 0, nil, e
		}
		if (se.io.urgent || len(se.io.out) > sendBuffer) && se.flushed() != nil {
			return 0, nil, errSilent
		}
		typ, body, err = se.io.frame(until)
		switch {
		case err == nil:
			return typ, body, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		}
		var malformed *Error
		if errors.As(err, &malformed) {
			se.fatal(malformed)
		}
		return 0, nil, err
	}
}

// idleUntil is when the client has been silent for too long.
func (se *session) idleUntil() (until time.Time, expiry *Error) {
	name, e := "idle_session_timeout", &Error{Severity: "FATAL", Code: "57P05", Message: "terminating connection due to idle-session timeout"}
	if se.tx.block != 'I' {
		name, e = "idle_in_transaction_session_timeout", &Error{Severity: "FATAL", Code: "25P03", Message: "terminating connection due to idle-in-transaction timeout"}
	}
	ms, err := strconv.ParseInt(gucs[name].plain(se.set.is(name)), 10, 64)
	if err != nil || ms <= 0 || se.io.readyAt.IsZero() {
		return time.Time{}, nil
	}
	return se.io.readyAt.Add(time.Duration(ms) * time.Millisecond), e
}

// fatal tells the client why the session ends.
func (se *session) fatal(e *Error) {
	if e != errSilent {
		r := e.response()
		se.io.send(&r)
		_ = se.flushed()
	}
}

// flushed writes what is to be sent.
func (se *session) flushed() error { return se.io.flush() }

// notice tells the client something at once, if it wants to know.
func (se *session) notice(e *Error) {
	rank := func(s string) int { return slices.Index(gucs["client_min_messages"].values, s) }
	level := map[string]string{"NOTICE": "notice", "WARNING": "warning", "INFO": "error", "LOG": "log", "DEBUG": "debug1"}[e.Severity]
	if e.Severity != "INFO" && rank(level) < rank(se.set.is("client_min_messages")) {
		return
	}
	r := pgproto3.NoticeResponse(e.response())
	se.io.send(&r)
	se.io.urgent = true
}
