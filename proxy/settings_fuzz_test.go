package proxy_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// histSchema is what histories run against. %ROLE% is a role of the database's own.
const histSchema = `
create table w (s int, v text); create table d (s int, k int, unique (s, k) deferrable initially deferred);
create table tr (s int, v text); create table def (s int, v text default set_config('app.a', 'by default', false));
create function trf() returns trigger language plpgsql as $$ begin perform set_config('app.b', new.v, false); return new; end $$;
create trigger t before insert on tr for each row execute function trf();
create function f_set(n text, v text, l boolean) returns text language plpgsql as $$ begin return set_config(n, v, l); end $$;
create function f_sql(v text) returns text language sql as $$ select set_config('app.a', v, false) $$;
create function f_fail(n text, v text) returns text language plpgsql as $$ begin perform set_config(n, v, false); raise exception 'no'; end $$;
create function f_catch(n text, v text) returns text language plpgsql as $$ begin
	begin perform set_config(n, v, false); perform 1/0; exception when division_by_zero then return current_setting(n, true); end; end $$;
create function f_clause() returns text language sql set app.f = 'of the function' as $$ select current_setting('app.f') $$;
create procedure p_commit(v text) language plpgsql as $$ begin perform set_config('app.a', v, false); commit; perform set_config('app.b', v, true); end $$;
create view vw as select set_config('app.c', 'by a view', false) as x;
create role %ROLE%; grant all on all tables in schema public to %ROLE%;
`

// histBeyond is more of it, which the model of PostgreSQL has not.
const histBeyond = `
create function f_do(q text) returns text language plpgsql as $$ begin execute q; return 'done'; end $$;
create function f_open(c refcursor) returns refcursor language plpgsql stable as $$ begin open c for select generate_series(1, 3); return c; end $$;
`

// histStep is one step of a history: what one session sends, up to the
// ReadyForQuery that ends it, or its end and a new session in its place.
type histStep struct {
	session   int
	text      string // for people
	msgs      []pgproto3.FrontendMessage
	reconnect bool
	kill      bool   // no session's own: the proxy loses its idle server connections
	options   string // of the new session
	// pins: the session may hold a server connection from then on, until it ends.
	pins bool
	// vague: if it fails, nobody knows which settings it touched first. From then on
	// a setting that was never set may read as one that was reset.
	vague bool
}

func (s histStep) String() string { return fmt.Sprintf("session %d: %s", s.session, s.text) }

// histConn is a session as its client sees it.
type histConn struct {
	conn   net.Conn
	front  *pgproto3.Frontend
	params map[string]string
	status byte
	pinned bool
}

// histWorld is the sessions of a history, all on one server or proxy.
type histWorld struct {
	addr, database string
	sessions       []*histConn
}

// histPatience bounds one step.
const histPatience = 6 * time.Second

func openWorld(addr, database string, options []string) (*histWorld, error) {
	w := &histWorld{addr: addr, database: database, sessions: make([]*histConn, len(options))}
	for i, o := range options {
		if _, err := w.connect(i, o); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *histWorld) connect(i int, options string) ([]string, error) {
	conn, err := net.DialTimeout("tcp", w.addr, histPatience)
	if err != nil {
		return nil, err
	}
	c := &histConn{conn: conn, front: pgproto3.NewFrontend(conn, conn), params: map[string]string{}}
	w.sessions[i] = c
	hello := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": pgtest.Superuser, "database": w.database,
	}}
	if options != "" {
		hello.Parameters["options"] = options
	}
	return c.talk([]pgproto3.FrontendMessage{hello})
}

func (w *histWorld) close() {
	for _, c := range w.sessions {
		if c != nil {
			c.end()
		}
	}
}

// end leaves, and waits until the server has noticed.
func (c *histConn) end() {
	c.front.Send(&pgproto3.Terminate{})
	_ = c.front.Flush()
	_ = c.conn.SetDeadline(time.Now().Add(histPatience))
	for {
		if _, err := c.front.Receive(); err != nil {
			break
		}
	}
	_ = c.conn.Close()
}

// rests reports whether no session holds a server connection.
func (w *histWorld) rests() bool {
	return w.held() == 0
}

