// Package backend is one server connection: logging in, making it carry a
// session's settings, knowing the prepared statements it holds, canceling what it
// runs. It does not know who uses it: package pool shares backends among clients, and
// package proxy relays frames over one.
package backend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
)

// Backend is one logged-in server connection. It belongs to one goroutine at a
// time, except for BeginCancel. After any error it must be closed: its
// state is in doubt.
type Backend struct {
	Conn    *wire.Conn
	Created time.Time
	// Used is when it was last given back, Era the pool's when it was made: the pool's own notes.
	Used time.Time
	Era  uint64

	login    *Login
	settings session.Settings
	touched  session.Names
	sure     session.Names // of touched, those that certainly were
	held     *prepared.Held

	cancels  canceling
	notified []byte // NotificationResponse frames that came during round trips
}

// New makes a Backend of a fresh login that keeps at most maxStatements prepared statements.
func New(l *Login, maxStatements int) *Backend {
	now := time.Now()
	return &Backend{
		Conn:    wire.NewConn(l.Conn, wire.LargeBuffer),
		Created: now,
		Used:    now,
		login:   l,
		held:    prepared.NewHeld(maxStatements),
	}
}

// Parameter is what the server last reported of a setting (ParameterStatus).
func (b *Backend) Parameter(name string) string { return b.login.Parameters[name] }

// Parameters are all reported settings; the map is the backend's own.
func (b *Backend) Parameters() map[string]string { return b.login.Parameters }

// Held are the prepared statements b holds. They belong to who has b.
func (b *Backend) Held() *prepared.Held { return b.held }

// SetParameter notes a ParameterStatus the relay saw.
func (b *Backend) SetParameter(name, value string) { b.login.Parameters[name] = value }

// PID is the server process's number.
func (b *Backend) PID() uint32 { return b.login.PID }

// Settings are those b carries, Touched the custom names ever set on it.
func (b *Backend) Settings() session.Settings { return b.settings }

// Touched are the custom settings that no longer read NULL on b.
func (b *Backend) Touched() session.Names { return b.touched }

// Touch notes custom names that a statement about to run may set.
func (b *Backend) Touch(names session.Names) { b.touched = b.touched.Union(names) }

// Surely notes custom names that certainly were touched: they read ” on b if not set.
func (b *Backend) Surely(names session.Names) {
	b.touched, b.sure = b.touched.Union(names), b.sure.Union(names)
}

// Learn notes which of the names b was asked for it turned out to have touched.
func (b *Backend) Learn(asked, touched session.Names) {
	b.touched = b.touched.Without(asked).Union(touched)
	b.sure = b.sure.Union(touched)
}

// Note says which settings b carries now, a statement of its user having changed them.
func (b *Backend) Note(s session.Settings) { b.settings = s }

// Changes is what Adopt would change: settings that differ, and touched names
// that b has not touched, which must read ” rather than NULL.
func (b *Backend) Changes(want session.Settings, touched session.Names) []session.Change {
	if b.settings == want && touched.Within(b.sure) {
		return nil
	}
	changes := b.settings.Diff(want)
	for _, name := range b.sure.Missing(touched) {
		if _, ok := want.Value(name); !ok {
			changes = append(changes, session.Change{Name: name, Reset: true})
		}
	}
	return changes
}

// ForgetSettings says that a statement returned b to the server's defaults.
func (b *Backend) ForgetSettings() { b.settings = session.Settings{} }

// Alive looks, without waiting, whether an idle backend still is what it was:
// nothing to read, nothing closed.
func (b *Backend) Alive() bool { return b.Conn.Quiet() }

// Close closes the connection, telling the server first. It is safe to call more than once.
func (b *Backend) Close() {
	_ = b.Conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = b.Conn.Write([]byte{wire.Terminate, 0, 0, 0, 4})
	_ = b.Conn.Close()
	b.Conn.Free()
}

// ServerError is an ErrorResponse as the server sent it.
type ServerError struct{ Frame []byte }

func (e *ServerError) Error() string {
	return fmt.Sprintf("%s (SQLSTATE %s)", wire.ErrorField(e.Frame, 'M'), wire.ErrorField(e.Frame, 'C'))
}

// Code is the SQLSTATE.
func (e *ServerError) Code() string { return string(wire.ErrorField(e.Frame, 'C')) }

// Notified are the notifications that came during round trips since it was last
// asked, as the server sent them.
func (b *Backend) Notified() []byte {
	frames := b.notified
	b.notified = nil
	return frames
}

// RoundTrip sends frames that end in one Sync or are one Query, and reads until
// ReadyForQuery, whose transaction status it returns. The server's first error is
// returned as a *ServerError, after which b is usable if the server did not close the
// connection; any other error is of the connection.
func (b *Backend) RoundTrip(ctx context.Context, frames []byte) (status byte, err error) {
	return b.roundTrip(ctx, frames, nil)
}

// Ask is RoundTrip that shows every frame of the answer, valid only during the call.
func (b *Backend) Ask(ctx context.Context, frames []byte, see func(frame []byte)) (status byte, err error) {
	return b.roundTrip(ctx, frames, see)
}

