package batch

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
)

func TestCheckFrame(t *testing.T) {
	for _, tt := range []struct {
		typ  byte
		size int
		want string // SQLSTATE, "length", or nothing
	}{
		{wire.Query, 5, ""},
		{wire.Query, wire.MaxFrame + 1, ""},
		{wire.Query, wire.MaxFrame + 2, "length"},
		{wire.Execute, smallFrame + 1, ""},
		{wire.Execute, smallFrame + 2, "length"},
		{wire.Sync, 5, ""},
		{'p', 5, "08P01"},
		{0, 5, "08P01"},
		{wire.ReadyForQuery, 6, "08P01"},
	} {
		if got := refused(CheckFrame(tt.typ, tt.size, nil)); got != tt.want {
			t.Errorf("%q of %d bytes: %q, not %q", tt.typ, tt.size, got, tt.want)
		}
	}
	if CheckFrame(wire.Query, 5, wire.ErrFrameLength) == nil {
		t.Error("an impossible length passes")
	}
}

func refused(err error) string {
	var own *wire.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, wire.ErrFrameLength):
		return "length"
	case errors.As(err, &own):
		return own.Code
	}
	return "another error"
}

// A stream of bytes is cut into the messages that pgx reads in it, with the same parts.
// What only one of them takes for a message, a server is left to judge.
func FuzzMessages(f *testing.F) {
	add := func(messages ...pgproto3.FrontendMessage) {
		var b []byte
		for _, m := range messages {
			b, _ = m.Encode(b)
		}
		f.Add(b)
	}
	add(&pgproto3.Query{String: "SELECT 1"})
	add(&pgproto3.Parse{Name: "a", Query: "SELECT $1", ParameterOIDs: []uint32{23, 25}}, &pgproto3.Sync{})
	add(&pgproto3.Bind{PreparedStatement: "a", ParameterFormatCodes: []int16{1, 0}, Parameters: [][]byte{{0, 1}, nil}, ResultFormatCodes: []int16{1}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{Portal: "p", MaxRows: 7}, &pgproto3.Close{ObjectType: 'S', Name: "a"}, &pgproto3.Flush{})
	add(&pgproto3.Terminate{})
	f.Add([]byte{wire.Bind, 0, 0, 0, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0})
	f.Add([]byte{wire.Query, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		for len(stream) >= wire.HeaderSize {
			typ, size, err := wire.PeekHeader(stream)
			if err = CheckFrame(typ, size, err); err != nil || size > len(stream) {
				return
			}
			compareParts(t, typ, stream[:size])
			stream = stream[size:]
		}
	})
}

func compareParts(t *testing.T, typ byte, frame []byte) {
	body := frame[wire.HeaderSize:]
	same := func(ours, theirs string) {
		if ours != theirs {
			t.Fatalf("%q: %q, but pgx reads %q", frame, ours, theirs)
		}
	}
	switch typ {
	case wire.Query:
		var m pgproto3.Query
		if text, ok := wire.QueryText(frame); ok && m.Decode(body) == nil {
			same(string(text), m.String)
		}
	case wire.Parse:
		var m pgproto3.Parse
		if name, text, types, ok := wire.ParseParts(frame); ok && m.Decode(body) == nil {
			same(string(name)+string(text), m.Name+m.Query)
			if len(types) != 2+4*len(m.ParameterOIDs) {
				t.Fatalf("%q: %d bytes of types, but pgx reads %d", frame, len(types), len(m.ParameterOIDs))
			}
		}
	case wire.Bind:
		compareBind(t, frame, same)
	case wire.Describe, wire.Close:
		var m pgproto3.Close
		if kind, name, ok := wire.TargetParts(frame); ok && m.Decode(body) == nil {
			same(string(kind)+string(name), string(m.ObjectType)+m.Name)
		}
	case wire.Execute:
		var m pgproto3.Execute
		if portal, limit, ok := wire.ExecuteParts(frame); ok && m.Decode(body) == nil {
			same(fmt.Sprint(string(portal), uint32(limit)), fmt.Sprint(m.Portal, m.MaxRows))
		}
	}
}

func compareBind(t *testing.T, frame []byte, same func(ours, theirs string)) {
	portal, statement, rest, ok := wire.BindParts(frame)
	if !ok {
		return
	}
	params := BoundParameters(rest, noTypes) // whatever the bytes are
	var m pgproto3.Bind
	if m.Decode(frame[wire.HeaderSize:]) != nil || len(params) == 0 {
		return
	}
	same(string(portal)+string(statement), m.DestinationPortal+m.PreparedStatement)
	if len(params) != len(m.Parameters) {
		t.Fatalf("%q: %d parameters, but pgx reads %d", frame, len(params), len(m.Parameters))
	}
	for i, p := range m.Parameters {
		if params[i].Null != (p == nil) || !bytes.Equal([]byte(params[i].Value), p) {
			t.Fatalf("%q: parameter %d is %+v, but pgx reads %q", frame, i+1, params[i], p)
		}
	}
}

// Quoted, a text and a name mean what they are.
func FuzzQuotes(f *testing.F) {
	f.Add("it's", `a\b`)
	f.Add("", `"`)
	f.Fuzz(func(t *testing.T, literal, identifier string) {
		written, escaped := strings.CutPrefix(setting.Literal(literal), " E")
		if got := unquoted(written, '\'', escaped); got != literal && setting.IsPlain(literal) {
			t.Fatalf("%q becomes %q", literal, got)
		}
		if got := unquoted(setting.Identifier(identifier), '"', false); got != identifier {
			t.Fatalf("%q becomes %q", identifier, got)
		}
	})
}

// unquoted reads a quoted string as PostgreSQL's lexer does; nothing may stand behind it.
func unquoted(s string, quote byte, escapes bool) string {
	var out []byte
	for i := 1; i < len(s)-1; i++ {
		switch {
		case s[i] == quote && s[i+1] == quote && i+1 < len(s)-1, s[i] == '\\' && escapes && i+1 < len(s)-1:
			i++
		case s[i] == quote, s[i] == '\\' && escapes:
			return "ends early: " + string(out)
		}
		out = append(out, s[i])
	}
	return string(out)
}
