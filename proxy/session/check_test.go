package session_test

import (
	"fmt"
	"maps"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// comparable are values as they can be compared: in a server's words, without the proxy's
// own settings, and without the one whose values a text does not tell.
func (s *sim) comparable(v values) string {
	all := values{}
	for name, value := range v {
		if name != own && !(name == "role" && value == "none") && (name != "search_path" || s.state.Known == session.Known) {
			all[name] = canonical(name, value)
		}
	}
	return fmt.Sprint(all)
}

func (s *sim) same(what string, got setting.Settings, want values) {
	if g, w := s.comparable(maps.Collect(got.All())), s.comparable(want); g != w {
		s.Fatalf("%s are %s, but in PostgreSQL %s\n%s", what, g, w, s.state.String())
	}
}

// check compares the session with what it should be.
func (s *sim) check() {
	st := &s.state
	if st.Tx.Phase.Status() != s.ideal.block {
		s.Fatalf("%s, but PostgreSQL says %c", st.Tx.Phase, s.ideal.block)
	}
	if s.vague || st.Known >= session.UnknownPartly {
		return
	}
	h := &st.Settings
	s.same("what ROLLBACK returns to", h.Begin(), s.ideal.committed)
	if h.InSavepoint() != (len(s.ideal.points) > 0) {
		s.Fatalf("in a savepoint: %v, but PostgreSQL has %d", h.InSavepoint(), len(s.ideal.points))
	}
	if st.Tx.Phase.Failed() {
		return
	}
	s.same("settings in force", h.Now(), s.ideal.now)
	s.same("settings that COMMIT keeps", h.Kept(), s.ideal.kept)
	if route, _ := st.Proxy.Now().Value(own); route != s.ideal.now[own] && !s.ownVague {
		s.Fatalf("%s is %q, but should be %q", own, route, s.ideal.now[own])
	}
	if st.Tx.Phase == session.Idle && st.Known == session.Known && maps.Collect(h.Now().All())["timezone"] != s.ideal.now["timezone"] {
		s.Fatalf("the server's words were not taken over: %s", st)
	}
	if m := effective(st.Tx.Modes); st.Tx.Phase.InBlock() && m != s.ideal.modes {
		s.Fatalf("modes %v, but in PostgreSQL %v", m, s.ideal.modes)
	}
	s.checkLog()
	if s.server != nil {
		s.checkServer()
	}
}

// checkServer compares what the connection carries with what is believed of it, and with
// what it should.
func (s *sim) checkServer() {
	s.same("settings believed on the server", s.carried.Now(), s.server.now)
	s.same("settings believed to be kept there", s.carried.Kept(), s.server.kept)
	if !s.state.Tx.Phase.InBlock() {
		return // it takes over the rest with the next statement
	}
	s.same("settings of the session", s.state.Settings.Now(), s.server.now)
	if s.server.modes != s.ideal.modes {
		s.Fatalf("modes on the server %v, but should be %v", s.server.modes, s.ideal.modes)
	}
}

// checkLog looks whether the log leads where the session is, and stays short.
func (s *sim) checkLog() {
	h := &s.state.Settings
	c := session.Carrying(h.Begin(), setting.Settings{})
	c.Replay(h)
	s.same("settings by the log", c.Now(), maps.Collect(h.Now().All()))
	s.same("settings kept by the log", c.Kept(), maps.Collect(h.Kept().All()))
	if most := (len(s.ideal.points) + 1) * 3 * len(settable); len(h.Log()) > most {
		s.Fatalf("%d steps, more than %d", len(h.Log()), most)
	}
	from := session.Carrying(setting.From(values{"app.b": "of another", "work_mem": "9MB", "role": "other"}), setting.Settings{})
	for _, ch := range from.Until(h) {
		from.Set(router.Set{Name: ch.Name, Value: ch.Value, Reset: ch.Reset, Local: ch.Local})
	}
	if from.Differs(h) {
		s.Fatalf("Until leads to %v, not to %s", maps.Collect(from.Now().All()), s.state.String())
	}
}

func effective(m router.Modes) modes { return modesOf(m.Begin()) }

// said are the modes that m gives, behind a savepoint: only the access mode can be another.
func said(m router.Modes) (s modes) {
	switch m.Access {
	case router.ReadOnly:
		s.readOnly = "on"
	case router.ReadWrite:
		s.readOnly = "off"
	}
	return s
}

// modesOf reads the modes of a BEGIN.
func modesOf(begin string) modes {
	m := defaultModes
	for _, level := range []string{"read uncommitted", "read committed", "repeatable read", "serializable"} {
		if strings.Contains(begin, strings.ToUpper(level)) {
			m.isolation = level
		}
	}
	if strings.Contains(begin, "READ ONLY") {
		m.readOnly = "on"
	}
	if strings.Contains(begin, " DEFERRABLE") && !strings.Contains(begin, "NOT DEFERRABLE") {
		m.deferrable = "on"
	}
	return m
}
