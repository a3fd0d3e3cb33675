package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/internal/simpg"
)

// setup is what both models begin with. What sessions own is in items, which a policy
// parts by tenant; what all share is in log. The schemas have tables of the same names, one
// of them with columns of other types, and a function of one name that sets something else.
var setup = `
create role app login password '` + secret + `';
create role clerk login password '` + secret + `';
alter role ` + simpg.Superuser + ` password '` + secret + `';
create table secrets(name text, secret text);
insert into secrets values ('app', '` + secret + `'), ('clerk', '` + secret + `');
create role auditor;
grant auditor to app, clerk;
create schema s2;
create table items(owner text, id int, tenant text, v text);
alter table items enable row level security;
alter table items force row level security;
create policy tenants on items using (tenant = current_setting('app.tenant', true));
create table log(who text);
create table places(name text);
insert into places values ('public');
create table s2.places(name text);
insert into s2.places values ('s2');
create table sizes(n int, m int);
insert into sizes values (1, 1), (2, 2);
create table s2.sizes(n text, m bigint);
insert into s2.sizes values ('1', 1), ('large', 2);
create function set_tenant(t text) returns text language sql as $$ select set_config('app.tenant', t, false) $$;
create function s2.set_tenant(t text) returns text language sql as $$ select set_config('app.other', t, false) $$;
create table orders(id serial, owner text);
grant create on schema public to app, clerk, auditor;
grant usage on schema s2 to app, clerk, auditor;
grant usage on sequence orders_id_seq to app, clerk, auditor;
grant select, insert, update, delete on items, log, places, s2.places, sizes, s2.sizes, orders to app, clerk, auditor;
`

// feature is a kind of statement a run may have or not.
type feature uint8

const (
	settings feature = iota
	localSettings
	transactions
	savepoints
	chains
	failures
	writes
	sharing
	schemas
	roles
	functions
	temporary
	locks
	cursors
	sqlPrepared
	named
	pipelines
	flushes
	strings_
	reported
	resets
	sequences
	channels
	copies
	copiesIn
	tables
	cancels
	redials
	modes
	longs    // messages that are too long to be gathered; drawn by themselves
	none     // never on
	features // how many there are
)

// Draw makes the history of a seed. Each draws which features and which faults it has,
// and how often: what two of them do to each other shows where the others keep quiet.
func Draw(seed Seed) *History {
	r := seed.stream("history")
	h := &History{Seed: seed, Knobs: drawKnobs(r)}
	var on [features]int
	for f := range longs {
		if chance(r, 500) {
			on[f] = 1 + r.IntN(6)
		}
	}
	sessions, steps := 1+r.IntN(4), 4+r.IntN(20)
	if chance(r, 150) { // what all share, by many, in a hurry
		on = [features]int{sharing: 1, transactions: r.IntN(2)}
		sessions, steps = 4, 30
		h.Knobs.Replicas, h.Knobs.Lag = 1+r.IntN(2), pick(r, 0, time.Millisecond, 5*time.Millisecond, 30*time.Millisecond)
	}
	if paths := seed.stream("paths"); chance(paths, 40) { // one text, by many to whom its names mean something else
		on = [features]int{named: 6, schemas: 3, transactions: paths.IntN(2), temporary: paths.IntN(2), pipelines: paths.IntN(4)}
		sessions, steps = 3, 30
		h.Knobs.PoolSize, h.Knobs.Statements = pick(paths, 1, 2), pick(paths, 1, 2, 4)
	}
	if h.Knobs.Consistency == "eventual" { // what a session reads of its own may be old: only what all share is judged
		for _, f := range []feature{writes, transactions, sequences, tables} {
			on[f] = 0
		}
	}
	large := seed.stream("large")
	if chance(large, 60) {
		on[longs] = 1
	}
	failover := seed.stream("failover")
	failing := chance(failover, 50)
	if failing { // what is bound to a server, when that is lost
		on[pick(failover, channels, channels, locks, temporary, functions)] = 12
		h.Knobs.Replicas = max(h.Knobs.Replicas, 1)
	}
	for i := range sessions {
		g := &generator{r: seed.stream("script", i), on: on, id: i}
		s := Script{Name: fmt.Sprintf("c%d", i), User: pick(r, "app", "app", "app", "clerk")}
		if chance(r, 200) {
			s.Options = map[string]string{pick(r, "app.tenant", "application_name", "search_path"): pick(r, "t1", "s2")}
		}
		for range steps {
			s.Steps = append(s.Steps, g.step())
		}
		h.Scripts = append(h.Scripts, s)
	}
	drawFaults(seed.stream("faults"), h)
	drawAround(seed.stream("around"), h)
	if failing {
		drawFailover(failover, h)
	}
	return h
}

