package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// frame is a message of a server.
type frame struct {
	typ  byte
	body string
}

// talk is a client's side of a session, over one connection. It is used by one goroutine.
type talk struct {
	conn     net.Conn
	buf      []byte
	pid      uint32
	key      []byte
	reported map[string]string // settings, as last told
	heard    []frame           // notifications
}

// refused is an error that ended a login, or a session.
type refused struct{ code, message string }

func (r *refused) Error() string { return r.code + ": " + r.message }

// errHung is that no answer came within a time in which everything must have ended.
var errHung = errors.New("no answer within the time any may take")

// errTorn is that a connection ended within a message: a server was lost that had sent a part.
var errTorn = errors.New("it ends within a message")

// patience is how long any answer may take, in virtual time: more than all timeouts of
// the proxy together.
const patience = 3 * time.Minute

// logIn begins a session.
func logIn(conn net.Conn, params map[string]string) (*talk, error) {
	k := &talk{conn: conn, reported: map[string]string{}}
	var proof prover
	out, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: params}).Encode(nil)
	if err == nil {
		_, err = k.conn.Write(out)
	}
	for err == nil {
		var f frame
		if f, err = k.next(); err != nil {
			break
		}
		switch f.typ {
		case 'R':
			err = proof.answer(k, f)
		case 'K':
			k.pid, k.key = binary.BigEndian.Uint32([]byte(f.body)), []byte(f.body[4:])
		case 'E':
			return nil, fatal(f)
		case 'Z':
			return k, nil
		}
	}
	return nil, err
}

// next reads one message. ParameterStatus and notifications are kept, and shown too.
func (k *talk) next() (frame, error) {
	for {
		if len(k.buf) >= 5 {
			size := int(binary.BigEndian.Uint32([]byte(k.buf[1:5]))) + 1
			if size < 5 || size > 1<<24 {
				return frame{}, fmt.Errorf("a message of %d bytes: %q", size, k.buf)
			}
			if len(k.buf) >= size {
				f := frame{k.buf[0], string(k.buf[5:size])}
				k.buf = k.buf[size:]
				k.note(f)
				return f, nil
			}
		}
		var b [4096]byte
		_ = k.conn.SetReadDeadline(time.Now().Add(patience))
		n, err := k.conn.Read(b[:])
		k.buf = append(k.buf, b[:n]...)
		if n > 0 {
			continue
		}
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return frame{}, errHung
		case err == io.EOF && len(k.buf) > 0:
			return frame{}, fmt.Errorf("%w: %q", errTorn, k.buf)
		}
		return frame{}, err
	}
}

func (k *talk) note(f frame) {
	switch f.typ {
	case 'S':
		if name, rest, ok := strings.Cut(f.body, "\x00"); ok {
			k.reported[name] = strings.TrimSuffix(rest, "\x00")
		}
	case 'A':
		k.heard = append(k.heard, f)
	}
}

// send writes a step's messages.
func (k *talk) send(out []byte) error {
	_ = k.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := k.conn.Write(out)
	if err != nil && errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // what the server said before it broke is there to be read
}

