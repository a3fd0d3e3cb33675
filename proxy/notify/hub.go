// Package notify lets many sessions listen (LISTEN, NOTIFY) over one server connection, a
// Hub. A session begins to listen on the connection that it holds, and gives its channels
// to the Hub when it lets go of that; it takes them back when it needs them where it runs.
//
// Each notification must come once, whoever hears it. All servers' connections hear
// notifications in the order of commits, so a notification of the proxy's own, a fence,
// divides what came before it from what comes behind, on both connections alike.
//
// https://www.postgresql.org/docs/current/sql-notify.html
package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
)

// fences is the channel of fences. It is nobody's to listen to.
const fences = "_pgweir_fence"

// ErrLost is that the connection by which sessions listen is lost: what was notified
// meanwhile is not known.
var ErrLost = errors.New("the connection that listens is lost")

// Hub is a server connection that listens for many sessions. Safe for concurrent use.
type Hub struct {
	b        *backend.Backend
	encoding string
	change   chan struct{} // full while channels are listened to or not any more: that takes round trips

	mu       sync.Mutex // protects the fields below, and writing
	awaiting []chan<- error
	channels map[string]map[*Inbox]struct{}
	fences   map[string]*move
	lost     bool
}

// noTimeouts: the role's are not for a connection that waits.
const noTimeouts = `SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
 WHERE name IN ('idle_session_timeout', 'statement_timeout', 'lock_timeout')`

// Start makes a Hub of a connection that is at rest, and that it closes in the end.
func Start(ctx context.Context, b *backend.Backend) (*Hub, error) {
	if _, err := b.RoundTrip(ctx, wire.AppendQuery(nil, backend.AnyDefault+noTimeouts+"; LISTEN "+fences)); err != nil {
		b.Close()
		return nil, err
	}
	h := &Hub{b: b, change: make(chan struct{}, 1), encoding: b.Parameter("client_encoding"), channels: map[string]map[*Inbox]struct{}{}, fences: map[string]*move{}}
	go h.hear()
	return h, nil
}

// Close ends the Hub.
func (h *Hub) Close() { _ = h.b.Conn.Close() }

// Lost reports whether h is of no use any more.
func (h *Hub) Lost() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// serves reports whether notifications may be passed on to a session that has this
// client_encoding as they come.
func (h *Hub) serves(encoding string) bool { return strings.EqualFold(h.encoding, encoding) }

// hear reads what the server says until it says no more.
func (h *Hub) hear() {
	var refused error
	for {
		typ, size, err := h.b.Conn.Header()
		var frame []byte
		if err == nil {
			frame, err = h.b.Conn.Frame(size)
		}
		if err != nil {
			break
		}
		switch typ {
		case wire.NotificationResponse:
			h.heard(frame)
		case wire.ErrorResponse:
			refused = &backend.ServerError{Frame: slices.Clone(frame)}
		case wire.ReadyForQuery:
			h.mu.Lock()
			if len(h.awaiting) > 0 {
				h.awaiting[0] <- refused
				h.awaiting = h.awaiting[1:]
			}
			h.mu.Unlock()
			refused = nil
		}
		h.b.Conn.Discard(size)
	}
	h.end()
}

// end tells everybody that h is lost.
func (h *Hub) end() {
	_ = h.b.Conn.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = true
	h.b.Close()
	for _, done := range h.awaiting {
		done <- ErrLost
	}
	for _, m := range h.fences {
		m.done <- ErrLost
	}
	for _, listeners := range h.channels {
		for in := range listeners {
			in.lose()
		}
	}
	h.awaiting, h.fences, h.channels = nil, map[string]*move{}, map[string]map[*Inbox]struct{}{}
	h.b.Conn.Free()
}

// heard gives a notification to whom it is for.
func (h *Hub) heard(frame []byte) {
	n, ok := parse(frame)
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n.channel == fences {
		if m := h.fences[n.payload]; m != nil {
			delete(h.fences, n.payload)
			m.passed()
		}
		return
	}
	for in := range h.channels[n.channel] {
		in.put(frame)
	}
}