func drawKnobs(r *rand.Rand) Knobs {
	return Knobs{
		Replicas:    r.IntN(3),
		PoolSize:    pick(r, 1, 2, 8),
		Consistency: pick(r, "session", "database", "database", "strong", "tenant", "eventual"),
		Wait:        pick(r, 0, 10*time.Millisecond, 100*time.Millisecond),
		Verify:      chance(r, 700),
		Declared:    chance(r, 500),
		Statements:  pick(r, 0, 0, 1, 2),
		Lag:         pick(r, 0, 0, time.Millisecond, 30*time.Millisecond, time.Second),
		Async:       chance(r, 300),
		Delay:       pick(r, 100*time.Microsecond, time.Millisecond, 5*time.Millisecond),
		Stall:       pick(r, 0, 0, 5),
		Slots:       pick(r, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6+r.IntN(8)),
		Acquire:     pick(r, 0, 0, 20*time.Millisecond, 200*time.Millisecond),
	}
}

// drawFaults gives half of the histories something that fails.
func drawFaults(r *rand.Rand, h *History) {
	if chance(r, 500) {
		return
	}
	server := func() int { return r.IntN(1 + h.Knobs.Replicas) }
	name := func(i int) string {
		if i == 0 {
			return "primary"
		}
		return fmt.Sprint("replica", i)
	}
	for range r.IntN(4) {
		f := Fault{From: proxyHost, To: serverName(server()), Nth: r.IntN(8), Back: chance(r, 600), Byte: r.IntN(pick(r, 200, 2000, 8000)),
			Kind: pick(r, Cut, Cut, Cut, Silence, Refused, Hang)}
		if chance(r, 250) {
			f.From, f.To, f.Nth = fmt.Sprintf("c%d", r.IntN(len(h.Scripts))), proxyAddress, r.IntN(2)
		} else if chance(r, 500) { // where something is under way
			f.Step, f.Byte, f.Kind = 1+r.IntN(pick(r, 5, 30)), pick(r, 0, r.IntN(20), r.IntN(200)), pick(r, Cut, Cut, Cut, Silence)
		}
		h.Faults = append(h.Faults, f)
	}
	for range r.IntN(3) {
		e := Event{At: between(r, 0, 3*time.Second), On: name(server()), For: between(r, time.Millisecond, 4*time.Second),
			Do: pick(r, Crash, Stop, Freeze, Reset, Lag, Terminate)}
		h.Events = append(h.Events, e)
	}
	if chance(r, 60) {
		h.Events = append(h.Events, Event{At: between(r, 0, 2*time.Second), Do: Drain})
	}
	if h.Knobs.Replicas > 0 && chance(r, 150) {
		h.Events = append(h.Events, Event{At: between(r, 0, 2*time.Second), Do: Exchange, On: name(server()), Text: name(h.Knobs.Replicas),
			For: pick(r, 0, between(r, time.Millisecond, 3*time.Second))})
	}
	if h.Knobs.Replicas > 0 && !h.Knobs.Async && chance(r, 200) {
		h.Events = slices.DeleteFunc(h.Events, func(e Event) bool { return e.On == synchronous && (e.Do == Crash || e.Do == Stop) })
		h.Events = append(h.Events, Event{At: between(r, 0, 3*time.Second), Do: Promote, On: synchronous, For: pick(r, 0, time.Second, 3*time.Second), Text: pick(r, "", unchanged)})
		reachSuccessor(h)
	}
}

// reachSuccessor has nothing refuse connections in the name of a server that is promoted while the former
// primary comes back as it was: to the proxy it is down then, and nobody can tell that it was promoted.
func reachSuccessor(h *History) {
	if slices.ContainsFunc(h.Events, func(e Event) bool { return e.Do == Promote && e.Text == unchanged }) {
		h.Faults = slices.DeleteFunc(h.Faults, func(f Fault) bool { return f.Kind == Refused && f.To == serverName(1) })
	}
}

// drawFailover has the primary lost while sessions are busy: another one takes over, or it
// comes back where a replica was.
func drawFailover(r *rand.Rand, h *History) {
	at := between(r, 0, 500*time.Millisecond)
	if !h.Knobs.Async && chance(r, 500) {
		h.Events = slices.DeleteFunc(h.Events, func(e Event) bool { return e.Do == Promote || e.On == synchronous && (e.Do == Crash || e.Do == Stop) })
		h.Events = append(h.Events, Event{At: at, Do: Promote, On: synchronous, Text: unchanged})
		reachSuccessor(h)
		return
	}
	down := between(r, 10*time.Millisecond, 3*time.Second)
	h.Events = append(h.Events, Event{At: at, Do: Crash, On: "primary", For: down},
		Event{At: at + between(r, 0, down), Do: Exchange, On: "primary", Text: fmt.Sprint("replica", h.Knobs.Replicas)})
}

