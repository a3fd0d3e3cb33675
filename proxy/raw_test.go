package proxy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// answerPatience bounds the wait for one answer.
const answerPatience = 5 * time.Second

// rawConn is a client that speaks the protocol itself. What the server says is
// read at once, by a goroutine that ends when the connection does, and noted as
// one line a message; see describe.
type rawConn struct {
	t       testing.TB
	conn    net.Conn
	reading sync.WaitGroup
	startup []string // lines until the first ReadyForQuery

	mu      sync.Mutex // protects the fields below
	changed *sync.Cond
	lines   []string
	pid     uint32   // of BackendKeyData
	key     []byte   // all of it
	pids    []uint32 // of notifications
	ended   error
	seen    int // lines that were waited for
}

// raw logs in to a server or a proxy at addr (host:port) and returns when it is ready.
// params are further startup parameters, names and values in turn.
func raw(t testing.TB, addr, database string, params ...string) *rawConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	r := &rawConn{t: t, conn: conn}
	r.changed = sync.NewCond(&r.mu)
	hello := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": pgtest.Superuser, "database": database,
	}}
	for i := 0; i+1 < len(params); i += 2 {
		hello.Parameters[params[i]] = params[i+1]
	}
	r.reading.Go(r.read)
	t.Cleanup(r.close)
	r.send(hello)
	r.startup = r.wait("Z")
	return r
}

// read notes what comes until the connection ends.
func (r *rawConn) read() {
	front := pgproto3.NewFrontend(r.conn, nil)
	for {
		m, err := front.Receive()
		r.mu.Lock()
		if err != nil {
			r.ended = err
		} else {
			r.lines = append(r.lines, describe(m))
		}
		switch m := m.(type) {
		case *pgproto3.BackendKeyData:
			r.pid, r.key = m.ProcessID, append(binary.BigEndian.AppendUint32(nil, m.ProcessID), m.SecretKey...)
		case *pgproto3.NotificationResponse:
			r.pids = append(r.pids, m.PID)
		}
		r.changed.Broadcast()
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send writes messages in one piece.
func (r *rawConn) send(ms ...pgproto3.FrontendMessage) {
	r.t.Helper()
	r.write(encode(r.t, ms...), false)
}

// write writes bytes in one piece or one by one. That the server has closed the
// connection shows when its answers are awaited.
func (r *rawConn) write(b []byte, single bool) {
	r.t.Helper()
	_ = r.conn.SetWriteDeadline(time.Now().Add(patience))
	step := len(b)
	if single {
		step = 1
	}
	for piece := range slices.Chunk(b, max(step, 1)) {
		if _, err := r.conn.Write(piece); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				r.t.Fatalf("write: %v", err)
			}
			return
		}
	}
}

// query runs one simple query and returns its answer.
func (r *rawConn) query(sql string) []string {
	r.t.Helper()
	r.send(&pgproto3.Query{String: sql})
	return r.wait("Z")
}

// wait returns what came since the last wait, once messages of the given types
// came in that order, others between them or not. A type is what a line begins
// with; "end" is the end of the connection.
func (r *rawConn) wait(types ...string) []string {
	r.t.Helper()
	return r.waitFor(answerPatience, types...)
}

// waitLong is wait for what may take long.
func (r *rawConn) waitLong(types ...string) []string {
	r.t.Helper()
	return r.waitFor(patience, types...)
}

func (r *rawConn) waitFor(patience time.Duration, types ...string) []string {
	r.t.Helper()
	timer := time.AfterFunc(patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changed.Broadcast()
	})
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	r.mu.Lock()
	defer r.mu.Unlock()
	at, first := r.seen, r.seen
	for _, typ := range types {
		for {
			if at < len(r.lines) {
				at++
				if word, _, _ := strings.Cut(r.lines[at-1], " "); word == typ {
					break
				}
				continue
			}
			if r.ended != nil {
				if typ != "end" {
					r.t.Errorf("waiting for %v: the connection ended: %v\nafter:\n%s", types, r.ended, tail(r.lines[first:]))
				}
				r.seen = at
				return append(slices.Clone(r.lines[first:at]), "end")
			}
			if !time.Now().Before(deadline) {
				r.t.Fatalf("waiting for %v: nothing more within %v after:\n%s", types, patience, tail(r.lines[first:]))
			}
			r.changed.Wait()
		}
	}
	r.seen = at
	return slices.Clone(r.lines[first:at])
}

