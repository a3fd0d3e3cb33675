package proxy_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgweir/pgweir/config"
)

// stage is where stories are played: on PostgreSQL itself and through a proxy, each
// with a database of its own on the same servers.
type stage struct {
	setup string // run in both databases; %DB% is the database
	once  string // run once, for what all databases share; %ROLE% is a role of the test's own
	undo  string
	// undone is run in both databases before undo.
	undone string
	user   string // of the sessions; empty is the superuser
	look   string // what else of a session is looked at
	change []func(*config.Config)
	every  bool // story in each of its manners
}

// story is what sessions do, lines of a script (see readScripts) each answered before
// the next is sent. Session a begins. Besides:
//
//	Q a ;; b     one string, or by the extended protocol one pipeline
//	! SQL        run on the primary, past the proxy
//	new          every session but a is a new one from here on
//
// %n% is a number of the playing's own, %ROLE% the stage's role.
type story struct {
	name    string
	steps   string
	startup []string // further startup parameters of session a
	// mode restricts how it is played: "" is every manner there is, "once" as it is written.
	mode string
}

// manner is one manner to play a story.
type manner struct {
	size     int
	extended bool // simple queries are sent as Parse, Bind, Describe, Execute, Sync
	within   bool // in a transaction block
}

func (w manner) String() string {
	name := fmt.Sprintf("pool=%d", w.size)
	if w.extended {
		name += ",extended"
	}
	if w.within {
		name += ",in a transaction"
	}
	return name
}

// stageLook is what of a session is looked at, on a primary.
const stageLook = `current_user, session_user, current_setting('role'), current_setting('search_path'), current_setting('app.a', true), current_setting('app.current_org_id', true),
 current_setting('standard_conforming_strings'), current_setting('client_encoding'), current_setting('default_transaction_isolation'),
 current_setting('default_transaction_read_only'), current_setting('work_mem'), current_setting('transaction_isolation'), current_setting('TimeZone'),
 (select count(*) from pg_catalog.pg_class where relnamespace = pg_my_temp_schema()), (select count(*) from pg_catalog.pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
 (select count(*) from pg_catalog.pg_cursors where is_holdable), (select count(*) from pg_listening_channels())`

var playings atomic.Int64

// tell plays stories in several manners: what each session is told must be what PostgreSQL
// tells, and no connection may show another session anything a new one would not see. Stages that change roles, or for
// which it matters which connection a session gets, are not played beside others: what is given to a role puts all
// databases' sessions in doubt for a moment.
func (g stage) tell(t *testing.T, stories ...story) {
	direct, proxied := newDatabase(t, ""), newDatabase(t, "")
	role := "role_" + direct
	fill := strings.NewReplacer("%ROLE%", role).Replace
	if g.once != "" {
		run(t, direct, fill(g.once))
	}
	for _, db := range []string{direct, proxied} {
		if g.setup != "" {
			run(t, db, strings.ReplaceAll(fill(g.setup), "%DB%", db))
		}
	}
	t.Cleanup(func() {
		for _, db := range []string{direct, proxied} {
			if g.once != "" {
				run(t, db, "drop owned by "+role+" cascade")
				run(t, db, fill(g.undone))
			}
		}
		if g.once != "" {
			run(t, direct, fill("reset role; drop role "+role)+"; "+fill(g.undo))
		}
	})
	for _, size := range []int{1, 2, 8} {
		s := start(t, append([]func(*config.Config){poolSize(size), eventual, func(c *config.Config) {
			c.Servers, c.Pool.AcquireTimeout = c.Servers[:2], answerPatience-2*time.Second
		}}, g.change...)...)
		for i, v := range stories {
			for _, w := range v.manners(i, size, g.every) {
				t.Run(v.name+"/"+w.String(), func(t *testing.T) {
					p := playing{t: t, s: s, stage: &g, manner: w, user: fill(g.user), databases: [2]string{direct, proxied}}
					n := strconv.FormatInt(playings.Add(1), 10)
					v := v
					v.steps = strings.NewReplacer("%ROLE%", role, "%n%", n).Replace(v.steps)
					v.startup = slices.Clone(v.startup)
					for i := range v.startup {
						v.startup[i] = fill(v.startup[i])
					}
					p.play(&v)
				})
			}
		}
	}
}

// manners are those a story is played in with a pool of a size: of the nth story of a stage, two of the four there are,
// each with one of the sizes. With PGWEIR_FUZZ_TIME, which asks for exploration, every manner with every size.
func (v *story) manners(n, size int, every bool) (manners []manner) {
	all := []manner{{size: 1}, {size: 2, extended: true}}
	if low := strings.ToLower(v.steps); !strings.Contains(low, "q begin") && !strings.Contains(low, "\n\t\tnew") && v.mode != "outside" {
		all = append(all, manner{size: 8, extended: true, within: true}, manner{size: 1, within: true})
	}
	if v.mode == "once" {
		all = all[:1]
	}
	for i, m := range all {
		switch explores := os.Getenv("PGWEIR_FUZZ_TIME") != ""; {
		case explores && v.mode != "once":
			m.size = size
		case m.size != size || len(all) == 4 && i%2 == n%2 && !every: // one of each protocol, one of them in a block
			continue
		}
		manners = append(manners, m)
	}
	return manners
}

// playing is one story being played.
type playing struct {
	t         *testing.T
	s         *service
	stage     *stage
	manner    manner
	user      string
	databases [2]string
	players   [2]*player
	diff      string
}

func (p *playing) params(more ...string) []string {
	if p.user != "" {
		more = append([]string{"user", p.user}, more...)
	}
	return more
}

