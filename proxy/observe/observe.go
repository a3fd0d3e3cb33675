// Package observe tells package insight what one session does: which statement has ended,
// with which parameters, where it ran and what it took. It looks at no row; rows are counted
// by command tags, bytes by the lengths of frames. A nil Session, which there is while
// nothing is observed, does nothing.
package observe

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"net/url"
	"strings"
	"time"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/explain"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/shape"
)

// Session is what is observed of one session. One goroutine uses it at a time.
type Session struct {
	*insight.Session
	book               *insight.Book
	transactions, open uint64    // blocks seen; the number of the one that is open, 0 if there is none
	at                 time.Time // the batch was sent, or its last statement ended
	waited             time.Duration
	batch              uint64
	rows               uint64
	pieces             bool // it is read in pieces, so its rows are not known
	plans              *explain.Source
	escaped            []byte // route, as the last comment had it
	route              *insight.Route
}

// New observes a session; nil if b is. plans may be nil.
func New(b *insight.Book, who insight.Who, plans *explain.Source) *Session {
	if b == nil {
		return nil
	}
	return &Session{Session: b.NewSession(who), book: b, plans: plans}
}

// Sent says that a batch that had arrived at a time goes to a server now.
func (s *Session) Sent(arrived, now time.Time) {
	if s == nil {
		return
	}
	s.at, s.waited = now, now.Sub(arrived)
	s.batch++
	s.rows, s.pieces = 0, false
}

// Complete takes in the end of a statement as a server tells it: CommandComplete, or that a
// portal is suspended.
func (s *Session) Complete(typ byte, frame []byte) {
	switch {
	case s == nil:
	case typ == wire.PortalSuspended:
		s.pieces = true
	default:
		s.rows += taggedRows(frame)
	}
}

// taggedRows is the number that ends a command tag.
func taggedRows(frame []byte) (n uint64) {
	tag := bytes.TrimSuffix(frame[min(wire.HeaderSize, len(frame)):], []byte{0})
	for _, c := range tag[bytes.LastIndexByte(tag, ' ')+1:] {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// Statement is one that has ended.
type Statement struct {
	Message   *batch.Message // with a Plan that has a Statement
	Batch     *batch.Batch
	Sent      []byte // the batch's bytes; empty if they are not at hand
	OnPrimary bool
	Failed    bool
	Reason    router.Reason
	Bytes     uint64 // of its rows
	// WasInBlock and InBlock are whether a transaction block was open before, and is now.
	WasInBlock, InBlock bool
	Settings            setting.Settings // in force now
	Unnamed             *session.Unnamed // statement of the session
}

// frame is the client's frame of a message; nil if it is not at hand, or the message is none
// of the client's.
func (st *Statement) frame(m *batch.Message) []byte {
	if m == nil || m.Size < wire.HeaderSize || m.Off+m.Size > len(st.Sent) {
		return nil
	}
	return st.Sent[m.Off : m.Off+m.Size]
}

var seed = maphash.MakeSeed()

// Ran takes in a statement that has ended.
func (s *Session) Ran(st *Statement) {
	took := time.Since(s.at) // reads one clock, where time.Now reads two
	now := s.at.Add(took)
	e := insight.Event{
		Statement: st.Message.Plan.Statement, Target: insight.Replica, Reason: st.Reason.String(), Batch: s.batch,
		Rows: s.rows, Bytes: st.Bytes, Uncounted: s.pieces, Failed: st.Failed,
		Began: s.at, Duration: took, Waited: s.waited,
	}
	if st.OnPrimary {
		e.Target = insight.Primary
	}
	s.at, s.waited, s.rows, s.pieces = now, 0, 0, false
	if st.WasInBlock || st.InBlock {
		if s.open == 0 {
			s.transactions++
			s.open = s.transactions
		}
		e.Transaction, e.Ends = s.open, !st.InBlock
	}
	s.parameters(st, &e)
	if s.Session.Ran(&e); e.Ends {
		s.open = 0
	}
	if !st.Failed && s.plans.Wants(e.Statement) {
		s.offer(st)
	}
	if f := st.Message.Plan.Flags; f.Has(router.FlagDDL) && !f.Has(router.FlagTemporary) && !st.Failed {
		s.book.Changed("ddl")
	}
}

// Idle says that a batch was answered, and no transaction block is open.
func (s *Session) Idle() {
	if s != nil && s.open != 0 {
		s.open = 0
		s.End()
	}
}

// Close says that the session has ended.
func (s *Session) Close() {
	if s != nil {
		s.End()
	}
}

// parameters takes in with which literals and parameters the statement ran, and on whose
// behalf.
func (s *Session) parameters(st *Statement, e *insight.Event) {
	m := st.Message
	if frame := st.frame(m); m.Kind == batch.Query && frame != nil {
		text, _ := wire.QueryText(frame)
		literals, comment := splitComment(text)
		e.Route = s.requested(comment)
		e.Params = maphash.Bytes(seed, literals)
		e.Offset, _ = m.Plan.Offset(text)
		return
	}
	e.Params = s.batch // nobody knows
	bind := st.frame(st.Batch.BindOf(m))
	if bind == nil {
		return
	}
	_, _, rest, ok := wire.BindParts(bind)
	if !ok {
		return
	}
	if e.Params = maphash.Bytes(seed, rest); !e.Statement.Shape().Offset {
		return
	}
	var text []byte
	if m.Prepared != nil || m.Parse > 0 {
		text = st.Batch.Text(m, st.Sent, nil)
	}
	var param int
	if e.Offset, param = m.Plan.Offset(text); param == 0 {
		return
	}
	switch p, _ := wire.BindParameter(rest, param-1); {
	case !p.Binary:
		e.Offset = shape.Rows(string(p.Value))
	case len(p.Value) == 8:
		e.Offset = int64(binary.BigEndian.Uint64(p.Value))
	case len(p.Value) == 4:
		e.Offset = int64(binary.BigEndian.Uint32(p.Value))
	}
}

// splitComment splits off a comment that a text ends with: libraries put there which
// request sends it (https://google.github.io/sqlcommenter/spec/).
func splitComment(text []byte) (rest, comment []byte) {
	end := len(text)
	for end > 0 && endsStatement(text[end-1]) {
		end--
	}
	if end -= len("*/"); end < 0 || text[end] != '*' || text[end+1] != '/' {
		return text, nil
	}
	for i := end - len("/*"); i >= 0; i-- {
		if text[i] == '/' && text[i+1] == '*' {
			return text[:i], text[i+2 : end]
		}
	}
	return text, nil
}

// endsStatement reports whether c may follow what a statement says.
func endsStatement(c byte) bool { return c == ';' || c == ' ' || c == '\t' || c == '\r' || c == '\n' }

var routeKey = []byte("route='")

// requested is the route that a comment names, as route='…'; nil if it names none.
func (s *Session) requested(comment []byte) *insight.Route {
	_, value, ok := bytes.Cut(comment, routeKey)
	if !ok {
		return nil
	}
	if value, _, ok = bytes.Cut(value, []byte("'")); !ok {
		return nil
	}
	if s.route == nil || !bytes.Equal(value, s.escaped) {
		if s.route = s.Route(value, unescaped); s.route != nil { // so that it is short
			s.escaped = append(s.escaped[:0], value...)
		}
	}
	return s.route
}

// unescaped is a value as it was before it was put into a comment.
func unescaped(value []byte) string {
	text, err := url.PathUnescape(string(value))
	if err != nil {
		text = string(value)
	}
	return strings.ToValidUTF8(text, "")
}