// Query runs one simple query and hands every row over, values in text format
// (nil is NULL), valid only during the call. Errors are as those of RoundTrip, or row's.
func (b *Backend) Query(ctx context.Context, sql string, row func(values [][]byte) error) error {
	return b.rows(ctx, wire.AppendQuery(nil, sql), row)
}

// QueryParam is Query of one statement with one text parameter.
func (b *Backend) QueryParam(ctx context.Context, sql, param string, row func(values [][]byte) error) error {
	values := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(param)))
	values = append(append(values, param...), 0, 0)
	frames := wire.AppendParse(nil, "", sql, nil)
	frames = wire.AppendBind(frames, nil, "", values)
	frames = wire.AppendExecute(frames, "")
	return b.rows(ctx, wire.AppendSync(frames), row)
}

func (b *Backend) rows(ctx context.Context, frames []byte, row func(values [][]byte) error) error {
	var values [][]byte
	var failed error
	_, err := b.roundTrip(ctx, frames, func(frame []byte) {
		if failed != nil || frame[0] != wire.DataRow {
			return
		}
		var data pgproto3.DataRow
		if failed = data.Decode(frame[wire.HeaderSize:]); failed == nil {
			values = append(values[:0], data.Values...)
			failed = row(values)
		}
	})
	return errors.Join(err, failed)
}

func (b *Backend) roundTrip(ctx context.Context, frames []byte, see func(frame []byte)) (status byte, err error) {
	// The connection is useless once ctx has ended: its reads and writes fail.
	if len(frames) > 0 && frames[0] != wire.Sync {
		b.held.Unnamed = 0 // a simple query ends it, a Parse replaces it
	}
	stop := context.AfterFunc(ctx, func() { _ = b.Conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			err = errors.Join(ctx.Err(), err)
		}
	}()
	if err := b.Conn.Exchange(frames); err != nil {
		return 0, fmt.Errorf("server %s: %w", b.login.Address, err)
	}
	var refused error
	for {
		typ, size, err := b.Conn.Header()
		var frame []byte
		if err == nil {
			frame, err = b.Conn.Frame(size)
		}
		if err != nil {
			return 0, fmt.Errorf("server %s: %w", b.login.Address, errors.Join(refused, err))
		}
		switch typ {
		case wire.ErrorResponse:
			if refused == nil {
				refused = &ServerError{append([]byte(nil), frame...)}
			}
		case wire.ParameterStatus:
			if n, v, ok := wire.ParameterParts(frame); ok {
				b.SetParameter(string(n), string(v))
			}
		case wire.NotificationResponse:
			b.notified = append(b.notified, frame...)
		case wire.ReadyForQuery:
			status = frame[wire.HeaderSize]
			b.Conn.Discard(size)
			return status, refused
		}
		if see != nil {
			see(frame)
		}
		b.Conn.Discard(size)
	}
}

// canceling counts cancel requests on their way to a backend, so that none can
// hit a later statement.
type canceling struct {
	sent atomic.Bool // a request was announced since the last CancelDone

	mu     sync.Mutex // protects the fields below
	n      int
	done   chan struct{} // closed when n returns to 0
	failed error         // of a request that may still arrive some time
}

// BeginCancel announces a cancel request while b is in use, and returns what sends
// it: on a connection of its own, returning once the server has sent the signal.
// It may be called from any goroutine, but not after b was given back: the caller
// sees to that.
func (b *Backend) BeginCancel() (send func(ctx context.Context) error) {
	c := &b.cancels
	c.mu.Lock()
	if c.n++; c.n == 1 {
		c.done = make(chan struct{})
	}
	c.sent.Store(true)
	c.mu.Unlock()
	return func(ctx context.Context) error {
		err := b.login.Cancel(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			c.failed = err
		}
		if c.n--; c.n == 0 {
			close(c.done)
		}
		return err
	}
}

// Canceled reports whether a cancel request was sent since the last CancelDone.
func (b *Backend) Canceled() bool { return b.cancels.sent.Load() }

// CancelDone waits until no cancel request is on its way and the server has
// dealt with the last one. Between statements only. It fails, and b must be closed,
// if a request was sent that nobody knows the fate of.
func (b *Backend) CancelDone(ctx context.Context) error {
	c := &b.cancels
	for {
		c.mu.Lock()
		if !c.sent.Load() {
			c.mu.Unlock()
			return nil
		}
		if c.failed != nil {
			c.mu.Unlock()
			return c.failed
		}
		if c.n == 0 {
			c.sent.Store(false)
			c.mu.Unlock()
			break
		}
		done := c.done
		c.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// The signal was sent before the server closed the request's connection; a
	// round trip makes its process take it now, while no statement runs.
	_, err := b.RoundTrip(ctx, wire.AppendSync(nil))
	var refused *ServerError
	if errors.As(err, &refused) && !errors.Is(err, io.EOF) && refused.Code() == "57014" {
		return nil
	}
	return err
}
