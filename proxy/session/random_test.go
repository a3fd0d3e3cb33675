package session_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// A session answered as the proxy answers it, by itself or by connections that take over
// what it has, is one session of PostgreSQL.
func TestRandomHistories(t *testing.T) {
	plans := router.NewPlans(router.Options{})
	rapid.Check(t, func(t *rapid.T) {
		startup := values{}
		if rapid.Bool().Draw(t, "startup settings") {
			startup = values{"work_mem": "3MB", "application_name": "starts"}
			if rapid.Bool().Draw(t, "a custom one") {
				startup["app.b"] = "at start"
			}
		}
		s := &sim{
			T: t, plans: plans, state: session.New(setting.Settings{}, setting.From(startup), setting.Settings{}),
			ideal: newModel(startup, startup), texts: map[string]op{},
		}
		for range rapid.IntRange(1, 30).Draw(t, "batches") {
			if rapid.IntRange(0, 3).Draw(t, "moves") == 0 {
				s.move()
			}
			b := genBatch(t)
			t.Log(b)
			var copied session.State
			s.state.CopyTo(&copied)
			before := copied.String() + fmt.Sprint(copied.Settings.Log())
			if s.do(b); s.over {
				return
			}
			s.check()
			if after := copied.String() + fmt.Sprint(copied.Settings.Log()); after != before {
				t.Fatalf("a snapshot changed from\n%s to\n%s", before, after)
			}
		}
	})
}

// sim is a session in the proxy, whose servers are models, beside the one it should be.
type sim struct {
	*rapid.T
	plans *router.Plans
	state session.State
	ideal *model

	server  *model          // whose connection it holds
	carried session.History // what the proxy believes to be there
	restore bool
	primary bool // it is the primary's, where a transaction stays
	// vague: transaction control in a string; only asking the server tells what came of it.
	vague    bool
	ownVague bool // the same for the proxy's own settings, which nobody can ask for
	texts    map[string]op
	over     bool // nothing more can be compared
}

func (s *sim) plan(o op) *router.Plan { return s.plans.Get([]byte(o.text)) }

func known(name string) bool { return setting.IsCustom(name) }

// do answers a batch.
func (s *sim) do(b batch) {
	if !b.pipeline && len(b.ops) > 1 {
		s.doString(b)
		return
	}
	awaits, failed := false, false
	for _, o := range b.ops {
		want := answer(s.ideal.run(o, false))
		if want == "skipped" {
			break
		}
		p := s.plan(o)
		got := ""
		if s.state.Executable(p, s.server != nil, awaits, known) {
			got = s.here(o, p)
		} else {
			if !awaits {
				s.acquire()
			}
			awaits = true
			got, failed = s.onServer(o, p)
		}
		if got != want {
			s.Fatalf("%s: %s, but PostgreSQL says %s", o.text, got, want)
		}
	}
	status := s.ideal.sync()
	if !awaits {
		s.state.EndLocal()
	} else {
		s.ready(status, failed)
	}
}

// here answers a statement as the proxy does by itself.
func (s *sim) here(o op, p *router.Plan) string {
	if p.Own.Verb != router.OwnNone {
		s.state.Proxy.Set(router.Set{Name: "pgweir." + p.Own.Name, Value: p.Own.Value, Local: p.Own.Local, Reset: p.Own.Verb == router.OwnReset})
		return o.tag
	}
	tag := s.state.Execute(p)
	if p.SetOnly {
		tag = p.Sets[0].Tag
	}
	return tag
}

// acquire takes a connection that carries what the session has, and brings it to where the
// transaction is.
func (s *sim) acquire() {
	if s.server != nil {
		return
	}
	st := &s.state
	want := st.Settings.Now()
	begins := st.Tx.Phase.InBlock() || len(st.Settings.Log()) > 0
	if begins {
		want = st.Settings.Begin()
	}
	s.server, s.carried, s.restore = newModel(values{}, maps.Collect(want.All())), session.Carrying(want, setting.Settings{}), false
	s.primary = false
	if st.Tx.Phase.InBlock() {
		s.mustRun(op{kind: opBegin, tag: "BEGIN", modes: modesOf(st.Tx.Begin())})
		for _, text := range st.Tx.Chained() {
			o := op{kind: opCommit, tag: "COMMIT", chain: true}
			if strings.HasPrefix(text, "SET ") {
				o = op{kind: opSetTx, modes: modesOf(text)}
			}
			s.mustRun(o)
		}
	}
	if !begins {
		return
	}
	s.replay()
	s.carried.Replay(&st.Settings)
	if st.Tx.Phase == session.AbortedDeferred {
		s.server.run(op{kind: opFail}, false)
		s.server.sync()
		st.Tx.Phase = session.Aborted
	}
}

