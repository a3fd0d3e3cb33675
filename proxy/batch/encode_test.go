package batch

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// asked is a batch under construction, as analysis would leave it, with all that an
// Encoder needs.
type asked struct {
	Encoder
	names   map[string]*session.Prepared
	plans   *router.Plans
	unnamed session.Unnamed
	tag     session.Tag // of the unnamed statement now
	parse   int         // 1 + the message that parsed it; 0 is an earlier batch
}

func newAsked() *asked {
	state := session.New(setting.Settings{}, setting.Settings{}, setting.Settings{})
	a := &asked{names: map[string]*session.Prepared{}, plans: router.NewPlans(router.Options{})}
	a.Encoder = Encoder{
		Attempt: &Attempt{}, Batch: &Batch{}, State: &state, Unnamed: &a.unnamed,
		Held: prepared.NewHeld(10), Registry: new(prepared.Registry),
	}
	return a
}

func (a *asked) add(m Message, frame pgproto3.FrontendMessage) *Message {
	raw, err := frame.Encode(nil)
	if err != nil {
		panic(err)
	}
	m.Off, m.Size = len(a.Bytes), len(raw)
	a.Bytes = append(a.Bytes, raw...)
	return a.Batch.Add(&m)
}

func (a *asked) asserts(names ...string) {
	a.Takes, a.Asserts, a.User = TakesWithin, NewAssertion(names, a.Registry), "app"
}

func (a *asked) query(text string) *Message {
	a.Batch.End = EndQuery
	return a.add(Message{Kind: Query, Plan: a.plans.Get([]byte(text))}, &pgproto3.Query{String: text})
}

// prepare makes a named statement that an earlier batch has defined.
func (a *asked) prepare(name, text string) {
	st := a.Registry.Statement([]byte(text), []byte{0, 0}, "")
	a.names[name] = &session.Prepared{Statement: st, First: st, Plan: a.plans.Get([]byte(text))}
}

func (a *asked) parseMessage(name, text string) *Message {
	m := Message{Kind: Parse, Name: name, Defines: a.plans.Get([]byte(text))}
	if name != "" {
		a.prepare(name, text)
		m.Prepared = a.names[name]
		a.Batch.Traits |= Rewritten
	} else {
		a.tag++
		m.Tag, a.parse = a.tag, len(a.Batch.Messages)+1
	}
	return a.add(m, &pgproto3.Parse{Name: name, Query: text})
}

func (a *asked) statement(m Message, name string) Message {
	if name == "" {
		m.Tag, m.Parse = a.tag, a.parse
		return m
	}
	m.Prepared = a.names[name]
	a.Batch.Traits |= Rewritten
	return m
}

// run binds and executes a statement.
func (a *asked) run(name string, params ...string) {
	bind := &pgproto3.Bind{PreparedStatement: name}
	for _, p := range params {
		bind.Parameters = append(bind.Parameters, []byte(p))
	}
	a.add(a.statement(Message{Kind: Bind}, name), bind)
	a.add(Message{Kind: Execute, Plan: a.plans.Get([]byte("SELECT 1"))}, &pgproto3.Execute{})
}

func (a *asked) describe(name string) {
	a.add(a.statement(Message{Kind: Describe}, name), &pgproto3.Describe{ObjectType: 'S', Name: name})
}

func (a *asked) sync() {
	a.Batch.Traits |= HasSync
	a.add(Message{Kind: Sync}, &pgproto3.Sync{})
}

// holds has the server connection hold a statement.
func (a *asked) holds(name string) { a.Held.Hold(a.names[name].Statement) }

// begin has the session in a deferred transaction in which it has run statements.
func (a *asked) begin(texts ...string) {
	for _, text := range texts {
		a.State.Execute(a.plans.Get([]byte(text)))
	}
	a.Replays = ReplaysBlock
}

