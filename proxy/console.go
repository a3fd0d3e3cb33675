package proxy

import (
	"bytes"
	"context"
	"crypto/subtle"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/console"
)

// Orders are carried out by who runs the service, as administrators give them at the console.
type Orders struct {
	Reload   func() error              // reads the configuration again
	Apply    func(config.Config) error // puts another one in force
	Shutdown func(console.Shutdown)
	Version  string
}

// Obey says who carries out the console's orders. It is to be called before Accept; without it the
// console refuses what it cannot do by itself.
func (s *Server) Obey(o Orders) { s.consoles.orders = o }

// maxConsoles bounds the sessions of the console, which count for no other bound: there is one when
// all else is full.
const maxConsoles = 32

// maxOnlyShow is how many of them may be of users who may not command, so that there is room for
// those who may.
const maxOnlyShow = maxConsoles - 8

// consoles are the sessions of the admin console, and what was commanded there. Safe for concurrent use.
type consoles struct {
	orders Orders
	// onlyPrimary has everything run on the primary.
	onlyPrimary atomic.Bool
	averages    averages
	commanding  sync.Mutex // held while the configuration is changed by a command

	mu       sync.Mutex // protects the fields below
	sessions map[uint32]*consoleSession
	disabled map[string]bool // databases that let nobody in
}

// consoleSession is one of them, with what a cancel request must show.
type consoleSession struct {
	*console.Session
	front  *wire.Conn
	secret []byte
	end    context.CancelFunc
}

func newConsoles() consoles {
	return consoles{sessions: map[uint32]*consoleSession{}, disabled: map[string]bool{}}
}

// open registers a session, and gives it a secret, and a number that no session has.
func (cs *consoles) open(s *consoleSession, secretSize int, taken func(pid uint32) bool) (pid uint32, err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	only := 0
	for _, other := range cs.sessions {
		if !other.Admin {
			only++
		}
	}
	if n := len(cs.sessions); n >= maxConsoles || !s.Admin && only >= maxOnlyShow {
		return 0, wire.Fatalf("53300", "sorry, too many clients already: %d are connected to the admin console", n)
	}
	pid, s.secret, err = drawKey(secretSize, func(pid uint32) bool { return cs.sessions[pid] != nil || taken(pid) })
	if err == nil {
		cs.sessions[pid] = s
	}
	return pid, err
}

func (cs *consoles) close(pid uint32) {
	cs.mu.Lock()
	delete(cs.sessions, pid)
	cs.mu.Unlock()
}

// cancel carries out a cancel request, if its key is of a session here.
func (cs *consoles) cancel(pid uint32, secret []byte) (known bool) {
	cs.mu.Lock()
	s := cs.sessions[pid]
	cs.mu.Unlock()
	if s == nil || subtle.ConstantTimeCompare(s.secret, secret) != 1 {
		return false
	}
	s.Cancel()
	return true
}

// each calls do with all sessions.
func (cs *consoles) each(do func(*consoleSession)) {
	cs.mu.Lock()
	var all []*consoleSession
	for _, s := range cs.sessions {
		all = append(all, s)
	}
	cs.mu.Unlock()
	for _, s := range all {
		do(s)
	}
}

// lookAtClients cancels what is under way for administrators that are gone.
func (cs *consoles) lookAtClients() {
	cs.each(func(s *consoleSession) {
		if s.front.Gone() {
			s.Cancel()
		}
	})
}

// endAll ends all sessions.
func (cs *consoles) endAll() { cs.each(func(s *consoleSession) { s.end() }) }

// admit refuses the clients of a database that is disabled.
func (cs *consoles) admit(database string) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.disabled[database] {
		return wire.Fatalf("57P03", "database \"%s\" is disabled", database).
			WithHint("ENABLE at the admin console lets clients in again.")
	}
	return nil
}

// console serves an authenticated client that has asked for the admin console.
func (h *handshake) console(as auth.Identity) error {
	s := h.s
	show, command := h.terms.cfg.Console.Admits(as.User)
	if !show {
		return wire.Fatalf("42501", "user \"%s\" may not use the admin console", as.User).
			WithHint("console.admin_users and console.stats_users list who may.")
	}
	ctx, end := context.WithCancel(s.ctx)
	defer end()
	version := s.consoles.orders.Version
	cs := &consoleSession{front: h.front, end: end}
	cs.Session = &console.Session{
		Service: operator{s}, User: as.User, Admin: command, Version: version,
		Log: s.log.With(zap.String("client", remoteHost(h.nc))), Parameters: h.consoleParameters(as.User, version),
	}
	pid, err := s.consoles.open(cs, h.secretSize(), func(pid uint32) bool { return s.members.has(pid) })
	if err != nil {
		return err
	}
	defer s.consoles.close(pid)
	if err := h.greet(cs.Parameters, pid, cs.secret); err != nil {
		return err
	}
	_ = h.nc.SetDeadline(time.Time{})
	if s.terms.Load().cfg.Log.Connections {
		cs.Log.Info("administrator connected", zap.String("user", as.User), zap.Bool("admin", command))
	}
	defer func() {
		if p := recover(); p != nil {
			cs.Log.Error("fault of the proxy: the session is ended", zap.Any("panic", p), zap.Stack("stack"))
		}
	}()
	early := bytes.NewReader(slices.Clone(h.front.Buffered()))
	h.front.Free()
	conn := h.front.NetConn()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := cs.Serve(ctx, struct {
		io.Reader
		io.Writer
	}{io.MultiReader(early, conn), conn}); err != nil && ctx.Err() == nil {
		cs.Log.Debug("administrator disconnected", zap.NamedError("because", err))
	}
	return errServed
}

// consoleParameters are what the console tells at its start. Drivers read a version of PostgreSQL
// out of the first.
func (h *handshake) consoleParameters(user, version string) map[string]string {
	return map[string]string{
		"server_version": "15.0 (pgweir " + version + ")", "server_encoding": "UTF8", "client_encoding": "UTF8",
		"standard_conforming_strings": "on", "integer_datetimes": "on", "DateStyle": "ISO, MDY", "TimeZone": "UTC",
		"is_superuser": "off", "session_authorization": user, "application_name": h.params["application_name"],
	}
}
