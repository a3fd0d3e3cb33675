// Package backend is one server connection: logging in, making it carry a session's
// settings, knowing the prepared statements it holds, canceling what it runs, and knowing
// where its conversation with the server stands. It does not know who uses it: package
// pool shares backends among sessions, and package proxy relays frames over one.
package backend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
)

// Backend is one logged-in server connection. It belongs to one goroutine at a time,
// except for BeginCancel. After an error of the connection itself (a read, a write, a
// context that ended) it must be closed. After a *ServerError it is usable: the server
// refused a statement and then said that it is ready.
type Backend struct {
	Conn *wire.Conn
	Sequences
	Predecessors
	Plans

	login    *Login
	origin   Origin
	talk     conversation
	pooled   Pooled
	verified time.Time // see Verified

	user  string           // as whom its session began
	began setting.Settings // see Began

	// What the session left on it.
	settings  setting.Settings
	unsettled bool          // settings are not known
	mayDefine setting.Names // custom settings that may be defined: see MayDefine
	defined   setting.Names // of these, those that certainly are
	held      *prepared.Held
	trail     trail
	notified  []byte // NotificationResponse frames that came during round trips

	cancels canceling
	closed  func() // called once it is closed; nil is nothing
}

// OnClose has something done when b is closed.
func OnClose(b *Backend, do func()) { b.closed = sync.OnceFunc(do) }

// Pooled holds the notes of the pool that owns a Backend.
type Pooled struct {
	Generation uint64    // the pool's when the connection was made
	Released   time.Time // when a session last gave it back, or when it was made
	Aside      bool      // it was idle and is taken to be asked something, which is no use of it
	Jitter     float64   // of its lifetime, from 0 to 1
}

// New makes a Backend of a fresh login that keeps at most maxStatements prepared statements.
func New(l *Login, maxStatements int) *Backend {
	now := time.Now()
	return &Backend{
		Conn:     wire.NewConn(l.Conn, wire.LargeBuffer),
		origin:   Origin{Created: now},
		talk:     conversation{status: wire.TxIdle},
		pooled:   Pooled{Released: now},
		verified: now,
		login:    l,
		user:     l.Parameters[setting.Authorization],
		held:     prepared.NewHeld(maxStatements),
	}
}

// Origin is where a connection comes from.
type Origin struct {
	Created time.Time // when it logged in
	Started string    // when its server was started, by which others at the same address are told from it; empty if it was not asked
	// Libraries are settings that its session has by default and that libraries define: they are as built-in ones.
	Libraries setting.Names
}

// Origin returns where b comes from.
func (b *Backend) Origin() Origin { return b.origin }

// Verified returns when Verify last had an answer, or when b was made.
func (b *Backend) Verified() time.Time { return b.verified }

// Pooled returns the pool's notes, which only the pool writes.
func (b *Backend) Pooled() *Pooled { return &b.pooled }

// Parameter returns what the server last reported of a setting (ParameterStatus).
func (b *Backend) Parameter(name string) string { return b.login.Parameters[name] }

// Parameters returns all reported settings; the map is b's own.
func (b *Backend) Parameters() map[string]string { return b.login.Parameters }

// Held are the prepared statements b holds. They belong to who has b.
func (b *Backend) Held() *prepared.Held { return b.held }

// SetParameter notes a ParameterStatus the relay saw.
func (b *Backend) SetParameter(name, value string) { b.login.Parameters[name] = value }

// PID returns the server process's number.
func (b *Backend) PID() uint32 { return b.login.PID }

// Settings returns those b carries.
func (b *Backend) Settings() setting.Settings { return b.settings }

// NoteSettings notes the settings b carries now, a statement of its user having changed
// them. From then on they are known.
func (b *Backend) NoteSettings(s setting.Settings) { b.settings, b.unsettled = s, false }

// SettingsUnknown notes that nobody knows what b carries, until NoteSettings, Adopt or Reset.
func (b *Backend) SettingsUnknown() { b.unsettled = true }

// MayDefine returns the custom settings that may be defined on b. PostgreSQL keeps a
// custom setting that was set once as a placeholder for as long as the connection lives:
// where it is not set it reads as empty then, not as NULL.
func (b *Backend) MayDefine() setting.Names { return b.mayDefine }

