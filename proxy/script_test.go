package proxy_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A script is what clients send, one message a line:
//
//	=== name         begins a script
//	option many      it needs several server connections at a time
//	option whole     it is too long to be sent byte by byte
//	setup SQL        run on the primary before, past the proxy
//	@b               what follows is sent by client b; the first is a
//	Q text           simple query
//	P name text      Parse; P name(23,25) text gives parameter types
//	B portal stmt …  Bind with parameters in text format, null for NULL
//	D S name         Describe; D P name
//	E portal limit   Execute; the limit may be left out
//	C S name         Close; C P name
//	S, H             Sync, Flush
//	F oid …          FunctionCall with arguments in text format
//	d data, c        CopyData, CopyDone
//	f message        CopyFail
//	X                Terminate
//	raw type hex     any frame; the length is right
//	bytes hex        any bytes
//	wait [types]     sends what was gathered, and waits for its ReadyForQuerys,
//	                 or for messages of these types in that order
//	repeat n … end   the lines between, n times; {i} is the count
//
// Names, arguments and data may be quoted as Go strings; "" is the unnamed
// statement or portal. {x*1000} is x a thousand times.
type script struct {
	name        string
	many, whole bool
	setup       []string
	lines       []string
}

// readScripts reads the scripts of a file.
func readScripts(t *testing.T, path string) (scripts []*script) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		if word == "===" {
			scripts = append(scripts, &script{name: rest})
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s := scripts[len(scripts)-1]
		switch {
		case word == "option" && rest == "many":
			s.many = true
		case word == "option" && rest == "whole":
			s.whole = true
		case word == "option":
			t.Fatalf("%s: unknown option %q", s.name, rest)
		case word == "setup":
			s.setup = append(s.setup, rest)
		default:
			s.lines = append(s.lines, line)
		}
	}
	for _, s := range scripts {
		s.lines = unroll(t, s.lines)
	}
	return scripts
}

// unroll writes repeated lines out.
func unroll(t *testing.T, lines []string) (out []string) {
	for i := 0; i < len(lines); i++ {
		count, ok := strings.CutPrefix(lines[i], "repeat ")
		if !ok {
			out = append(out, lines[i])
			continue
		}
		n, err := strconv.Atoi(count)
		end := i + 1
		for end < len(lines) && lines[end] != "end" {
			end++
		}
		if err != nil || end == len(lines) {
			t.Fatalf("%s: needs a number and an end", lines[i])
		}
		for k := range n {
			for _, l := range lines[i+1 : end] {
				out = append(out, strings.ReplaceAll(l, "{i}", strconv.Itoa(k)))
			}
		}
		i = end
	}
	return out
}

var many = regexp.MustCompile(`\{(.+?)\*(\d+)\}`)

// player plays one script on one server.
type player struct {
	t              testing.TB
	addr, database string
	params         []string // further startup parameters
	single         bool     // byte by byte

	conns      map[string]*rawConn
	now        string
	out        map[string][]byte // gathered, by client
	due        map[string]int    // ReadyForQuerys awaited, by client
	transcript []string
}

// play plays a script and returns what the server said, with what was asked.
func play(t testing.TB, s *script, addr, database string, single bool) []string {
	t.Helper()
	p := &player{t: t, addr: addr, database: database, single: single, now: "a",
		conns: map[string]*rawConn{}, out: map[string][]byte{}, due: map[string]int{}}
	defer func() {
		for _, c := range p.conns {
			c.close()
		}
	}()
	for _, line := range s.lines {
		p.line(line)
	}
	for _, name := range slices.Sorted(maps.Keys(p.conns)) {
		p.now = name
		p.finish()
	}
	return p.transcript
}

// finish sees that nothing more comes than was awaited.
func (p *player) finish() {
	c := p.conns[p.now]
	if len(p.out[p.now]) > 0 || p.due[p.now] > 0 {
		p.wait(nil)
	}
	c.mu.Lock()
	ended := c.ended != nil
	c.mu.Unlock()
	if ended || strings.HasSuffix(tail(p.transcript), "end") {
		return
	}
	p.line("Q select 'the end'")
	p.wait(nil)
}

func (p *player) line(line string) {
	p.t.Helper()
	if name, ok := strings.CutPrefix(line, "@"); ok {
		p.now = name
		return
	}
	line = many.ReplaceAllStringFunc(line, func(m string) string {
		parts := many.FindStringSubmatch(m)
		n, _ := strconv.Atoi(parts[2])
		return strings.Repeat(parts[1], n)
	})
	p.conn()
	if len(line) < 200 {
		p.transcript = append(p.transcript, p.now+"> "+line)
	}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "wait":
		p.wait(strings.Fields(rest))
	case "bytes":
		p.out[p.now] = append(p.out[p.now], p.hex(rest)...)
	case "raw":
		typ, body, _ := strings.Cut(rest, " ")
		b := p.hex(body)
		n := len(b) + 4
		p.out[p.now] = append(append(p.out[p.now], typ[0], byte(n>>24), byte(n>>16), byte(n>>8), byte(n)), b...)
	default:
		m := p.message(word, rest)
		p.out[p.now] = append(p.out[p.now], encode(p.t, m)...)
		switch word {
		case "Q", "S", "F":
			p.due[p.now]++
		}
	}
}