// encodings are the batches of testdata/encode.txt.
var encodings = []struct {
	name string
	of   func(a *asked)
}{
	{"a simple query goes as it came", func(a *asked) { a.query("SELECT 1") }},
	{"an unnamed statement goes as it came", func(a *asked) {
		a.parseMessage("", "SELECT $1")
		a.describe("")
		a.run("", "1")
		a.sync()
	}},
	{"a named statement gets the name it has on all servers", func(a *asked) {
		a.parseMessage("mine", "SELECT $1")
		a.describe("mine")
		a.run("mine", "1")
		a.sync()
	}},
	{"a Parse of what the server holds is answered here", func(a *asked) {
		a.prepare("other's", "SELECT $1")
		a.holds("other's")
		a.parseMessage("mine", "SELECT $1")
		a.run("mine", "1")
		a.sync()
	}},
	{"a statement of an earlier batch is prepared where it is not yet", func(a *asked) {
		a.prepare("mine", "SELECT $1")
		a.run("mine", "1")
		a.sync()
	}},
	{"a statement is prepared anew", func(a *asked) {
		a.prepare("mine", "SELECT $1")
		a.holds("mine")
		a.Renew = true
		a.run("mine", "1")
		a.sync()
	}},
	{"what a batch of more than are kept has prepared is closed behind it", func(a *asked) {
		a.Held = prepared.NewHeld(2)
		for _, n := range []string{"1", "2", "3"} {
			a.prepare(n, "SELECT "+n)
			a.holds(n)
		}
		a.Held.EndBatch()
		a.Owed = a.Held.TakeOwed()
		a.run("3")
		a.sync()
	}},
	{"the unnamed statement of an earlier batch is there", func(a *asked) {
		a.tag, a.Held.Unnamed = 7, 7
		a.run("", "1")
		a.sync()
	}},
	{"it is parsed again on another connection", func(a *asked) {
		a.tag, a.unnamed = 7, session.Unnamed{Tag: 7, Text: []byte("SELECT $1"), Types: []byte{0, 1, 0, 0, 0, 23}}
		a.run("", "1")
		a.describe("")
		a.sync()
	}},
	{"settings are taken over within the batch", func(a *asked) {
		a.Takes, a.Changes = TakesWithin, []setting.Change{{Name: "app.tenant", Value: "it's"}, {Name: "work_mem", Reset: true}}
		a.query("SELECT 1")
	}},
	{"and ahead of it", func(a *asked) {
		a.Takes, a.Changes = TakesAhead, []setting.Change{{Name: "app.tenant", Value: "7"}}
		a.query("COMMIT")
	}},
	{"ahead of it on a standby that is SERIALIZABLE by default", func(a *asked) {
		a.Takes, a.Changes = TakesApart, []setting.Change{{Name: "app.tenant", Value: "7"}}
		a.query("SELECT 1")
	}},
	{"ahead of one that asks for a portal of an earlier batch", func(a *asked) {
		a.Takes, a.Changes = TakesAhead, []setting.Change{{Name: "app.tenant", Value: "7"}}
		a.Batch.Traits |= Resumes
		a.add(Message{Kind: Execute, Plan: a.plans.Get([]byte("SELECT 1"))}, &pgproto3.Execute{})
		a.sync()
	}},
	{"what isolation rests on is made sure of", func(a *asked) {
		a.asserts("App.Tenant", "app.region")
		a.Carries = setting.From(map[string]string{"app.tenant": "7", "app.region": "eu", "role": "reader"})
		a.query("SELECT 1")
	}},
	{"where the session has none of the settings", func(a *asked) {
		a.asserts("App.Tenant", "app.region")
		a.query("SELECT 1")
	}},
	{"where it has some of them", func(a *asked) {
		a.asserts("app.tenant", "app.region")
		a.Carries = setting.From(map[string]string{"app.tenant": "7"})
		a.query("SELECT 1")
	}},
	{"where it may act as somebody else than is believed", func(a *asked) {
		a.asserts("app.tenant")
		a.Carries = setting.From(map[string]string{"app.tenant": "7"})
		a.Asserts = a.Asserts.Taking([]setting.Change{{Name: setting.Role, Value: "reader"}}, false)
		a.query("SELECT 1")
	}},
	{"within a transaction that is opened", func(a *asked) {
		a.asserts("app.tenant", "app.region")
		a.Takes, a.Carries = TakesNothing, setting.From(map[string]string{"app.tenant": "7"})
		a.begin("BEGIN", "SET LOCAL app.tenant = '8'")
		a.query("SELECT 1")
	}},
	{"within one, where there may be a temporary schema", func(a *asked) {
		a.asserts("app.tenant")
		a.Takes, a.Asserts = TakesNothing, a.Asserts.Taking(nil, true)
		a.begin("BEGIN")
		a.query("SELECT 1")
	}},
	{"a transaction is opened, with what it did", func(a *asked) {
		a.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", `SET app.a = 'kept'`, `SAVEPOINT "a "" \ é"`, "SET LOCAL app.a = 'local'", "SET LOCAL app.b TO DEFAULT")
		a.query("SELECT 1")
	}},
	{"with modes said behind a savepoint, and a SET that only a server can read", func(a *asked) {
		a.begin("BEGIN", "SAVEPOINT a")
		a.State.Ran(&session.Executed{Plan: a.plans.Get([]byte("SET TRANSACTION READ ONLY"))}, session.Done, nil)
		text := "SET LOCAL search_path = a, b"
		a.State.Ran(&session.Executed{Plan: a.plans.Get([]byte(text)), Text: text}, session.Done, nil)
		a.tag, a.unnamed = 7, session.Unnamed{Tag: 7, Text: []byte("SELECT 1"), Types: []byte{0, 0}}
		a.Held.Unnamed = 7
		a.run("")
		a.sync()
	}},
	{"what the implicit transaction set here is set there", func(a *asked) {
		a.begin("SET app.a = '1'")
		a.Replays = ReplaysImplicit
		a.query("SELECT 1")
	}},
	{"sequences of another session are not to be seen", func(a *asked) {
		a.Drops = Sequences
		a.query("SELECT currval('s')")
	}},
	{"plans of another session's settings are not to be used, in one transaction", func(a *asked) {
		a.Takes, a.Drops = TakesWithin, Plans
		a.Changes = []setting.Change{{Name: "timezone", Value: "Asia/Tokyo"}}
		a.parseMessage("", "SELECT f()")
		a.run("")
		a.sync()
	}},
	{"plans of another session's settings are not to be used", func(a *asked) {
		a.Takes, a.Drops = TakesAhead, Plans
		a.Changes = []setting.Change{{Name: "timezone", Value: "Asia/Tokyo"}}
		a.query("SELECT f()")
	}},
	{"a refusal in the middle ends the batch", func(a *asked) {
		a.parseMessage("", "SELECT 1")
		a.run("")
		a.Batch.Refuse(wire.Errorf("26000", "no such statement"))
		a.sync()
	}},
	{"a message is refused after all", func(a *asked) {
		a.parseMessage("", "SELECT 1")
		a.run("")
		a.sync()
		a.RefuseAt, a.Refusal = 2, wire.Errorf("42501", "not now")
	}},
	{"a refusal with no Sync yet", func(a *asked) {
		a.parseMessage("", "SELECT 1")
		a.Batch.Refuse(wire.Errorf("26000", "no such statement"))
		a.Batch.End = EndFlush
	}},
	{"a flush", func(a *asked) {
		a.parseMessage("mine", "SELECT 1")
		a.Batch.End = EndFlush
	}},
	{"a part of a long batch", func(a *asked) {
		a.parseMessage("", "SELECT 1")
		a.run("")
		a.Batch.End = EndPart
	}},
	{"what is answered here is not sent", func(a *asked) {
		a.Batch.AnswerHere(&Message{Kind: Execute})
		a.parseMessage("", "SELECT 1")
		a.run("")
		a.Batch.AnswerHere(&Message{Kind: Close, Target: 'S'})
		a.sync()
		a.Batch.Here = 1
	}},
	{"a rewritten text", func(a *asked) {
		a.query("EXECUTE mine(1)").Text = "EXECUTE _pgweir_1(1)"
		a.Batch.Traits |= Rewritten
	}},
	{"a statement that PREPARE makes, in place of another client's", func(a *asked) {
		made := &session.Prepared{Statement: a.Registry.SQLStatement("PREPARE ", " AS SELECT 1", ""), Plan: &router.Plan{}}
		a.Held.Hold(made.Statement)
		a.Batch.Traits |= Rewritten
		m := a.query("PREPARE mine AS SELECT 1")
		m.Text, m.SQL = made.Statement.SQL, &session.SQLPrepared{Makes: made, Name: "mine"}
	}},
	{"one that EXECUTE needs", func(a *asked) {
		needs := &session.Prepared{Statement: a.Registry.SQLStatement("PREPARE ", " AS SELECT 1", ""), Plan: &router.Plan{}}
		a.Batch.Traits |= Rewritten
		m := a.query("EXECUTE mine")
		m.Text, m.SQL = "EXECUTE "+needs.Name, &session.SQLPrepared{Needs: needs, Name: "mine"}
	}},
	{"in a failed transaction a Parse fails unnamed", func(a *asked) {
		a.State.Execute(a.plans.Get([]byte("BEGIN")))
		a.State.Refused()
		a.parseMessage("mine", "SELECT 1")
		a.sync()
	}},
}

