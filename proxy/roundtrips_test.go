package proxy_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// tap is a relay between the proxy and a server that counts round trips: what the
// proxy sends after all it sent before was answered begins one. The connections of
// one user are left out.
type tap struct {
	name     string
	listener net.Listener
	upstream string
	except   string
	running  sync.WaitGroup

	mu     sync.Mutex // protects the fields below
	conns  []net.Conn
	closed bool
	trips  []string // of each, the types of the frames sent
	logins int
}

func newTap(t *testing.T, name, upstream, except string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{name: name, listener: l, upstream: upstream, except: except}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *tap) addr() string { return p.listener.Addr().String() }

func (p *tap) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.relay(conn) })
	}
}

// close ends all connections and waits until nothing runs any more.
func (p *tap) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// keep notes a connection, to be closed in the end.
func (p *tap) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
	return !p.closed
}

func (p *tap) relay(front net.Conn) {
	defer front.Close()
	back, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	defer back.Close()
	if !p.keep(front) || !p.keep(back) {
		return
	}
	c := &tapped{tap: p}
	var answers sync.WaitGroup
	answers.Go(func() {
		pump(front, back, &framing{frame: c.answered})
		_ = front.Close()
	})
	pump(back, front, &framing{hello: true, frame: c.asked})
	_ = back.Close()
	answers.Wait()
}

// pump copies what comes, after looking at it.
func pump(to, from net.Conn, f *framing) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		f.add(buf[:n])
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// framing finds the frames of a stream. The first one of a client has no type.
type framing struct {
	hello   bool
	pending []byte
	frame   func(typ byte, body []byte)
}

func (f *framing) add(b []byte) {
	f.pending = append(f.pending, b...)
	for {
		skip := 1
		if f.hello {
			skip = 0
		}
		if len(f.pending) < skip+4 {
			return
		}
		end := skip + int(binary.BigEndian.Uint32(f.pending[skip:]))
		if len(f.pending) < end {
			return
		}
		typ := f.pending[0]
		if f.hello {
			typ, f.hello = 0, false
		}
		f.frame(typ, f.pending[skip+4:end])
		f.pending = f.pending[end:]
	}
}

// tapped is one connection through a tap, whose mutex protects it.
type tapped struct {
	*tap
	user   string
	due    int  // ReadyForQuerys awaited
	trip   int  // the trip under way, from 1; 0 while all is answered
	flush  bool // the last frame sent was a Flush
	logged bool // the login is over
}

// asked notes a frame on its way to the server.
func (c *tapped) asked(typ byte, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if typ == 0 && len(body) > 4 {
		words := strings.Split(string(body[4:]), "\x00")
		for i := 0; i+1 < len(words); i += 2 {
			if words[i] == "user" {
				c.user = words[i+1]
			}
		}
	}
	if !c.logged || c.user == c.except || typ == 'X' {
		return
	}
	if c.trip == 0 {
		c.trips = append(c.trips, c.name+" ")
		c.trip = len(c.trips)
	}
	if c.trip <= len(c.trips) { // else it was forgotten
		c.trips[c.trip-1] += string(typ)
	}
	c.flush = typ == 'H'
	if typ == 'Q' || typ == 'S' || typ == 'F' {
		c.due++
	}
}

// answered notes a frame on its way back.
func (c *tapped) answered(typ byte, _ []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.user == c.except:
	case !c.logged && typ == 'Z':
		c.logged = true
		c.logins++
	case c.logged && typ == 'Z':
		if c.due--; c.due == 0 {
			c.trip = 0
		}
	case c.flush && c.due == 0: // all before it is being answered
		c.trip = 0
	}
}

// forget begins a new count, and take returns it.
func (p *tap) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trips, p.logins = nil, 0
}

func (p *tap) take() (trips []string, logins int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(trips, p.trips...), p.logins
}

// travel is what some sessions do, and how many round trips to servers it takes. The
// steps are lines of a script, each of which is answered before the next is sent; see
// readScripts.
type travel struct {
	name   string
	before string // not counted
	steps  string
	now    int // round trips
	least  int // what would do
	logins int // new server connections
}

const (
	tenantA     = "@a\nQ set app.a = '7'\n"
	tenantsAB   = tenantA + "Q select 1\n@b\nQ set app.a = '8'\nQ select 1\n"
	boundSet    = "P \"\" select set_config('app.a', $1, false)\nB \"\" \"\" 9\nE \"\"\nS\n"
	readRows    = "Q select v from w\n"
	prepareRows = "P s select v from w\nS\n"
	executeRows = "B \"\" s\nE \"\"\nS\n"
)