func (p *player) conn() *rawConn {
	c := p.conns[p.now]
	if c == nil {
		c = raw(p.t, p.addr, p.database, p.params...)
		p.conns[p.now] = c
	}
	return c
}

// wait sends what was gathered for the present client and waits.
func (p *player) wait(types []string) {
	p.t.Helper()
	c := p.conn()
	c.t = p.t
	c.write(p.out[p.now], p.single)
	p.out[p.now] = nil
	if len(types) == 0 {
		for range p.due[p.now] {
			types = append(types, "Z")
		}
	}
	p.due[p.now] = 0
	for _, l := range c.wait(types...) {
		p.transcript = append(p.transcript, p.now+"  "+l)
	}
}

func (p *player) message(word, rest string) pgproto3.FrontendMessage {
	p.t.Helper()
	switch word {
	case "Q":
		return &pgproto3.Query{String: unquote(rest)}
	case "P":
		return p.parse(rest)
	case "B":
		w := words(rest)
		m := &pgproto3.Bind{DestinationPortal: w[0], PreparedStatement: w[1]}
		m.Parameters = parameters(w[2:])
		return m
	case "D":
		kind, name, _ := strings.Cut(rest, " ")
		return &pgproto3.Describe{ObjectType: kind[0], Name: unquote(name)}
	case "C":
		kind, name, _ := strings.Cut(rest, " ")
		return &pgproto3.Close{ObjectType: kind[0], Name: unquote(name)}
	case "E":
		m := &pgproto3.Execute{}
		w := append(words(rest), "", "")
		m.Portal = w[0]
		if w[1] != "" {
			m.MaxRows = uint32(p.number(w[1]))
		}
		return m
	case "S":
		return &pgproto3.Sync{}
	case "H":
		return &pgproto3.Flush{}
	case "F":
		w := words(rest)
		m := &pgproto3.FunctionCall{Function: uint32(p.number(w[0]))}
		m.Arguments = parameters(w[1:])
		return m
	case "d":
		return &pgproto3.CopyData{Data: []byte(unquote(rest))}
	case "c":
		return &pgproto3.CopyDone{}
	case "f":
		return &pgproto3.CopyFail{Message: unquote(rest)}
	case "X":
		return &pgproto3.Terminate{}
	}
	p.t.Fatalf("unknown line: %s %s", word, rest)
	return nil
}

// parse reads "name text" or "name(oid,oid) text".
func (p *player) parse(rest string) pgproto3.FrontendMessage {
	name, text, _ := strings.Cut(rest, " ")
	m := &pgproto3.Parse{Query: unquote(text)}
	if n, types, ok := strings.Cut(strings.TrimSuffix(name, ")"), "("); ok {
		name = n
		for _, oid := range strings.Split(types, ",") {
			m.ParameterOIDs = append(m.ParameterOIDs, uint32(p.number(oid)))
		}
	}
	m.Name = unquote(name)
	return m
}

func (p *player) number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *player) hex(s string) (b []byte) {
	for _, w := range strings.Fields(s) {
		v, err := strconv.ParseUint(w, 16, 8)
		if err != nil {
			p.t.Fatal(err)
		}
		b = append(b, byte(v))
	}
	return b
}

func parameters(ws []string) (vs [][]byte) {
	for _, w := range ws {
		if w == "null" {
			vs = append(vs, nil)
		} else {
			vs = append(vs, []byte(w))
		}
	}
	return vs
}

// words are the words of a line; quoted ones may hold spaces.
func words(s string) (ws []string) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if q, err := strconv.QuotedPrefix(s); err == nil {
			ws, s = append(ws, unquote(q)), s[len(q):]
			continue
		}
		w, rest, _ := strings.Cut(s, " ")
		ws, s = append(ws, w), rest
	}
	return ws
}

func unquote(s string) string {
	if v, err := strconv.Unquote(s); err == nil {
		return v
	}
	return s
}

// difference shows where two transcripts part; empty if they do not.
func difference(want, got []string) string {
	for i := range max(len(want), len(got)) {
		w, g := "(the end)", "(the end)"
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			return fmt.Sprintf("%s\ndirectly: %s\nproxy:    %s", tail(want[max(0, i-12):min(i, len(want))]), w, g)
		}
	}
	return ""
}