// replay repeats on the server what the transaction has done. That set_config takes a
// snapshot there, so that isolation said later comes too late, is left out: the proxy
// answers BEGIN and SET TRANSACTION itself as long as no server takes part.
func (s *sim) replay() {
	for _, step := range s.state.Settings.Log() {
		switch step.Kind {
		case session.StepSavepoint:
			s.mustRun(op{kind: opSavepoint, name: step.Name})
		case session.StepText:
			s.mustRun(s.texts[step.Text])
		case session.StepModes:
			s.mustRun(op{kind: opSetTx, modes: said(step.Modes)})
		case session.StepSet:
			set := s.state.Settings.Resolve(step.Set)
			s.mustRun(op{kind: opSet, name: set.Name, value: set.Value, local: set.Local, reset: set.Reset})
		}
	}
	s.server.executed = 0
}

func (s *sim) mustRun(o op) {
	if _, code := s.server.run(o, false); code != "" {
		s.Fatalf("the server refused what the proxy sent by itself: %+v: %s", o, code)
	}
}

// onServer has the server run a statement.
func (s *sim) onServer(o op, p *router.Plan) (answered string, failed bool) {
	tag, code := s.server.run(o, false)
	out := session.Done
	switch {
	case code == "25P02":
		out = session.NotRun
	case code != "":
		out = session.Failed
	}
	st := session.Executed{Plan: p}
	var args []router.Argument
	for _, v := range o.params {
		args = append(args, router.Argument{Value: v, Text: true, Bool: true})
	}
	st.Sets = bound(p, args)
	if p.SetOnly && len(p.Sets) == 0 {
		st.Text = o.text
		s.texts[o.text] = o
	}
	s.ran(p, st, out)
	return answer(tag, code), code != ""
}

func bound(p *router.Plan, args []router.Argument) (sets []router.Set) {
	for _, set := range p.Sets {
		set, ok := set.Bound(args)
		if !ok {
			return nil
		}
		sets = append(sets, set)
	}
	return sets
}

// ran is what the proxy does with a statement's outcome.
func (s *sim) ran(p *router.Plan, st session.Executed, out session.Outcome) {
	s.primary = s.primary || p.Target == router.TargetPrimary
	before := s.state.Tx.Modes
	e := s.state.Ran(&st, out, nil)
	s.restore = s.restore || e.Startup
	if out != session.Done {
		return
	}
	switch e.Ended {
	case session.Committed:
		s.carried.Commit()
	case session.RolledBack:
		s.carried.Rollback()
	}
	if st.Followed() {
		s.carried.Follow(p, st.Sets, before)
	}
}

// doString answers a simple query of several statements.
func (s *sim) doString(b batch) {
	p := s.plans.Get([]byte(b.String()))
	if p.Parts != nil {
		if p.Flags.Has(router.FlagTxControl) && len(s.ideal.startup) > 0 && strings.Contains(b.String(), "RESET ALL") {
			return // it gets a connection that began with the session's own settings
		}
		s.doParts(b, p)
		return
	}
	// Where a string sets what its text does not tell, the settings that it tells are
	// left to be asked for as well.
	vague := p.Flags.Has(router.FlagTxControl) || len(p.Sets) == 0 && (len(p.Touches) > 0 || p.Flags&(router.FlagSetsState|router.FlagSetsLocal) != 0)
	if _, custom := s.ideal.startup["app.b"]; vague && custom {
		return // whether it was reset, or set to nothing, cannot be asked
	}
	s.vague, s.ownVague = s.vague || vague, s.ownVague || vague
	s.acquire()
	want, got := s.ideal.do(b), s.server.do(b)
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		s.Fatalf("%s: %s, but PostgreSQL says %s", b, got, want)
	}
	failed := s.server.skips
	st := session.Executed{Plan: p}
	st.Sets = bound(p, nil)
	out := session.Done
	if failed {
		out = session.Failed
	}
	s.ran(p, st, out)
	s.ready(s.ideal.sync(), failed)
}

