package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/config"
)

// peerLook is what of a session is looked at.
const peerLook = "select current_setting('app.a', true), current_setting('app.b', true), current_setting('app.c', true), current_setting('app.x.y', true), " +
	"current_user, session_user, current_setting('search_path'), current_setting('timezone'), current_setting('datestyle'), current_setting('client_encoding'), " +
	"current_setting('application_name'), current_setting('work_mem'), current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only')"

// peerSettings are all settings a session can change that are not what PostgreSQL
// was built with. Custom ones are never among them.
const peerSettings = "select name, setting from pg_settings where context in ('user', 'superuser') and setting is distinct from boot_val and name not like 'transaction%' order by name"

// peerPins are the reasons the tests look at.
var peerPins = []string{"setting", "role", "temp", "cursor", "lock", "listen", "load", "opaque", "prepared"}

// pinsOf are the pins for which a metric is higher than before, by name.
func (s *service) pinsOf(t testing.TB, metric string, before map[string]float64) (now map[string]float64, higher string) {
	now = map[string]float64{}
	var names []string
	for _, p := range peerPins {
		now[p] = s.metric(t, metric, "reason="+p)
		if now[p] > before[p] {
			names = append(names, p)
		}
	}
	return now, strings.Join(names, " ")
}

// TestSettingsThatBreakPeers plays, on PostgreSQL itself and through a proxy with one
// connection to each server, sessions that change their settings, together with a
// session that has set the same names to other values and one that never touched
// any. What each is told must be the same, also by a look at the settings after each step.
func TestSettingsThatBreakPeers(t *testing.T) {
	direct, proxied := newDatabase(t, ""), newDatabase(t, "")
	role := "role_" + direct
	run(t, direct, strings.ReplaceAll(histSchema, "%ROLE%", role))
	run(t, proxied, strings.ReplaceAll(strings.ReplaceAll(histSchema, "create role %ROLE%;", ""), "%ROLE%", role))
	t.Cleanup(func() {
		run(t, direct, "drop owned by "+role)
		run(t, proxied, "drop owned by "+role+"; drop role "+role)
	})
	s := start(t, poolSize(1), eventual, func(c *config.Config) {
		c.Servers, c.Pool.AcquireTimeout = c.Servers[:2], answerPatience-2*time.Second
	})
	for _, v := range append(slices.Clone(peers), hardPeers()...) {
		v.steps = strings.ReplaceAll(v.steps, "%ROLE%", role)
		for _, watched := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/watched=%v", v.name, watched), func(t *testing.T) {
				both := &pair{t: t, s: s}
				for i, at := range [][2]string{{shared(t).Primary.Addr(), direct}, {s.addr, proxied}} {
					p := &player{t: t, addr: at[0], database: at[1], now: "a", conns: map[string]*rawConn{}, out: map[string][]byte{}, due: map[string]int{}}
					p.conns["a"] = raw(t, at[0], at[1], v.startup...)
					both.players[i] = p
				}
				both.play(&v, watched)
				if (both.difference != "") != v.differs {
					t.Errorf("differs: %v\n%s", !v.differs, both.difference)
				}
			})
		}
	}
}

// pair plays the same on PostgreSQL itself and through the proxy, until the first difference.
type pair struct {
	t          *testing.T
	s          *service
	players    [2]*player
	difference string
}

// line sends a line on both sides.
func (b *pair) line(l string) {
	if b.difference != "" {
		return
	}
	for _, p := range b.players {
		p.line(l)
		if l == "S" || strings.HasPrefix(l, "Q ") {
			p.line("wait")
		}
	}
	b.difference = difference(b.players[0].transcript, b.players[1].transcript)
}

// idle reports whether the last answer was outside a transaction.
func (b *pair) idle() bool { return strings.HasSuffix(tail(b.players[0].transcript), "Z I") }

// play takes the steps of a session, with those of the others between them wherever
// no connection is held.
func (b *pair) play(v *peer, watched bool) {
	before, _ := b.s.pinsOf(b.t, "pgweir_pins_total", nil)
	b.line("@b")
	b.line("Q set app.a = 'of b'")
	b.line("Q set app.b = 'of b'")
	b.others()
	for l := range strings.Lines(strings.TrimSpace(v.steps)) {
		l = strings.TrimSpace(l)
		b.line("@a")
		b.line(l)
		if l != "S" && !strings.HasPrefix(l, "Q ") {
			continue
		}
		if watched {
			b.line("Q " + peerLook)
		}
		if b.idle() {
			b.others()
		}
	}
	b.line("@a")
	b.line("Q " + peerLook)
	b.line("Q " + peerSettings)
	if b.difference == "" {
		b.s.rest(b.t)
		_, held := b.s.pinsOf(b.t, "pgweir_pinned_sessions", nil)
		_, pins := b.s.pinsOf(b.t, "pgweir_pins_total", before)
		if pins != v.pins || held != v.held {
			b.t.Errorf("pins %q, held in the end %q; want %q and %q", pins, held, v.pins, v.held)
		}
	}
	b.leave("a")
	b.others()
	b.leave("b")
	b.leave("c")
}

// leave ends a session on both sides.
func (b *pair) leave(name string) {
	for _, p := range b.players {
		if c := p.conns[name]; c != nil {
			c.close()
		}
	}
	until(b.t, "nothing is held", func() bool { return b.s.metric(b.t, "pgweir_pinned_sessions") == 0 })
}

// others has the other sessions look at what they have.
func (b *pair) others() {
	if b.difference != "" {
		return
	}
	b.s.rest(b.t)
	if b.s.metric(b.t, "pgweir_pinned_sessions") > 0 {
		return
	}
	for _, name := range []string{"@b", "@c"} {
		b.line(name)
		b.line("Q " + peerLook)
		b.line("Q /* pgweir:primary */ " + peerLook)
		b.line("Q /* pgweir:primary */ " + peerSettings)
	}
}