// kill terminates the proxy's server connections once nothing is left to be read back from
// them, and gives it the time after which it looks at an idle one before use.
func (h *historian) kill() {
	h.service.rest(h.t)
	for _, server := range shared(h.t).Servers() {
		err := server.Exec(h.t.Context(), h.database, `select pg_terminate_backend(pid, 20000) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`)
		if err != nil {
			h.t.Error(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
}

// do takes one step and returns what the client saw.
func (w *histWorld) do(s histStep) ([]string, error) {
	if s.kill {
		return nil, nil
	}
	if s.reconnect {
		w.sessions[s.session].end()
		return w.connect(s.session, s.options)
	}
	c := w.sessions[s.session]
	c.pinned = c.pinned || s.pins
	return c.talk(s.msgs)
}

// talk sends messages and reads up to ReadyForQuery.
func (c *histConn) talk(msgs []pgproto3.FrontendMessage) (seen []string, err error) {
	_ = c.conn.SetDeadline(time.Now().Add(histPatience))
	for _, m := range msgs {
		c.front.Send(m)
	}
	if err := c.front.Flush(); err != nil {
		return nil, err
	}
	for {
		m, err := c.front.Receive()
		if err != nil {
			return seen, err
		}
		switch m := m.(type) {
		case *pgproto3.ParameterStatus:
			c.params[m.Name] = m.Value
			continue
		case *pgproto3.ErrorResponse:
			seen = append(seen, fmt.Sprintf("E %s %s %q", m.Severity, m.Code, m.Message))
			continue
		case *pgproto3.NoticeResponse:
			seen = append(seen, fmt.Sprintf("N %s %s %q", m.Severity, m.Code, m.Message))
			continue
		case *pgproto3.AuthenticationOk, *pgproto3.BackendKeyData:
			continue
		case *pgproto3.ReadyForQuery:
			c.status = m.TxStatus
			return append(seen, "Z "+string(m.TxStatus), c.reported()), nil
		}
		seen = append(seen, describe(m))
	}
}

// reported is what the server has told of the session's settings.
func (c *histConn) reported() string {
	var b strings.Builder
	for _, n := range []string{"TimeZone", "DateStyle", "client_encoding", "application_name", "session_authorization", "is_superuser"} {
		fmt.Fprintf(&b, "%s=%s ", n, c.params[n])
	}
	return b.String()
}

// mayStep reports whether a session may take a step without having to wait for
// another one's server connection, with pools of the given size.
func (w *histWorld) mayStep(i, size int) bool {
	return w.holds(i) || w.held() < size
}

// holds reports whether a session may hold a server connection.
func (w *histWorld) holds(i int) bool { return w.sessions[i].status != 'I' || w.sessions[i].pinned }

// held is how many sessions do.
func (w *histWorld) held() (n int) {
	for i := range w.sessions {
		if w.holds(i) {
			n++
		}
	}
	return n
}

// historian plays histories on a server and through proxies.
type historian struct {
	t        *testing.T
	database string
	size     int // of the pools
	track    bool
	eventual bool // reads need not see what was committed before
	probes   bool // see probe
	direct   string
	service  *service
	refused  float64 // connections of its proxy that were not at rest as they were given back
	proxied  string  // its address
}

// errHistory says that a history would have to wait, so that it proves nothing.
var errHistory = errors.New("a session would wait for another one's connection")

// reset empties the tables, so that a history can be played again.
func (h *historian) reset() {
	run(h.t, h.database, "truncate public.w, public.d, public.tr, public.def; "+
		"create or replace function public.f_new() returns text language sql as $$ select 'new' $$; alter database "+h.database+" reset all")
}

// replayed waits until the replicas have what was committed.
func (h *historian) replayed() {
	if err := shared(h.t).WaitReplay(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// disagree plays a history on both sides and returns how they differ, or nothing.
func (h *historian) disagree(options []string, steps []histStep) (at int, difference string) {
	want, err := h.record(options, steps)
	if err != nil {
		return 0, ""
	}
	return h.compare(options, steps, want)
}

// record plays a history on the server itself.
func (h *historian) record(options []string, steps []histStep) (seen [][]string, err error) {
	h.reset()
	w, err := openWorld(h.direct, h.database, options)
	if err != nil {
		return nil, err
	}
	defer w.close()
	for _, s := range steps {
		if s.kill && !w.rests() || !s.kill && !s.reconnect && !w.mayStep(s.session, h.size) {
			return nil, errHistory
		}
		lines, err := w.do(s)
		if err != nil {
			return nil, err
		}
		seen = append(seen, lines)
	}
	return seen, nil
}

// compare plays a history through the proxy.
func (h *historian) compare(options []string, steps []histStep, want [][]string) (at int, difference string) {
	h.reset()
	c := raw(h.t, h.proxied, h.database) // what is changed past the proxy it finds out in a second or two
	c.query("alter database " + h.database + " reset all")
	c.close()
	h.replayed()
	w, err := openWorld(h.proxied, h.database, options)
	if err != nil {
		return 0, "connect: " + err.Error()
	}
	defer w.close()
	p, err := h.openProbe()
	if err != nil {
		return 0, "probes connect: " + err.Error()
	}
	defer p.close()
	partly, given := false, false
	for i, s := range steps {
		if s.kill {
			h.kill()
		}
		got, err := w.do(s)
		if h.eventual || strings.Contains(s.text, "create or replace") {
			h.replayed() // no level but those above session shows one session what another did
		}
		if err != nil {
			got = append(got, err.Error())
		}
		partly = partly || s.vague && slices.ContainsFunc(want[i], isError)
		if strings.Contains(s.text, "discard all") && !h.track {
			partly = partly || w.sessions[s.session].pinned // what opaque code named nobody else knows
		}
		given = given || strings.Contains(s.String(), "set app.b = '")
		if !slices.EqualFunc(got, want[i], func(a, b string) bool {
			return a == b || sameButCase(a, b) || partly && sameButNull(a, b) || given && withoutB(a) == b
		}) {
			if refusedOnReplica(steps[:i+1], got, want[i]) {
				break // and the session goes on otherwise
			}
			return i, fmt.Sprintf("step %d, %v\nthe server:\n\t%s\nthe proxy:\n\t%s", i, s,
				strings.Join(want[i], "\n\t"), strings.Join(got, "\n\t"))
		}
		if found := p.look(h.size - w.held()); found != "" {
			return i, fmt.Sprintf("step %d, %v\n%s", i, s, found)
		}
	}
	w.close()
	w.sessions = nil
	h.service.rest(h.t)
	if n := h.service.metric(h.t, "pgweir_pool_refused_total"); n > h.refused {
		h.refused = n
		return len(steps) - 1, "a connection was given back that was not at rest: " + fmt.Sprint(h.service.logs.FilterMessageSnippet("not at rest").TakeAll())
	}
	return len(steps), ""
}

// probe is other sessions of the proxy, which set nothing and must find nothing.
type probe struct {
	*histWorld
	want []string // what a session finds that is alone on a server
}

// openProbe begins as many sessions as a pool has connections, or none.
func (h *historian) openProbe() (*probe, error) {
	p := &probe{histWorld: &histWorld{}}
	if !h.probes {
		return p, nil
	}
	alone, err := openWorld(h.direct, h.database, []string{""})
	if err != nil {
		return nil, err
	}
	defer alone.close()
	for _, sql := range probeQueries {
		lines, err := alone.sessions[0].talk([]pgproto3.FrontendMessage{&pgproto3.Query{String: sql}})
		if err != nil {
			return nil, err
		}
		p.want = append(p.want, lines...)
	}
	p.histWorld, err = openWorld(h.proxied, h.database, make([]string, h.size))
	return p, err
}

// probeQueries are what a probe asks. Its connection is held meanwhile.
var probeQueries = []string{"begin isolation level read committed", histLook, histAll,
	"select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'", "select count(*) from pg_cursors where name in ('cu', 'ch')",
	"select count(*) from pg_class where relnamespace = pg_my_temp_schema()"}

// look has so many of the sessions hold a connection each at the same time, of a replica
// and then of the primary, and returns what they find that they should not.
func (p *probe) look(free int) string {
	for _, begin := range []string{probeQueries[0], probeQueries[0] + " read write"} {
		got := make([][]string, len(p.sessions))
		for k, sql := range probeQueries {
			if k == 0 {
				sql = begin
			}
			for i, c := range p.sessions[:min(free, len(p.sessions))] {
				lines, err := c.talk([]pgproto3.FrontendMessage{&pgproto3.Query{String: sql}})
				if err != nil {
					return fmt.Sprintf("probe %d, %s: %v", i, sql, err)
				}
				got[i] = append(got[i], lines...)
			}
		}
		for i, c := range p.sessions[:min(free, len(p.sessions))] {
			if _, err := c.talk([]pgproto3.FrontendMessage{&pgproto3.Query{String: "commit"}}); err != nil {
				return fmt.Sprintf("probe %d, commit: %v", i, err)
			}
			if !slices.EqualFunc(got[i], p.want, func(a, b string) bool { return a == b || sameButNull(a, b) }) {
				return fmt.Sprintf("probe %d (%s)\nalone on a server:\n\t%s\nfound:\n\t%s", i, begin, strings.Join(p.want, "\n\t"), strings.Join(got[i], "\n\t"))
			}
		}
	}
	return ""
}

// refusedOnReplica reports whether the last of the steps met the replica on which a transaction
// had to stay: it is a string that ends it and goes on, a chain goes on behind opaque code, or a cursor
// WITH HOLD is left there (docs/routing.md, Transactions); or the replica had to make way for its recovery.
func refusedOnReplica(steps []histStep, got, want []string) bool {
	last := steps[len(steps)-1]
	said := func(of []string, what string) bool {
		return slices.ContainsFunc(of, func(line string) bool { return strings.Contains(line, what) })
	}
	before := func(what string) bool {
		return slices.ContainsFunc(steps, func(s histStep) bool { return s.session == last.session && strings.Contains(s.text, what) })
	}
	chains := before("and chain") && before("read only") && before("f_do(")
	return (strings.Contains(last.text, "; ") || chains) && said(got, "E ERROR 25006") && !said(want, "E ERROR 25006") ||
		said(got, "is on a replica and cannot be moved") && before("with hold") || said(got, "conflict with recovery") && before("read only")
}

func isError(line string) bool { return strings.HasPrefix(line, "E ") }

// sameButCase compares descriptions of rows: SHOW names its column as the setting was
// first spelled on the connection.
func sameButCase(a, b string) bool { return strings.HasPrefix(a, "T ") && strings.EqualFold(a, b) }

// withoutB is what a look shows that finds nothing in app.b, not even an empty value (docs/isolation.md, What remains:
// a session older than the default that ALTER DATABASE gave, on a connection that began with one).
func withoutB(look string) string { return emptyB.ReplaceAllString(look, "${1}NULL") }

var emptyB = regexp.MustCompile(`^(D (?:NULL|"(?:[^"\\]|\\.)*"(?:…"(?:[^"\\]|\\.)*"\(\d+\))?) )""`)

// sameButNull takes ” for NULL.
func sameButNull(a, b string) bool {
	return strings.HasPrefix(a, "D ") && strings.ReplaceAll(a, `""`, "NULL") == strings.ReplaceAll(b, `""`, "NULL")
}

// shrink removes what a failing history fails without.
func (h *historian) shrink(options []string, steps []histStep, limit time.Duration) ([]histStep, string) {
	at, found := h.disagree(options, steps)
	if found == "" {
		return steps, "only once"
	}
	steps = steps[:at+1]
	until := time.Now().Add(limit)
	for size := max(len(steps)/2, 1); size >= 1; {
		removed := false
		for i := len(steps) - size; i >= 0 && time.Now().Before(until); i-- {
			fewer := slices.Concat(steps[:i], steps[i+size:])
			if at, difference := h.disagree(options, fewer); difference != "" {
				steps, found, removed = fewer[:at+1], difference, true
				i = min(i, len(steps)-size+1)
			}
		}
		if !removed {
			size /= 2
		}
		if time.Now().After(until) {
			break
		}
	}
	return steps, found
}

// TestSettingsHistories plays random histories of several sessions, one step at a
// time, on PostgreSQL itself and through the proxy: what the clients see must be
// the same. By itself it plays the same histories every time. PGWEIR_FUZZ_TIME has
// it explore others for that long (make fuzz), with PGWEIR_FUZZ_SEED if given, and from the
// history with the number PGWEIR_FUZZ_FIRST on.
func TestSettingsHistories(t *testing.T) {
	limit, seed, most := time.Minute, uint64(1), 100
	if v := os.Getenv("PGWEIR_FUZZ_TIME"); v != "" {
		seed, most = uint64(time.Now().UnixNano()), math.MaxInt
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		limit = d
	}
	if v := os.Getenv("PGWEIR_FUZZ_SEED"); v != "" {
		if _, err := fmt.Sscan(v, &seed); err != nil {
			t.Fatal(err)
		}
	}
	database := newDatabase(t, "")
	role := "role_" + database
	run(t, database, strings.ReplaceAll(histSchema, "%ROLE%", role)+histBeyond)
	t.Cleanup(func() { run(t, database, "drop owned by "+role+"; drop role "+role) })
	direct := shared(t).Primary.Addr()
	var sides []*historian
	for _, size := range []int{1, 2, 8} {
		if size == 8 && os.Getenv("PGWEIR_FUZZ_TIME") == "" {
			break // its histories are like those of 2, with more room
		}
		for _, track := range []bool{false, true} {
			change := []func(*config.Config){poolSize(size), func(c *config.Config) { c.Routing.MonitorInterval = time.Second }} // each asks all servers
			behind := track == (size == 1)
			if behind {
				change = append(change, eventual)
			}
			if track {
				change = append(change, func(c *config.Config) { c.Settings.Track = []string{"app.a", "app.b", "app.c", "app.s", "app.x.y"} })
			}
			s := start(t, change...)
			sides = append(sides, &historian{t: t, database: database, size: size, track: track, eventual: behind, direct: direct, service: s, proxied: s.addr})
		}
	}
	first, steps := 0, 0
	if v := os.Getenv("PGWEIR_FUZZ_FIRST"); v != "" {
		if _, err := fmt.Sscan(v, &first); err != nil {
			t.Fatal(err)
		}
	}
	played, began, told := first, time.Now(), time.Now()
	for ; played < most && time.Since(began) < limit; played++ {
		if time.Since(told) > time.Minute {
			told = time.Now()
			t.Logf("%d histories, %d steps in %v", played-first, steps, time.Since(began).Round(time.Second))
		}
		h := sides[played%len(sides)]
		g := newHistGen(rand.New(rand.NewPCG(seed, uint64(played))), role, database, h.size, h.track)
		steps += h.play(g, fmt.Sprintf("PGWEIR_FUZZ_SEED=%d, history %d, pools of %d", seed, played, h.size))
		if t.Failed() {
			break
		}
	}
	t.Logf("seed %d: %d histories, %d steps", seed, played-first, steps)
}

// play makes up a history while the server plays it, and plays it through the proxy then.
func (h *historian) play(g *histGen, name string) (steps int) {
	h.reset()
	h.probes = g.probes
	begun := slices.Clone(g.options)
	w, err := openWorld(h.direct, h.database, begun)
	if err != nil {
		h.t.Fatal(err)
	}
	defer w.close()
	var history []histStep
	var want [][]string
	for range 10 + g.IntN(40) {
		for _, s := range g.steps(w) {
			lines, err := w.do(s)
			if err != nil {
				h.t.Fatalf("%s: directly, after\n%s%v: %v", name, written(history), s, err)
			}
			history, want = append(history, s), append(want, lines)
		}
	}
	w.close()
	w.sessions = nil
	if _, difference := h.compare(begun, history, want); difference != "" {
		least, again := h.shrink(begun, history, 20*time.Second)
		h.t.Errorf("%s: %s\n\nshrunk to (options %q)\n%s%s", name, difference, begun, written(least), again)
	}
	return len(history)
}

// written is steps for people, a line each.
func written(steps []histStep) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%v\n", s)
	}
	return b.String()
}