// run has the server run one simple query.
func (h *Hub) run(ctx context.Context, sql string) error {
	done := make(chan error, 1)
	h.mu.Lock()
	if h.lost {
		h.mu.Unlock()
		return ErrLost
	}
	_, err := h.b.Conn.Write(wire.AppendQuery(nil, sql))
	if err == nil {
		h.awaiting = append(h.awaiting, done)
	}
	h.mu.Unlock()
	if err != nil {
		h.Close()
		return errors.Join(ErrLost, err)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// barrier waits until every notification committed before is in the inboxes: before a
// server says that it is ready, it says what it was signalled.
func (h *Hub) barrier(ctx context.Context) error { return h.run(ctx, "") }

// begin prepares to have in hear its channels from a fence on.
func (h *Hub) begin(ctx context.Context, in *Inbox) (*move, error) {
	select {
	case h.change <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.change }()
	h.mu.Lock()
	var listen strings.Builder
	for _, ch := range in.channels {
		if _, heard := h.channels[ch]; !heard {
			listen.WriteString("LISTEN " + quote(ch) + ";")
		}
	}
	h.mu.Unlock()
	if listen.Len() > 0 {
		if err := h.run(ctx, listen.String()); err != nil {
			return nil, err
		}
	}
	return h.move(in, true), nil
}

// move prepares a move: with begin to h, else from it.
func (h *Hub) move(in *Inbox, begin bool) *move {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := &move{hub: h, in: in, begin: begin, id: rand.Text(), done: make(chan error, 1)} // nobody can notify what is not known yet
	if h.lost {
		m.done <- ErrLost
		return m
	}
	for _, ch := range in.channels { // so that nobody stops listening to it meanwhile
		if h.channels[ch] == nil {
			h.channels[ch] = map[*Inbox]struct{}{}
		}
	}
	h.fences[m.id] = m
	return m
}

// Leave has in hear nothing more. Nobody else waits for that.
func (h *Hub) Leave(in *Inbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(in)
}

// dropLocked has in hear nothing more.
func (h *Hub) dropLocked(in *Inbox) {
	unheard := false
	for _, ch := range in.channels {
		delete(h.channels[ch], in)
		unheard = unheard || len(h.channels[ch]) == 0
	}
	if unheard {
		go h.tidy()
	}
}

// tidy ends listening to channels that nobody hears, nor is about to.
func (h *Hub) tidy() {
	h.change <- struct{}{}
	defer func() { <-h.change }()
	h.mu.Lock()
	var unlisten strings.Builder
	for ch, listeners := range h.channels {
		if len(listeners) == 0 && !h.awaitedLocked(ch) {
			delete(h.channels, ch)
			unlisten.WriteString("UNLISTEN " + quote(ch) + ";")
		}
	}
	h.mu.Unlock()
	if unlisten.Len() > 0 {
		_ = h.run(context.Background(), unlisten.String()) // it goes on to hear them, or is lost
	}
}

func (h *Hub) awaitedLocked(channel string) bool {
	for _, m := range h.fences {
		if m.begin && slices.Contains(m.in.channels, channel) {
			return true
		}
	}
	return false
}

// Listeners counts the channels of all sessions, and moves.
func (h *Hub) Listeners() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, listeners := range h.channels {
		n += len(listeners)
	}
	return n + len(h.fences)
}

// move is the move of a session's channels between its own connection and a Hub.
type move struct {
	hub   *Hub
	in    *Inbox
	begin bool // to the Hub
	id    string
	done  chan error
}

// fence divides what the session's own connection hears, which listens to all its channels
// then, and returns both parts.
func (m *move) fence(ctx context.Context, b *backend.Backend) (before, behind []byte, err error) {
	var q strings.Builder
	q.WriteString(backend.AnyDefault)
	if !m.begin {
		for _, ch := range m.in.channels {
			q.WriteString("LISTEN " + quote(ch) + ";")
		}
	}
	q.WriteString("LISTEN " + fences + "; NOTIFY " + fences + ", '" + m.id + "'")
	_, err = b.RoundTrip(ctx, wire.AppendQuery(nil, q.String()))
	before, behind = m.divide(b.Notified())
	return before, behind, err
}

// divide divides what a connection has said by the fence. Fences of others are left out.
func (m *move) divide(frames []byte) (before, behind []byte) {
	passed := false
	for len(frames) >= wire.HeaderSize {
		var frame []byte
		frame, frames = next(frames)
		n, ok := parse(frame)
		switch {
		case ok && n.channel == fences:
			passed = passed || n.payload == m.id
		case passed:
			behind = append(behind, frame...)
		default:
			before = append(before, frame...)
		}
	}
	return before, behind
}

// wait waits until the Hub has met the fence.
func (m *move) wait(ctx context.Context) error {
	select {
	case err := <-m.done:
		return err
	case <-ctx.Done():
		m.cancel()
		return ctx.Err()
	}
}

// cancel gives the move up. The session hears what it did before.
func (m *move) cancel() {
	m.hub.mu.Lock()
	delete(m.hub.fences, m.id)
	m.hub.mu.Unlock()
	go m.hub.tidy()
}

// passed is called, under the Hub's lock, when it meets the fence.
func (m *move) passed() {
	if !m.begin {
		m.hub.dropLocked(m.in)
	} else {
		for _, ch := range m.in.channels {
			m.hub.channels[ch][m.in] = struct{}{}
		}
	}
	m.done <- nil
}

// quote writes a name as an identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