// drawAround draws what goes on around the sessions: logins that prove something, other
// configurations, and administrators who do what concerns nobody but has to be noticed.
func drawAround(r *rand.Rand, h *History) {
	h.Knobs.SCRAM = chance(r, 250)
	for range max(r.IntN(8)-4, 0) {
		next := h.Knobs
		next.PoolSize, next.Wait, next.Verify, next.Statements = pick(r, 1, 2, 8), pick(r, 0, 10*time.Millisecond), chance(r, 500), pick(r, 0, 1, 2)
		h.Events = append(h.Events, Event{At: between(r, 0, 2*time.Second), Do: Reload, Next: &next})
	}
	for range max(r.IntN(8)-5, 0) {
		h.Events = append(h.Events, Event{At: between(r, 0, 2*time.Second), Do: Admin, Text: pick(r, administrators...)})
	}
	if !h.calm() && chance(r, 200) {
		for range 1 + r.IntN(8) {
			h.Events = append(h.Events, Event{At: between(r, 0, 2*time.Second), Do: Cancel, On: "primary", For: between(r, 0, time.Second)})
		}
	}
}

// administrators change the catalog, but nothing that sessions see of it.
var administrators = []string{
	"create table more(a text); drop table more",
	"create or replace function set_tenant(t text) returns text language sql as $$ select set_config('app.tenant', t, false) $$",
	"alter table places add column more int",
	"alter role clerk set work_mem = '5MB'",
	"grant select on places to clerk",
	"drop policy tenants on items; create policy tenants on items using (tenant = current_setting('app.tenant', true))",
}

// generator draws the steps of one script. It keeps roughly in mind where the session
// stands, so that most of what it draws makes sense; what does not is welcome too.
type generator struct {
	r      *rand.Rand
	on     [features]int
	id     int  // of the session
	inside bool // a transaction
	rows   int
	names  int
	next   []string // of an idiom that is under way
}

// copyIn adds to what all share.
const copyIn = "copy log from stdin"

const whoami = "select '%m', current_setting('app.tenant', true), current_setting('app.other', true), current_user, session_user"

// idioms are what applications say in a row: single statements seldom come together so.
var idioms = [][]string{
	{"begin", "set app.tenant = 't1'", "savepoint a", "set app.tenant = 't2'", "rollback to a", whoami, "insert into items values ('%o', 90, 't1', '%m')", "commit", whoami},
	{"begin", whoami, "set local app.tenant = 't3'", "savepoint a", "set local app.tenant = 't1'", "set app.other = 'o'", "rollback to a", whoami, "rollback", whoami},
	{"set app.tenant = 't1'", "begin", "set local app.tenant = 't2'", "insert into items values ('%o', 91, 't2', '%m')", "commit", whoami},
	{"begin", "savepoint a", "select '%m', 1/0", "rollback to a", whoami, "commit"},
	{"begin read only", whoami, "commit and chain", "delete from items where owner = '%o'", "rollback"},
	{"begin isolation level repeatable read read only", whoami, "declare c cursor with hold for select '%m', 1", "commit and chain", whoami, "fetch 1 from c", "close c", "commit", whoami},
	{"begin isolation level repeatable read read only", whoami, "select '%m', set_config('app.tenant', 't' || '2', false)", "commit and chain", "select '%m', set_tenant('t1')", whoami, "commit", whoami},
	{"begin read only", "commit and chain", "select nosuch", "commit and chain", "delete from items where owner = '%o'", "rollback"},
	{"begin", "set application_name = 'x%m'", "set transaction isolation level repeatable read", "delete from items where owner = '%o'", "commit"},
	{"listen \"%o\"", "unlisten \"%o\"; set transaction read only", "select pg_notify('%o', '%m')", "commit"},
}