// NoteMayDefine notes custom settings that a statement about to run may define.
func (b *Backend) NoteMayDefine(names setting.Names) { b.mayDefine = b.mayDefine.Union(names) }

// NoteDefined notes custom settings that certainly are defined.
func (b *Backend) NoteDefined(names setting.Names) {
	b.mayDefine, b.defined = b.mayDefine.Union(names), b.defined.Union(names)
}

// NoteAsked notes which of the names b was asked for turned out to be defined.
func (b *Backend) NoteAsked(asked, defined setting.Names) {
	b.mayDefine = b.mayDefine.Without(asked).Union(defined)
	b.defined = b.defined.Union(defined)
}

// Changes returns what Adopt would change: settings that differ, and names to be defined
// that are not certainly so on b, which must read as empty rather than NULL.
func (b *Backend) Changes(want setting.Settings, defined setting.Names) []setting.Change {
	if b.settings == want && defined.Within(b.defined) {
		return nil
	}
	changes := b.settings.Diff(want)
	for _, name := range b.defined.Missing(defined) {
		if _, ok := want.Value(name); !ok {
			changes = append(changes, setting.Change{Name: name, Reset: true})
		}
	}
	return b.StandIns(changes)
}

// Alive reports, without waiting, whether the server has neither closed an idle
// connection nor sent anything over it.
func (b *Backend) Alive() bool { return b.Conn.Quiet() }

// Close closes the connection, telling the server first. It is safe to call more than once.
func (b *Backend) Close() {
	_ = b.Conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = b.Conn.Write([]byte{wire.Terminate, 0, 0, 0, 4})
	_ = b.Conn.Close()
	b.Conn.Free()
	if b.closed != nil {
		b.closed()
	}
}

// Leave ends the session of b, which is at rest, and waits until its server process is gone, so
// that another one may take its slot, but not for longer than within. Close must follow.
// A server closes its side when its process ends.
func Leave(b *Backend, within time.Duration) {
	_ = b.Conn.SetDeadline(time.Now().Add(within))
	if _, err := b.Conn.Write([]byte{wire.Terminate, 0, 0, 0, 4}); err != nil {
		return
	}
	for {
		if err := b.Conn.Fill(); err != nil {
			return
		}
		b.Conn.Discard(len(b.Conn.Buffered()))
	}
}

// ServerError is an ErrorResponse as the server sent it. The connection is usable after it.
type ServerError struct{ Frame []byte }

func (e *ServerError) Error() string {
	return fmt.Sprintf("%s (SQLSTATE %s)", wire.ErrorField(e.Frame, 'M'), wire.ErrorField(e.Frame, 'C'))
}

// Code returns the SQLSTATE.
func (e *ServerError) Code() string { return string(wire.ErrorField(e.Frame, 'C')) }

// Notified returns the notifications that came during round trips since its last call,
// as the server sent them.
func (b *Backend) Notified() []byte {
	frames := b.notified
	b.notified = nil
	return frames
}

// RoundTrip sends frames that end in one Sync or are one Query, and reads until
// ReadyForQuery, whose transaction status it returns. The server's first error is
// returned as a *ServerError, after which b is usable; where the server closed the
// connection because of it, the error holds both, and b must be closed.
func (b *Backend) RoundTrip(ctx context.Context, frames []byte) (status byte, err error) {
	return b.Ask(ctx, frames, nil)
}

// Query runs one simple query and hands every row over, values in text format
// (nil is NULL), valid only during the call. Errors are as those of RoundTrip, or row's.
func (b *Backend) Query(ctx context.Context, sql string, row func(values [][]byte) error) error {
	return b.rows(ctx, wire.AppendQuery(nil, sql), row)
}

// QueryParam does what Query does, for one statement with one text parameter.
func (b *Backend) QueryParam(ctx context.Context, sql, param string, row func(values [][]byte) error) error {
	return b.rows(ctx, wire.AppendSync(appendParam(nil, sql, param)), row)
}

