package wire

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

func encoded(t testing.TB, m pgproto3.Message) []byte {
	t.Helper()
	b, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is appended is what pgproto3 writes.
func TestEncode(t *testing.T) {
	types := []byte{0, 2, 0, 0, 0, 23, 0, 0, 0, 25}
	for _, try := range []struct {
		name string
		got  []byte
		want pgproto3.Message
	}{
		{"Query", AppendQuery(nil, "select 'é'"), &pgproto3.Query{String: "select 'é'"}},
		{"Parse", AppendParse(nil, "s", "select $1, $2", types), &pgproto3.Parse{Name: "s", Query: "select $1, $2", ParameterOIDs: []uint32{23, 25}}},
		{"Parse without types", AppendParse(nil, "", "select 1", nil), &pgproto3.Parse{Query: "select 1"}},
		{"Bind", AppendBind(nil, []byte("p"), "s", nil), &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s"}},
		{"Describe", AppendTarget(nil, Describe, 'S', "s"), &pgproto3.Describe{ObjectType: 'S', Name: "s"}},
		{"Close", AppendTarget(nil, Close, 'P', ""), &pgproto3.Close{ObjectType: 'P'}},
		{"Execute", AppendExecute(nil, "p"), &pgproto3.Execute{Portal: "p"}},
		{"Sync", AppendSync(nil), &pgproto3.Sync{}},
		{"CommandComplete", AppendComplete(nil, "SELECT 1"), &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}},
		{"ReadyForQuery", AppendReady(nil, TxFailed), &pgproto3.ReadyForQuery{TxStatus: 'E'}},
		{"ParameterStatus", AppendParameter(nil, "a", "b"), &pgproto3.ParameterStatus{Name: "a", Value: "b"}},
		{"DataRow", AppendTextValue(nil, "on"), &pgproto3.DataRow{Values: [][]byte{[]byte("on")}}},
		{"RowDescription", AppendTextDescription(nil, "x"), &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
			{Name: []byte("x"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}}},
		{"ErrorResponse", Fatalf("53300", "too %s", "many").WithHint("wait").Append(nil), &pgproto3.ErrorResponse{
			Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "53300", Message: "too many", Hint: "wait"}},
		{"NoticeResponse", AppendNotice(nil, "NOTICE", "00000", "hello"), &pgproto3.NoticeResponse{
			Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: "hello"}},
	} {
		if diff := cmp.Diff(encoded(t, try.want), try.got); diff != "" {
			t.Errorf("%s: (- pgproto3, + ours)\n%s", try.name, diff)
		}
	}
}

// What is taken apart is what pgproto3 put together.
func TestParts(t *testing.T) {
	if text, ok := QueryText(encoded(t, &pgproto3.Query{String: "select 1"})); !ok || string(text) != "select 1" {
		t.Errorf("Query: %q, %v", text, ok)
	}
	name, text, types, ok := ParseParts(encoded(t, &pgproto3.Parse{Name: "n", Query: "q", ParameterOIDs: []uint32{7}}))
	if !ok || string(name) != "n" || string(text) != "q" || !bytes.Equal(types, []byte{0, 1, 0, 0, 0, 7}) {
		t.Errorf("Parse: %q, %q, %x, %v", name, text, types, ok)
	}
	bind := encoded(t, &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s", Parameters: [][]byte{[]byte("x"), nil}})
	portal, statement, rest, ok := BindParts(bind)
	if !ok || string(portal) != "p" || string(statement) != "s" || !bytes.Equal(AppendBind(nil, portal, "s", rest), bind) {
		t.Errorf("Bind: %q, %q, %x, %v", portal, statement, rest, ok)
	}
	kind, target, ok := TargetParts(encoded(t, &pgproto3.Close{ObjectType: 'S', Name: "s"}))
	if !ok || kind != 'S' || string(target) != "s" {
		t.Errorf("Close: %c, %q, %v", kind, target, ok)
	}
	portal, limit, ok := ExecuteParts(encoded(t, &pgproto3.Execute{Portal: "p", MaxRows: 5}))
	if !ok || string(portal) != "p" || limit != 5 {
		t.Errorf("Execute: %q, %d, %v", portal, limit, ok)
	}
	failure := encoded(t, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "m", Where: "w"})
	if string(ErrorField(failure, 'C')) != "42601" || string(ErrorField(failure, 'W')) != "w" || ErrorField(failure, 'D') != nil {
		t.Error("ErrorResponse")
	}
}

// malformed are frames no part may be taken from.
func TestMalformed(t *testing.T) {
	frame := func(typ byte, body string) []byte { return AppendFrame(nil, typ, []byte(body)) }
	for name, ok := range map[string]bool{
		"Query without end":          second(QueryText(frame('Q', "select 1"))),
		"Query with more":            second(QueryText(frame('Q', "select 1\x00x\x00"))),
		"empty Query":                second(QueryText(frame('Q', ""))),
		"Parse without text":         fourth(ParseParts(frame('P', "name\x00"))),
		"Parse without types":        fourth(ParseParts(frame('P', "\x00q\x00"))),
		"Parse with too few types":   fourth(ParseParts(frame('P', "\x00q\x00\x00\x02\x00\x00\x00\x01"))),
		"Parse with too many types":  fourth(ParseParts(frame('P', "\x00q\x00\x00\x00\x00\x00\x00\x01"))),
		"Bind without statement":     fourth(BindParts(frame('B', "p\x00s"))),
		"Describe of nothing":        third(TargetParts(frame('D', ""))),
		"Describe of another kind":   third(TargetParts(frame('D', "Xs\x00"))),
		"Describe without end":       third(TargetParts(frame('D', "Ss"))),
		"Execute without row limit":  thirdLimit(ExecuteParts(frame('E', "p\x00"))),
		"Execute with too much":      thirdLimit(ExecuteParts(frame('E', "p\x00\x00\x00\x00\x00\x00"))),
		"ParameterStatus half":       third2(ParameterParts(frame('S', "name\x00value"))),
		"ErrorResponse without end":  ErrorField(frame('E', "Mtext"), 'M') != nil,
		"ErrorResponse of a NUL":     ErrorField(frame('E', "\x00"), 'M') != nil,
		"ErrorResponse with nothing": ErrorField(frame('E', ""), 'M') != nil,
	} {
		if ok {
			t.Errorf("%s was taken", name)
		}
	}
}

func second(_ []byte, ok bool) bool               { return ok }
func third(_ byte, _ []byte, ok bool) bool        { return ok }
func third2(_, _ []byte, ok bool) bool            { return ok }
func thirdLimit(_ []byte, _ uint32, ok bool) bool { return ok }
func fourth(_, _, _ []byte, ok bool) bool         { return ok }

// FuzzParts: no bytes make a parser panic, and what it takes apart can be put together again.
func FuzzParts(f *testing.F) {
	f.Add([]byte("select 1\x00"))
	f.Add([]byte("s\x00select $1\x00\x00\x01\x00\x00\x00\x17"))
	f.Add([]byte("p\x00s\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("Sname\x00"))
	f.Add([]byte("SERROR\x00C42601\x00Mtext\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		frame := AppendFrame(nil, 'x', body)
		same := func(what string, again []byte) {
			again[0] = 'x'
			if !bytes.Equal(frame, again) {
				t.Errorf("%s of %q is %q when put together", what, frame, again)
			}
		}
		if text, ok := QueryText(frame); ok {
			same("Query", AppendQuery(nil, string(text)))
		}
		if name, text, types, ok := ParseParts(frame); ok {
			same("Parse", AppendParse(nil, string(name), string(text), types))
		}
		if portal, statement, rest, ok := BindParts(frame); ok && rest != nil {
			same("Bind", AppendBind(nil, portal, string(statement), rest))
		}
		if kind, name, ok := TargetParts(frame); ok {
			same("Describe", AppendTarget(nil, 'D', kind, string(name)))
		}
		if portal, limit, ok := ExecuteParts(frame); ok {
			again := AppendExecute(nil, string(portal))
			binary.BigEndian.PutUint32(again[len(again)-4:], limit)
			same("Execute", again)
		}
		ParameterParts(frame)
		for field := range 256 {
			ErrorField(frame, byte(field))
		}
	})
}

// FuzzConn: whatever arrives in whatever pieces, a Conn gives back the same bytes
// cut into frames, or an error, and never waits for what is there.
func FuzzConn(f *testing.F) {
	f.Add(append(AppendSync(nil), AppendQuery(nil, "select 1")...), uint16(3))
	f.Add([]byte("Q\x00\x00\x00\x00"), uint16(1))
	f.Add([]byte("Q\x3f\xff\xff\xffabc"), uint16(2))
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		ours, peer := net.Pipe()
		defer ours.Close()
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			_ = pieces(peer, data, int(piece)+1)
			_ = peer.Close()
		}()
		c := NewConn(ours, SmallBuffer)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		rest := data
		for {
			_, size, err := c.Header()
			if err != nil {
				if len(rest) >= HeaderSize && err != ErrFrameLength {
					t.Errorf("%v before %q", err, rest)
				}
				break
			}
			frame, err := c.Frame(size)
			if err != nil {
				if len(rest) >= size {
					t.Errorf("%v within %q", err, rest)
				}
				break
			}
			if !bytes.Equal(frame, rest[:size]) {
				t.Fatalf("got %q, want %q", frame, rest[:size])
			}
			c.Discard(size)
			rest = rest[size:]
		}
		c.Free()
		_ = c.Close()
		<-wrote
	})
}

func BenchmarkPeekHeader(b *testing.B) {
	frame := AppendQuery(nil, "select 1")
	for b.Loop() {
		if _, size, err := PeekHeader(frame); err != nil || size != len(frame) {
			b.Fatal(err)
		}
	}
}