var travels = []travel{
	{name: "SELECT", steps: readRows, now: 1, least: 1},
	{name: "SELECT, extended", steps: "P \"\" select 1\nB \"\" \"\"\nE \"\"\nS", now: 1, least: 1},
	{name: "INSERT", steps: "Q insert into w values (1)", now: 1, least: 1},
	{name: "SET", before: tenantA, steps: "Q set app.a = '9'", now: 0, least: 0},
	{name: "RESET", before: tenantA, steps: "Q reset app.a", now: 0, least: 0},
	{name: "SET of a name no server has taken", before: tenantA, steps: "Q set app.new = '9'", now: 1, least: 0},
	{name: "SET; SELECT", before: tenantA, steps: "Q set app.a = '9'\n" + readRows, now: 1, least: 1},
	{name: "SET; INSERT", before: tenantA, steps: "Q set app.a = '9'\nQ insert into w values (1)", now: 1, least: 1},
	{name: "SET; SELECT in one pipeline", before: tenantA, steps: "P \"\" set app.a = '9'\nB \"\" \"\"\nE \"\"\nP \"\" select v from w\nB \"\" \"\"\nE \"\"\nS", now: 1, least: 1},
	{name: "SET; SELECT in one string", before: tenantA, steps: "Q set app.a = '9'; select v from w", now: 1, least: 1},
	{name: "four SELECTs of two tenants by turns", before: tenantsAB, steps: "@a\n" + readRows + "@b\n" + readRows + "@a\n" + readRows + "@b\n" + readRows, now: 4, least: 4},
	{name: "the same, extended and prepared", before: tenantsAB + "@a\n" + prepareRows + "@b\n" + prepareRows,
		steps: "@a\n" + executeRows + "@b\n" + executeRows + "@a\n" + executeRows + "@b\n" + executeRows, now: 4, least: 4},
	{name: "set_config", before: tenantA, steps: "Q select set_config('app.a', '9', false)", now: 1, least: 1},
	{name: "set_config, bound", before: tenantA, steps: boundSet, now: 1, least: 1},
	{name: "set_config, bound; SELECT", before: tenantA, steps: boundSet + readRows, now: 2, least: 2},
	{name: "set_config of an expression; SELECT", before: tenantA, steps: "Q select set_config('app.a', 'x' || 1, false)\n" + readRows, now: 3, least: 2},
	{name: "BEGIN; COMMIT", steps: "Q begin\nQ commit", now: 0, least: 0},
	{name: "BEGIN; SET LOCAL; COMMIT", before: tenantA, steps: "Q begin\nQ set local app.a = '9'\nQ commit", now: 0, least: 0},
	{name: "BEGIN; SELECT; COMMIT", steps: "Q begin\n" + readRows + "Q commit", now: 2, least: 2},
	{name: "the same under a setting the connection lacks", before: tenantsAB, steps: "@a\nQ begin\n" + readRows + "Q commit", now: 2, least: 2},
	{name: "BEGIN; SET LOCAL; SELECT; COMMIT", before: tenantA, steps: "Q begin\nQ set local app.a = '9'\n" + readRows + "Q commit", now: 2, least: 2},
	{name: "BEGIN; set_config, bound, local; SELECT; COMMIT", before: tenantA,
		steps: "Q begin\n" + strings.Replace(boundSet, "false", "true", 1) + readRows + "Q commit", now: 3, least: 3},
	{name: "BEGIN; SET; SELECT; RESET; ROLLBACK", before: tenantA, steps: "Q begin\nQ set app.a = '9'\n" + readRows + "Q reset app.a\nQ rollback", now: 3, least: 3},
	{name: "BEGIN; SET LOCAL; INSERT; COMMIT", before: tenantA, steps: "Q begin\nQ set local app.a = '9'\nQ insert into w values (1)\nQ commit", now: 2, least: 2},
	{name: "BEGIN; SET LOCAL; SELECT; INSERT; COMMIT", before: tenantA,
		steps: "Q begin\nQ set local app.a = '9'\n" + readRows + "Q insert into w values (1)\nQ commit", now: 4, least: 4},
	{name: "BEGIN; SAVEPOINT; SET LOCAL; INSERT; COMMIT", before: tenantA,
		steps: "Q begin\nQ savepoint s\nQ set local app.a = '9'\nQ insert into w values (1)\nQ commit", now: 2, least: 2},
	{name: "prepare", steps: prepareRows, now: 1, least: 1},
	{name: "prepare what the connection holds", before: "@a\n" + prepareRows + "@b\n", steps: prepareRows, now: 0, least: 0},
	{name: "execute on another server", before: prepareRows, steps: "Q begin\nQ insert into w values (1)\n" + executeRows + "Q commit", now: 3, least: 3},
	{name: "SET timezone", steps: "Q set timezone = 'Asia/Tokyo'", now: 1, least: 1},
	{name: "SET timezone; SELECT", steps: "Q set timezone = 'Asia/Tokyo'\n" + readRows, now: 2, least: 2},
	{name: "SET timezone; SELECT; RESET", steps: "Q set timezone = 'Asia/Tokyo'\n" + readRows + "Q reset timezone", now: 4, least: 3},
	{name: "SET search_path; SELECT", steps: "Q set search_path = public\n" + readRows, now: 3, least: 2},
	{name: "SET ROLE; SELECT; RESET ROLE", steps: "Q set role %ROLE%\n" + readRows + "Q reset role", now: 3, least: 3},
	{name: "a function that sets; SELECT", before: tenantA, steps: "Q select f_set('app.a', '5', false)\n" + readRows, now: 2, least: 2},
	{name: "DISCARD ALL", before: tenantA, steps: "Q discard all", now: 0, least: 0},
	{name: "the first SELECT of a session with psycopg2's settings", before: "@p\n", steps: readRows, now: 1, least: 1},
	{name: "the first SELECT of a session with JDBC's settings", before: "@j\n", steps: readRows, now: 1, least: 1},
	{name: "the first SELECT of a session with a tenant in its options", before: "@o\n", steps: readRows, now: 1, least: 1},
}