// text is one statement; among says that it stands among others in a string or pipeline.
func (g *generator) text(among bool) string {
	r := g.r
	alone := func(f feature) feature {
		if among {
			return none
		}
		return f
	}
	type choice struct {
		weight int
		draw   func() string
	}
	w := func(f feature, of ...string) choice {
		return choice{g.on[f], func() string { return pick(r, of...) }}
	}
	tenant := func() string { return fmt.Sprintf("t%d", 1+r.IntN(3)) }
	choices := []choice{
		{3, func() string { return "select '%m', id, tenant, v from items where owner = '%o' order by id" }},
		{2, func() string { return whoami }},
		{2 * g.on[settings], func() string {
			t, name := tenant(), pick(r, "app.tenant", "app.tenant", "app.other")
			return pick(r, "set "+name+" = '"+t+"'", "select set_config('"+name+"', '"+t+"', false)", "select '%m', set_config('"+name+"', '"+t+"', false)", "reset "+name)
		}},
		{2 * g.on[localSettings], func() string {
			t := tenant()
			return pick(r, "set local app.tenant = '"+t+"'", "select set_config('app.tenant', '"+t+"', true)", "set local app.other = '"+t+"'")
		}},
		{2 * g.on[transactions], g.boundary},
		w(savepoints, "savepoint a", "savepoint b", "rollback to a", "release a", "rollback to b"),
		w(chains, "commit and chain", "rollback and chain"),
		w(failures, "select '%m', 1/0", "select nosuch", "selec 1", "insert into nosuch values ('%m')"),
		{3 * g.on[writes], func() string {
			g.rows++
			return pick(r, fmt.Sprintf("insert into items values ('%%o', %d, current_setting('app.tenant', true), '%%m')", g.rows),
				fmt.Sprintf("update items set v = '%%m' where owner = '%%o' and id = %d", 1+r.IntN(g.rows)),
				fmt.Sprintf("delete from items where owner = '%%o' and id = %d and v <> '%%m'", 1+r.IntN(g.rows)))
		}},
		w(schemas, "set search_path = s2, public", "set search_path = public", "reset search_path", "set local search_path = s2", "select '%m', name from places", "select '%m', name from places", "select '%m', n from sizes order by 2"),
		w(roles, "set role auditor", "reset role", "set role none", "set local role auditor"),
		w(functions, "select '%m', set_tenant('t2')", "select set_tenant('t1')"),
		w(temporary, "create temp table tt(a text)", "insert into tt values ('%m')", "select '%m', a from tt", "drop table tt", "discard temp", "create temp table sizes(n text, m bigint)", "drop table sizes"),
		w(locks, fmt.Sprintf("select pg_advisory_lock(%d)", g.id), fmt.Sprintf("select pg_advisory_unlock(%d)", g.id)),
		w(cursors, "declare c cursor for select '%m', id from items where owner = '%o'", "fetch 1 from c", "close c", "declare c cursor with hold for select '%m', 1"),
		w(alone(sqlPrepared), pick(r, "prepare p as select '%m', current_setting('app.tenant', true)", "prepare p as select '%m', n from sizes order by 2"), "prepare p(text) as select $1, id from items where owner = '%o'", "execute p", "execute p('%m')", "deallocate p", "deallocate all"),
		w(reported, "set application_name = 'x%m'", "reset application_name", "set timezone = 'Europe/Berlin'", "set datestyle = 'SQL, DMY'", "set local timezone = 'UTC'", "show timezone"),
		w(sequences, "insert into orders(owner) values ('%o') returning owner", "select '%m', nextval('orders_id_seq') > 0", "select '%m', count(*) from orders where owner = '%o'"),
		w(channels, "listen \"%o\"", "notify \"%o\", '%m'", "notify \"%o\", '%m'", "select pg_notify('%o', '%m')", "unlisten *", "unlisten \"%o\""),
		w(copies, "copy (select '%m', id from items where owner = '%o' order by id) to stdout"),
		w(tables, "create table \"t %o\"(a text)", "insert into \"t %o\" values ('%m')", "select '%m', * from \"t %o\" order by 2", "alter table \"t %o\" add column b int", "alter table \"t %o\" drop column b", "alter table \"t %o\" alter b type text", "drop table \"t %o\"", "truncate \"t %o\""),
		w(resets, "reset all", "discard all", "set session authorization default"),
		w(modes, "set transaction read only", "set transaction isolation level repeatable read", "set default_transaction_read_only = on", "reset default_transaction_read_only", "show transaction_read_only"),
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := r.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			return c.draw()
		}
	}
	panic("unreachable")
}

// boundary begins or ends a transaction.
func (g *generator) boundary() string {
	if g.inside = !g.inside; g.inside {
		return pick(g.r, "begin", "begin", "begin", "start transaction", "begin read only", "begin isolation level repeatable read", "begin isolation level repeatable read read only")
	}
	return pick(g.r, "commit", "commit", "commit", "rollback")
}