func (p *playing) addr(i int) string {
	if i == 0 {
		return shared(p.t).Primary.Addr()
	}
	return p.s.addr
}

func (p *playing) play(v *story) {
	for i := range p.players {
		pl := &player{t: p.t, addr: p.addr(i), database: p.databases[i], now: "a", params: p.params(),
			conns: map[string]*rawConn{}, out: map[string][]byte{}, due: map[string]int{}}
		pl.conns["a"] = raw(p.t, pl.addr, pl.database, p.params(v.startup...)...)
		p.players[i] = pl
	}
	now := "@a"
	steps := strings.TrimSpace(v.steps)
	if p.manner.within {
		mine, others, _ := strings.Cut(steps, "@")
		if steps = "Q begin\n" + mine + "\nQ commit"; others != "" {
			steps += "\n@" + others
		}
	}
	for l := range strings.Lines(steps) {
		l = strings.TrimSpace(l)
		switch {
		case l == "":
			continue
		case strings.HasPrefix(l, "@"):
			now = l
			continue
		case strings.HasPrefix(l, "! "):
			for _, db := range p.databases {
				run(p.t, db, strings.ReplaceAll(l[2:], "%DB%", db))
			}
			continue
		case l == "new":
			p.leaveAll()
			continue
		}
		if now != "@a" && p.occupied() {
			continue
		}
		p.line(now)
		for _, sent := range p.sent(l) {
			p.line(sent)
		}
		if (l == "S" || strings.HasPrefix(l, "Q ")) && p.idle() {
			p.line("Q select " + p.look())
			p.others()
		}
	}
	if p.line("@a"); len(p.players[0].conns) == 1 || !p.occupied() {
		p.line("Q select " + p.look())
	}
	p.leave("a")
	p.others()
	p.leaveAll()
	if p.diff != "" {
		p.t.Error(p.diff)
	}
}

// sent are the lines that are sent for one.
func (p *playing) sent(l string) (lines []string) {
	text, ok := strings.CutPrefix(l, "Q ")
	if !ok {
		return []string{l}
	}
	parts := strings.Split(text, " ;; ")
	if !p.manner.extended {
		return []string{"Q " + strings.Join(parts, "; ")}
	}
	for _, part := range parts {
		lines = append(lines, `P "" `+part, `B "" ""`, `D P ""`, `E ""`)
	}
	return append(lines, "S")
}

func (p *playing) look() string {
	if p.stage.look == "" {
		return stageLook
	}
	return stageLook + ", " + p.stage.look
}

// line sends a line on both sides.
func (p *playing) line(l string) {
	if p.diff != "" {
		return
	}
	for _, pl := range p.players {
		pl.line(l)
		if l == "S" || strings.HasPrefix(l, "Q ") {
			pl.line("wait")
		}
	}
	p.diff = difference(p.players[0].transcript, p.players[1].transcript)
}

// idle reports whether no session is in a transaction.
func (p *playing) idle() bool {
	last := map[string]string{}
	for _, l := range p.players[0].transcript {
		if name, status, ok := strings.Cut(l, "  Z "); ok {
			last[name] = status
		}
	}
	for _, status := range last {
		if status != "I" {
			return false
		}
	}
	return true
}

// others has sessions that did nothing look at what they have, on every connection at
// rest of both servers.
func (p *playing) others() {
	if p.diff != "" {
		return
	}
	p.s.rest(p.t)
	if p.occupied() {
		return
	}
	fresh := raw(p.t, p.addr(0), p.databases[0], p.params()...)
	want := tail(fresh.query("select " + p.look()))
	fresh.close()
	for i, hint := range []string{"primary", "replica"} {
		server := shared(p.t).Servers()[i].Addr()
		n := int(p.s.metric(p.t, "pgweir_pool_connections", "server="+server, "database="+p.databases[1], "state=idle"))
		p.probe(hint, max(n, 0), want)
	}
}

// probe looks at n connections of a kind of server at once, by that many new sessions.
func (p *playing) probe(hint string, n int, want string) {
	var conns []*rawConn
	pinned := p.s.metric(p.t, "pgweir_pinned_sessions") > 0 // a read may need the primary's connection that it holds
	for i := range n {
		c := raw(p.t, p.addr(1), p.databases[1], p.params()...)
		conns = append(conns, c)
		c.query("begin")
		got := tail(c.query("/* pgweir:" + hint + " */ select " + p.look()))
		if want := strings.TrimSuffix(want, "I") + "T"; got != want && p.diff == "" && !(pinned && strings.Contains(got, " 53300 ")) {
			p.diff = fmt.Sprintf("connection %d of %d to the %s shows another session\n%s\nand not\n%s\nafter\n%s",
				i+1, n, hint, got, want, tail(p.players[1].transcript))
		}
	}
	for _, c := range conns {
		c.query("commit")
		c.close()
	}
	p.s.rest(p.t)
}

// occupied reports whether session a is tied to the only connection.
func (p *playing) occupied() bool {
	return p.s.metric(p.t, "pgweir_pinned_sessions") >= float64(p.manner.size)
}

// leave ends a session on both sides.
func (p *playing) leave(name string) {
	for _, pl := range p.players {
		if c := pl.conns[name]; c != nil {
			c.close()
		}
	}
	others := float64(len(p.players[1].conns) - 1)
	until(p.t, "nothing is held", func() bool { return p.s.metric(p.t, "pgweir_pinned_sessions") <= others })
}

// leaveAll ends all sessions but a.
func (p *playing) leaveAll() {
	for _, pl := range p.players {
		for name, c := range pl.conns {
			if name != "a" {
				c.close()
				delete(pl.conns, name)
			}
		}
	}
}

func splitLines(s string) []string { return strings.Split(s, "\n") }