// doParts is doString where the session follows each statement.
func (s *sim) doParts(b batch, p *router.Plan) {
	parts := p.Parts
	s.acquire()
	s.primary = s.primary || p.Target == router.TargetPrimary
	want := s.ideal.do(b)
	var got []string
	for i, o := range b.ops {
		tag, code := s.server.run(o, true)
		if code == "skipped" {
			break
		}
		got = append(got, answer(tag, code))
		out := session.Done
		switch {
		case code == "25P02":
			out = session.NotRun
		case code != "":
			out = session.Failed
		}
		s.ran(parts[i], session.Executed{Plan: parts[i], Sets: parts[i].Sets}, out)
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		s.Fatalf("%s: %s, but PostgreSQL says %s", b, got, want)
	}
	failed := s.server.skips
	s.ready(s.ideal.sync(), failed)
}

// ready is what the proxy does with a ReadyForQuery.
func (s *sim) ready(status byte, failed bool) {
	if got := s.server.sync(); got != status && !s.vague {
		s.Fatalf("status %c, but PostgreSQL says %c", got, status)
	}
	st := &s.state
	parameter := func(name string) string { return s.server.now[strings.ToLower(name)] }
	st.Ready(status, failed, parameter)
	if status == 'I' {
		if _, ok := s.carried.Kept().Value("timezone"); ok && !failed && s.carried.Changed() {
			s.carried.Correct("timezone", parameter("TimeZone"))
		}
		s.ended(!failed)
	}
	s.setAgain(status)
	if status != 'I' {
		return
	}
	if s.vague = false; st.NeedsReadBack() {
		found := setting.From(s.server.now)
		if role, _ := found.Value("role"); role == "none" {
			found = found.Without("role") // as who asks the server takes it
		}
		if _, ok := found.Value("app.b"); !ok && st.Known >= session.UnknownPartly && s.ideal.startup["app.b"] != "" {
			s.over = true // whether RESET returned it to '', or it was set to that, cannot be asked
			return
		}
		st.ReadBack(session.Found{Values: found}, 0)
		s.carried = session.Carrying(found, setting.Settings{})
		s.restore = s.carried.Differs(&st.Settings)
		s.setAgain('I')
	}
	if st.Pins == 0 {
		s.checkServer()
		s.server = nil
	}
}

func (s *sim) ended(commit bool) {
	if commit {
		s.carried.Commit()
	} else {
		s.carried.Rollback()
	}
}

// setAgain sets startup settings again that RESET returned to the server's defaults.
func (s *sim) setAgain(status byte) {
	st := &s.state
	needed := s.restore || status == 'T' && len(s.ideal.startup) > 0 || status == 'I' && st.Pins != 0
	if status == 'E' || !needed {
		return
	}
	s.restore = false
	for _, ch := range st.Missing(&s.carried) {
		s.mustRun(op{kind: opSet, name: ch.Name, value: ch.Value, local: ch.Local, reset: ch.Reset})
		s.carried.Set(router.Set{Name: ch.Name, Value: ch.Value, Reset: ch.Reset, Local: ch.Local})
	}
	if s.server.sync(); status == 'I' {
		s.ended(true)
	}
}

// move ends a transaction on its server, to go on elsewhere, as a replica's may.
func (s *sim) move() {
	st := &s.state
	if s.server == nil || !st.Tx.Phase.InBlock() || s.vague || s.primary || st.Pins&^router.PinSetting != 0 || st.Known >= session.UnknownPartly {
		return
	}
	queried := s.server.queried
	s.server = nil
	st.Moved()
	s.acquire()
	s.server.queried, s.server.skips = queried, false
	if st.Tx.Phase == session.Deferred {
		st.Ready('T', false, nil)
	}
	s.Log("(moved)")
	s.check()
}