// startups are the startup parameters of some sessions.
var startups = map[string][]string{
	"p": {"application_name", "app", "client_encoding", "UTF8"},
	"j": {"client_encoding", "UTF8", "DateStyle", "ISO", "TimeZone", "Asia/Riyadh", "extra_float_digits", "2"},
	"o": {"options", "-c app.a=7"},
}

// TestRoundTrips counts what statements cost between proxy and servers, with one
// connection to a primary and one to a replica. Each travel has a proxy of its own,
// whose connections have run nothing but SELECT 1.
func TestRoundTrips(t *testing.T) {
	db := newDatabase(t, "")
	role, watcher := "role_"+db, "watcher_"+db
	run(t, db, strings.ReplaceAll(histSchema, "%ROLE%", role)+"create role "+watcher+" superuser login")
	t.Cleanup(func() { run(t, db, "drop owned by "+role+"; drop role "+role+", "+watcher) })
	cluster := shared(t)
	taps := []*tap{newTap(t, "primary", cluster.Primary.Addr(), watcher), newTap(t, "replica", cluster.Replicas[0].Addr(), watcher)}
	var table strings.Builder
	for _, v := range travels {
		t.Run(v.name, func(t *testing.T) {
			s := start(t, poolSize(1), eventual, func(c *config.Config) {
				c.Settings.VerifyReleases = false // it is a round trip
				c.Servers = c.Servers[:2]
				for i, p := range taps {
					c.Servers[i].Address = p.addr()
				}
				c.Service.User = watcher
			})
			trips, logins := v.count(t, s, db, role, taps)
			fmt.Fprintf(&table, "\n%-60s %2d %2d  %s", v.name, len(trips), v.least, strings.Join(trips, ", "))
			if logins > 0 {
				fmt.Fprintf(&table, ", %d logins", logins)
			}
			if len(trips) != v.now || logins != v.logins {
				t.Errorf("%d round trips (%s), %d logins, not %d and %d", len(trips), strings.Join(trips, ", "), logins, v.now, v.logins)
			}
		})
	}
	t.Logf("round trips, and the least possible:%s", table.String())
}

// count has new sessions take the steps.
func (v *travel) count(t *testing.T, s *service, db, role string, taps []*tap) (trips []string, logins int) {
	p := &player{t: t, addr: s.addr, database: db, now: "a", conns: map[string]*rawConn{}, out: map[string][]byte{}, due: map[string]int{}}
	defer func() {
		for _, c := range p.conns {
			c.close()
		}
	}()
	play := func(lines string) {
		for line := range strings.Lines(strings.ReplaceAll(lines, "%ROLE%", role)) {
			line = strings.TrimSpace(line)
			name, found := strings.CutPrefix(line, "@")
			if found && p.conns[name] == nil {
				p.conns[name] = raw(t, s.addr, db, startups[name]...)
			}
			p.line(line)
			if line == "S" || strings.HasPrefix(line, "Q ") {
				p.line("wait")
			}
		}
	}
	play("@warm\nQ select 1\nQ /* pgweir:primary */ select 1\n@a\n" + v.before)
	s.rest(t)
	for _, p := range taps {
		p.forget()
	}
	play(v.steps)
	s.rest(t)
	for _, p := range taps {
		more, n := p.take()
		trips, logins = append(trips, more...), logins+n
	}
	return trips, logins
}

// rest waits until no server connection is held but those of sessions tied to them.
func (s *service) rest(t testing.TB) {
	t.Helper()
	until(t, "connections are given back", func() bool {
		return s.metric(t, "pgweir_pool_connections", "state=used") <= s.metric(t, "pgweir_pinned_sessions")
	})
}