// exchange sends a step and reads its answer. What stands behind a Flush is sent once the
// answers to what stands before it are there. An error is of the connection.
func (k *talk) exchange(s *Step, marker string) (out []frame, err error) {
	failed := false
	for _, part := range s.encode(marker) {
		if err := k.send(part.bytes); err != nil {
			return out, err
		}
		if part.flush && failed {
			continue // nothing is answered up to the Sync
		}
		part.copy = s.copyData(marker)
		answer, err := k.answer(part)
		out, failed = append(out, answer...), failed || part.failed
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// answer reads until as many messages ended an exchange as the step has, and returns what
// belongs to the answer. An error is of the connection.
func (k *talk) answer(w *part) (out []frame, err error) {
	for !w.over() {
		f, err := k.next()
		if err != nil {
			return out, err
		}
		w.take(f)
		if f.typ == 'G' {
			if err := k.send(w.copy); err != nil {
				return out, err
			}
		}
		if f.typ != 'S' && f.typ != 'A' {
			out = append(out, f)
		}
	}
	return out, nil
}

// part is what a client sends at once, and what it waits for: a ReadyForQuery or, where it
// ends with a Flush, the outcome of each message.
type part struct {
	bytes  []byte
	copy   []byte // what is sent when the server asks for it
	flush  bool
	sets   []string // of types, one of which ends the outcome of a message
	ready  bool
	failed bool
}

func (w *part) take(f frame) {
	if f.typ == 'Z' {
		w.ready = true
	}
	if f.typ == 'E' {
		w.failed = true
	}
	if len(w.sets) > 0 && strings.IndexByte(w.sets[0], f.typ) >= 0 {
		w.sets = w.sets[1:]
	}
}

func (w *part) over() bool {
	if w.flush {
		return w.failed || len(w.sets) == 0
	}
	return w.ready
}

// encode returns the messages of a step, part by part.
func (s *Step) encode(marker string) (parts []*part) {
	if s.Calls == nil {
		out, _ := (&pgproto3.Query{String: mark(s.Simple, marker)}).Encode(nil)
		return []*part{{bytes: out}}
	}
	w := &part{}
	add := func(set string, m pgproto3.FrontendMessage) {
		w.bytes, _ = m.Encode(w.bytes)
		w.sets = append(w.sets, set)
	}
	end := func(m pgproto3.FrontendMessage) {
		w.bytes, _ = m.Encode(w.bytes)
		parts, w = append(parts, w), &part{}
	}
	flush := func() {
		w.flush = true
		end(&pgproto3.Flush{})
	}
	for i := range s.Calls {
		c := &s.Calls[i]
		if c.encode(marker, add, flush); c.Flush {
			flush()
		}
	}
	end(&pgproto3.Sync{})
	return parts
}

// encode adds the messages of a call, each with the types of which one ends its outcome.
func (c *Call) encode(marker string, add func(set string, m pgproto3.FrontendMessage), flush func()) {
	switch {
	case c.Close:
		add("3", &pgproto3.Close{ObjectType: 'S', Name: c.Name})
		return
	case c.Again:
		add("CsI", &pgproto3.Execute{MaxRows: c.Rows})
		return
	}
	if c.Parse != "" {
		add("1", &pgproto3.Parse{Name: c.Name, Query: mark(c.Parse, marker)})
	}
	if c.Only {
		add("Tn", &pgproto3.Describe{ObjectType: 'S', Name: c.Name})
		return
	}
	var args [][]byte
	for _, a := range c.Args {
		if a == null {
			args = append(args, nil)
		} else {
			args = append(args, []byte(mark(a, marker)))
		}
	}
	add("2", &pgproto3.Bind{PreparedStatement: c.Name, Parameters: args})
	if !c.Bare {
		add("Tn", &pgproto3.Describe{ObjectType: 'P'})
	}
	if c.Apart {
		flush()
	}
	add("CsI", &pgproto3.Execute{MaxRows: c.Rows})
}

// copyData are the messages that a server is given that asks for data.
func (s *Step) copyData(marker string) (out []byte) {
	if s.Copy == copyFails {
		out, _ = (&pgproto3.CopyFail{Message: "no more"}).Encode(nil)
		return out
	}
	if s.Copy != "" {
		out, _ = (&pgproto3.CopyData{Data: []byte(mark(s.Copy, marker))}).Encode(nil)
	}
	out, _ = (&pgproto3.CopyDone{}).Encode(out)
	return out
}

// null as an argument is NULL.
const null = "\x00"

// cancel sends a cancel request for the session and waits until the server closes.
func (k *talk) cancel(dial func(ctx context.Context, network, addr string) (net.Conn, error), addr string) {
	ctx, end := context.WithTimeout(context.Background(), patience)
	defer end()
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	out, _ := (&pgproto3.CancelRequest{ProcessID: k.pid, SecretKey: k.key}).Encode(nil)
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(out); err == nil {
		_, _ = conn.Read(make([]byte, 1))
	}
}

// leave says goodbye.
func (k *talk) leave() {
	out, _ := (&pgproto3.Terminate{}).Encode(nil)
	_ = k.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = k.conn.Write(out)
	_ = k.conn.Close()
}

// field returns a field of an ErrorResponse or NoticeResponse.
func (f frame) field(of byte) string {
	for rest := f.body; len(rest) > 1; {
		end := strings.IndexByte(rest, 0)
		if end < 0 {
			break
		}
		if rest[0] == of {
			return rest[1:end]
		}
		rest = rest[end+1:]
	}
	return ""
}

func fatal(f frame) *refused { return &refused{f.field('C'), f.field('M')} }

// String writes a message so that it can be read and compared: without what differs
// from server to server.
func (f frame) String() string {
	switch f.typ {
	case 'E', 'N':
		return fmt.Sprintf("%s %s: %s", f.field('S'), f.field('C'), f.field('M'))
	case 'C':
		return strings.TrimSuffix(f.body, "\x00")
	case 'Z':
		return "(" + f.body + ")"
	case 'D':
		return "row " + strings.Join(f.values(), ", ")
	case 'T':
		return "columns " + strings.Join(f.columns(), ", ")
	case '1', '2', '3', 'n', 's', 'I':
		return map[byte]string{'1': "parsed", '2': "bound", '3': "closed", 'n': "no columns", 's': "suspended", 'I': "empty"}[f.typ]
	}
	return fmt.Sprintf("%c %q", f.typ, f.body)
}

// values are those of a DataRow.
func (f frame) values() (out []string) {
	var m pgproto3.DataRow
	if err := m.Decode([]byte(f.body)); err != nil {
		return []string{err.Error()}
	}
	for _, v := range m.Values {
		if v == nil {
			out = append(out, "NULL")
		} else {
			out = append(out, string(v))
		}
	}
	return out
}

func (f frame) columns() (out []string) {
	var m pgproto3.RowDescription
	if err := m.Decode([]byte(f.body)); err != nil {
		return []string{err.Error()}
	}
	for _, c := range m.Fields {
		out = append(out, fmt.Sprintf("%s %d", c.Name, c.DataTypeOID))
	}
	return out
}

// text writes an answer.
func text(of []frame) string {
	var b strings.Builder
	for i, f := range of {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.String())
	}
	return b.String()
}