// tail is the end of a transcript, for people.
func tail(lines []string) string {
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// close ends the session in an orderly way.
func (r *rawConn) close() {
	r.write(encode(r.t, &pgproto3.Terminate{}), false)
	_ = r.conn.Close()
	r.reading.Wait()
}

func encode(t testing.TB, ms ...pgproto3.FrontendMessage) (b []byte) {
	t.Helper()
	for _, m := range ms {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// describe writes a message as one line that is the same whichever server sent
// it: its type, and what of it does not differ between servers and runs.
func describe(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.DataRow:
		return "D" + values(m.Values)
	case *pgproto3.CommandComplete:
		return "C " + string(m.CommandTag)
	case *pgproto3.ReadyForQuery:
		return "Z " + string(m.TxStatus)
	case *pgproto3.RowDescription:
		return "T" + columns(m)
	case *pgproto3.ErrorResponse:
		return "E" + fields(m)
	case *pgproto3.NoticeResponse:
		return "N" + fields((*pgproto3.ErrorResponse)(m))
	case *pgproto3.ParameterStatus:
		return fmt.Sprintf("S %s=%q", m.Name, m.Value)
	case *pgproto3.ParameterDescription:
		return fmt.Sprintf("t %v", m.ParameterOIDs)
	case *pgproto3.NotificationResponse:
		return fmt.Sprintf("A %s %q", m.Channel, m.Payload)
	case *pgproto3.CopyInResponse:
		return fmt.Sprintf("G %d %v", m.OverallFormat, m.ColumnFormatCodes)
	case *pgproto3.CopyOutResponse:
		return fmt.Sprintf("H %d %v", m.OverallFormat, m.ColumnFormatCodes)
	case *pgproto3.CopyData:
		return fmt.Sprintf("d %s", short(m.Data))
	case *pgproto3.FunctionCallResponse:
		return "V" + values([][]byte{m.Result})
	}
	if line, ok := plain[fmt.Sprintf("%T", m)]; ok {
		return line
	}
	return fmt.Sprintf("%T", m)
}

// plain are the messages that say nothing but their type.
var plain = map[string]string{
	"*pgproto3.ParseComplete":      "1",
	"*pgproto3.BindComplete":       "2",
	"*pgproto3.CloseComplete":      "3",
	"*pgproto3.NoData":             "n",
	"*pgproto3.PortalSuspended":    "s",
	"*pgproto3.EmptyQueryResponse": "I",
	"*pgproto3.CopyDone":           "c",
	"*pgproto3.AuthenticationOk":   "R",
	"*pgproto3.BackendKeyData":     "K",
}

// firstUserOID is where the numbers of objects begin that differ between databases.
const firstUserOID = 16384

func columns(m *pgproto3.RowDescription) string {
	var b strings.Builder
	for _, f := range m.Fields {
		oid := fmt.Sprint(f.DataTypeOID)
		if f.DataTypeOID >= firstUserOID {
			oid = "own"
		}
		fmt.Fprintf(&b, " %s:%s:%d:%d:%d", f.Name, oid, f.DataTypeSize, f.TypeModifier, f.Format)
		if f.TableOID != 0 {
			fmt.Fprintf(&b, ":column%d", f.TableAttributeNumber)
		}
	}
	return b.String()
}

func fields(e *pgproto3.ErrorResponse) string {
	line := fmt.Sprintf(" %s %s %s %q", e.Severity, e.SeverityUnlocalized, e.Code, e.Message)
	add := func(name, v string) {
		if v != "" {
			line += fmt.Sprintf(" %s=%q", name, v)
		}
	}
	add("detail", e.Detail)
	add("hint", e.Hint)
	add("query", e.InternalQuery)
	add("where", e.Where)
	add("schema", e.SchemaName)
	add("table", e.TableName)
	add("column", e.ColumnName)
	add("type", e.DataTypeName)
	add("constraint", e.ConstraintName)
	if e.Position != 0 {
		line += fmt.Sprintf(" position=%d", e.Position)
	}
	if e.InternalPosition != 0 {
		line += fmt.Sprintf(" inner=%d", e.InternalPosition)
	}
	return line
}

func values(vs [][]byte) string {
	var b strings.Builder
	for _, v := range vs {
		if v == nil {
			b.WriteString(" NULL")
		} else {
			b.WriteString(" " + short(v))
		}
	}
	return b.String()
}

// short quotes a value; of a long one only its ends and length.
func short(v []byte) string {
	if len(v) <= 200 {
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprintf("%q…%q(%d)", v[:20], v[len(v)-20:], len(v))
}