// What a server is sent for a batch, and what is awaited, as testdata/encode.txt has it.
func TestEncode(t *testing.T) {
	var out strings.Builder
	for _, e := range encodings {
		a := newAsked()
		e.of(a)
		a.Batch.Size = len(a.Bytes)
		sent := a.Encode()
		fmt.Fprintf(&out, "# %s\n", e.name)
		if len(a.Bytes) > 0 && &sent[0] == &a.Bytes[0] {
			fmt.Fprintln(&out, "(the client's bytes)")
		}
		out.WriteString(readable(t, sent))
		for i := range a.Queue {
			fmt.Fprintf(&out, "<- %s\n", awaited(&a.Queue[i]))
		}
		fmt.Fprintln(&out)
	}
	golden(t, "testdata/encode.txt", out.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}

// readable prints messages of a client, a line each, as pgx reads them.
func readable(t *testing.T, sent []byte) string {
	var out strings.Builder
	for b := pgproto3.NewBackend(bytes.NewReader(sent), nil); ; {
		m, err := b.Receive()
		if err != nil {
			if err.Error() != "unexpected EOF" && err.Error() != "EOF" {
				t.Error(err)
			}
			return out.String()
		}
		switch m := m.(type) {
		case *pgproto3.Parse:
			fmt.Fprintf(&out, "-> Parse %q %q %v\n", m.Name, m.Query, m.ParameterOIDs)
		case *pgproto3.Bind:
			fmt.Fprintf(&out, "-> Bind %q %q", m.DestinationPortal, m.PreparedStatement)
			for _, p := range m.Parameters {
				if p == nil {
					out.WriteString(" NULL")
					continue
				}
				fmt.Fprintf(&out, " %q", p)
			}
			out.WriteString("\n")
		case *pgproto3.Describe:
			fmt.Fprintf(&out, "-> Describe %c %q\n", m.ObjectType, m.Name)
		case *pgproto3.Close:
			fmt.Fprintf(&out, "-> Close %c %q\n", m.ObjectType, m.Name)
		case *pgproto3.Execute:
			fmt.Fprintf(&out, "-> Execute %q %d\n", m.Portal, m.MaxRows)
		case *pgproto3.Query:
			fmt.Fprintf(&out, "-> Query %q\n", m.String)
		default:
			fmt.Fprintf(&out, "-> %s\n", strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3."))
		}
	}
}

// awaited prints what an answer is awaited for.
func awaited(a *Awaited) string {
	s := [...]string{"Parse", "Bind", "Describe", "Execute", "Close", "Sync", "Query", "FunctionCall"}[a.Kind]
	s += " of " + [...]string{"the client", "the client, answered here", "the proxy", "the opening", "the set-up", "the sentinel"}[a.Origin]
	if a.Shared != nil {
		s += " " + a.Shared.Name
	}
	if a.Tag != 0 {
		s += fmt.Sprintf(", unnamed %d", a.Tag)
	}
	if a.Refusal != nil {
		s += ", refused: " + a.Refusal.Message
	}
	return s
}

// The string that brings a server to where a failed transaction is, as
// testdata/aborted.txt has it.
func TestAborted(t *testing.T) {
	var out strings.Builder
	for _, texts := range [][]string{
		{"BEGIN"},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "SET app.a = '1'", "SET LOCAL app.a TO DEFAULT"},
		{"BEGIN", `SET app.a = 'it''s \ back'`, `SET LOCAL app.b = '\'`},
		{"BEGIN", `SAVEPOINT "a "" \ b"`, "SAVEPOINT b", "SET app.a = ''"},
		{"BEGIN", "SAVEPOINT a", "SET TRANSACTION READ ONLY", "SET LOCAL search_path = 'it''s', b"},
	} {
		a := newAsked()
		for _, text := range texts {
			p := a.plans.Get([]byte(text))
			if a.State.Executable(p, false, false, setting.IsCustom) {
				a.State.Execute(p)
				continue
			}
			a.State.Ran(&session.Executed{Plan: p, Text: text}, session.Done, nil)
		}
		a.State.Refused()
		fmt.Fprintf(&out, "# %s\n%s\n\n", strings.Join(texts, "; "), Aborted(a.State))
	}
	golden(t, "testdata/aborted.txt", out.String())
}

// A Bind of which only the head is there announces all of it, and nothing is sent behind it yet.
func TestEncodeTail(t *testing.T) {
	for _, name := range []string{"", "s"} {
		a := newAsked()
		a.prepare("s", "SELECT $1")
		a.unnamed = session.Unnamed{Tag: 1, Text: []byte("SELECT $1"), Types: []byte{0, 0}}
		a.tag = 1
		m := a.statement(Message{Kind: Bind}, name)
		a.add(m, &pgproto3.Bind{PreparedStatement: name, Parameters: [][]byte{[]byte("begin")}})
		a.Batch.End, a.Batch.Tail = EndPart, 1000
		out := a.Encode()
		if a.Tail != 1000 {
			t.Errorf("%d bytes are to follow", a.Tail)
		}
		typ, size, err := wire.PeekHeader(out)
		if err != nil || typ != wire.Parse {
			t.Fatal(typ, err)
		}
		bind := out[size:]
		if typ, size, err = wire.PeekHeader(bind); err != nil || typ != wire.Bind || size != len(bind)+1000 {
			t.Errorf("%c of %d bytes, of which %d are there, %v", typ, size, len(bind), err)
		}
		a.RefuseAt, a.Refusal = 1, wire.Errorf("57014", "no")
		if a.Encode(); a.Tail != 0 {
			t.Error("a part of what is refused is sent")
		}
	}
}