// step draws what is sent at once.
func (g *generator) step() Step {
	r := g.r
	s := Step{}
	if len(g.next) == 0 && g.on[transactions] > 0 && chance(r, 60) {
		g.next, g.inside = idioms[r.IntN(len(idioms))], false
	}
	switch {
	case chance(r, 200):
		s.Wait = between(r, time.Millisecond, pick(r, 10*time.Millisecond, 500*time.Millisecond))
	default:
		s.Wait = between(r, time.Microsecond, 500*time.Microsecond)
	}
	switch {
	case len(g.next) > 0:
		s.Simple, g.next = g.next[0], g.next[1:]
	case g.on[redials] > 0 && chance(r, 40):
		s.Redial, g.inside = true, false
	case g.on[copiesIn] > 0 && chance(r, 100):
		s.Simple = pick(r, copyIn, copyIn, "copy items from stdin", "copy nosuch from stdin", copyIn+"; select '%m', 1")
		if s.Copy = pick(r, "%m\n", "%m\n", "", copyFails); s.Copy == "%m\n" && strings.HasPrefix(s.Simple, copyIn) {
			s.Check = appends
		}
	case g.on[sharing] > 0 && chance(r, 250):
		s.Simple, s.Check = "insert into log values ('%m')", appends
	case g.on[sharing] > 0 && !g.inside && chance(r, 350):
		s.Simple, s.Check = "select who from log", observes
	case g.on[pipelines]+g.on[named]+g.on[flushes] > 0 && chance(r, 400):
		g.extended(&s)
	case g.on[strings_] > 0 && chance(r, 150):
		s.Simple = g.text(true)
		for range 1 + r.IntN(3) {
			s.Simple += "; " + g.text(true)
		}
	case g.on[longs] > 0 && chance(r, 100):
		s.Simple = pick(r, "select '%m', length('%l')", "insert into log select '%m' where length('%l') < 0")
	case g.on[cancels] > 0 && chance(r, 60):
		s.Simple, s.Cancel = pick(r, "select '%m', pg_sleep(0.05)", "select '%m', pg_sleep(3)"), between(r, time.Microsecond, 80*time.Millisecond)
	default:
		s.Simple = g.text(false)
	}
	return s
}

// extended draws messages of the extended protocol.
func (g *generator) extended(s *Step) {
	r, calls := g.r, 1
	if g.on[pipelines] > 0 {
		calls += r.IntN(4)
	}
	for range calls {
		switch {
		case g.on[named] > 0 && chance(r, 500):
			s.Calls = append(s.Calls, g.useNamed())
		case chance(r, 60):
			s.Calls = append(s.Calls, Call{Again: true, Rows: uint32(r.IntN(2))})
		case chance(r, 300):
			s.Calls = append(s.Calls, Call{Parse: "select $1::text, id, v from items where owner = $2 order by id", Args: []string{"%m", "%o"}, Rows: uint32(r.IntN(3))})
		case g.on[longs] > 0 && chance(r, 200):
			s.Calls = append(s.Calls, Call{Parse: "select $1::text, length($2::text)", Args: []string{"%m", "%l"}})
		case chance(r, 300):
			s.Calls = append(s.Calls, Call{Parse: "select set_config($1, $2, $3)", Args: []string{"app.tenant", fmt.Sprintf("t%d", 1+r.IntN(3)), pick(r, "f", "t")}})
		default:
			s.Calls = append(s.Calls, Call{Parse: g.text(true)})
		}
	}
	for i := range s.Calls {
		s.Calls[i].Flush = g.on[flushes] > 0 && chance(r, 200)
		s.Calls[i].Apart = g.on[flushes] > 0 && chance(r, 100)
	}
}

// useNamed prepares, uses or closes a named statement.
func (g *generator) useNamed() Call {
	r := g.r
	name := fmt.Sprint("s", r.IntN(3))
	args := []string{"%m", pick(r, "%o", "%o", "5000000000")} // which is no integer, but a bigint
	switch {
	case g.names == 0 || chance(r, 400):
		g.names++
		text := pick(r, "select $1::text, current_setting('app.tenant', true), $2::text", "select id, v from items where v <> $1 and owner = $2", "select $1::text, *, $2::text from \"t %o\" order by 2")
		if g.on[schemas]+g.on[temporary] > 0 && chance(r, 600) {
			text = pick(r, "select $1::text, n from sizes where n <> $2 order by n", "select $1::text, n, $2::text from sizes order by n", "select $1::text, count(*) from sizes where m <> $2")
		}
		if chance(r, 300) {
			return Call{Name: name, Parse: text, Only: true}
		}
		return Call{Name: name, Parse: text, Args: args, Bare: chance(r, 200)}
	case chance(r, 150):
		return Call{Name: name, Close: true}
	}
	return Call{Name: name, Args: args, Bare: chance(r, 400)}
}