// QueryApart does what b.QueryParam does in a transaction block of its own, whatever
// default_transaction_isolation is (see AnyDefault). None may be open.
func QueryApart(ctx context.Context, b *Backend, sql, param string, row func(values [][]byte) error) error {
	frames := appendParam(appendStatement(nil, "BEGIN ISOLATION LEVEL READ COMMITTED"), sql, param)
	err := b.rows(ctx, wire.AppendSync(appendStatement(frames, "COMMIT")), row)
	if err == nil {
		return nil
	}
	_, _ = b.RoundTrip(ctx, wire.AppendQuery(nil, "ROLLBACK")) // if that fails too, nobody uses it again
	return err
}

// appendStatement adds an execution of one statement without parameters.
func appendStatement(to []byte, sql string) []byte {
	to = wire.AppendBind(wire.AppendParse(to, "", sql, nil), nil, "", []byte{0, 0, 0, 0, 0, 0})
	return wire.AppendExecute(to, "")
}

// appendParam adds one of a statement with one text parameter.
func appendParam(to []byte, sql, param string) []byte {
	values := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(param)))
	to = wire.AppendBind(wire.AppendParse(to, "", sql, nil), nil, "", append(append(values, param...), 0, 0))
	return wire.AppendExecute(to, "")
}

func (b *Backend) rows(ctx context.Context, frames []byte, row func(values [][]byte) error) error {
	var few [8][]byte // most questions have no more columns
	data := pgproto3.DataRow{Values: few[:0]}
	var failed error
	_, err := b.Ask(ctx, frames, func(frame []byte) {
		if failed != nil || frame[0] != wire.DataRow {
			return
		}
		if failed = data.Decode(frame[wire.HeaderSize:]); failed == nil {
			failed = row(data.Values)
		}
	})
	return errors.Join(err, failed)
}

// noteAsync notes a frame that servers may send at any time.
func (b *Backend) noteAsync(typ byte, frame []byte) {
	switch typ {
	case wire.ParameterStatus:
		if n, v, ok := wire.ParameterParts(frame); ok {
			b.SetParameter(string(n), string(v))
		}
	case wire.NotificationResponse:
		b.notified = append(b.notified, frame...)
	}
}

// readySize is a ReadyForQuery with its header.
const readySize = wire.HeaderSize + 1

// Ask does what RoundTrip does, and shows every frame of the answer, valid only during the call.
func (b *Backend) Ask(ctx context.Context, frames []byte, see func(frame []byte)) (status byte, err error) {
	if len(frames) > 0 && frames[0] != wire.Sync {
		b.held.Unnamed = 0 // a simple query ends it, a Parse replaces it
	}
	b.Sent(1)
	// The connection is useless once ctx has ended: its reads and writes fail.
	stop := context.AfterFunc(ctx, func() { _ = b.Conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			err = errors.Join(ctx.Err(), err)
		}
	}()
	if err := b.Conn.Exchange(frames); err != nil {
		return 0, fmt.Errorf("server %s: %w", b.login.Address, err)
	}
	status, refused, err := b.answer(see)
	return status, errors.Join(refused, err)
}

// Drain reads to the next ReadyForQuery of what was sent. What the server reports meanwhile is
// noted, and what it refuses is no error. Concurrent use is not safe.
func (b *Backend) Drain() error {
	_, _, err := b.answer(nil)
	return err
}

// answer reads to ReadyForQuery. refused is the server's first error.
func (b *Backend) answer(see func(frame []byte)) (status byte, refused, err error) {
	for {
		typ, size, err := b.Conn.Header()
		var frame []byte
		if err == nil {
			frame, err = b.Conn.Frame(size)
		}
		if err != nil {
			return 0, refused, fmt.Errorf("server %s: %w", b.login.Address, err)
		}
		switch {
		case typ == wire.ErrorResponse && refused == nil:
			refused = &ServerError{append([]byte(nil), frame...)}
		case typ == wire.ReadyForQuery && size != readySize:
			return 0, refused, fmt.Errorf("server %s: ReadyForQuery of %d bytes", b.login.Address, size)
		case typ == wire.ReadyForQuery:
			status = frame[wire.HeaderSize]
			b.Ready(status)
			b.Conn.Discard(size)
			return status, refused, nil
		}
		b.noteAsync(typ, frame)
		if see != nil {
			see(frame)
		}
		b.Conn.Discard(size)
	}
}
