package tracing

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// Batch records what is done for the statements of one batch. One goroutine uses it. All
// methods of nil do nothing: of most batches nothing is recorded.
type Batch struct {
	tracer     *Tracer
	started    time.Time
	database   string
	statements []statement
	steps      []step // before a statement was sent

	// The attempt under way.
	server Server
	at     time.Time // since when the server works on what is answered next
	next   int       // the statement that is answered next
	taking time.Time // since when the connection takes over what the session has; zero if it does not
}

// statement is one of the batch's.
type statement struct {
	message *batch.Message
	parent  trace.SpanContext // not valid if it is not traced
	shown   shown
	runs    []run
	fault   string // that the proxy has refused it with
	ended   time.Time
}

// run is one time that a server ran a statement.
type run struct {
	on           Server
	began, ended time.Time
	fault        string // empty is that it succeeded
}

// step is something that took time before.
type step struct {
	name         string
	began, ended time.Time
}

// Names of steps.
const (
	WaitPool      = "wait for a connection"
	WaitFreshness = "wait for a fresh replica"
	WaitPrimary   = "wait for a primary"
	TakeOver      = "take over"
)

// Faults that are no SQLSTATE.
const (
	connectionLost = "connection_lost" // to the server, which said nothing
	sessionEnded   = "session_ended"   // with the client's connection, or the service
)

// Server is where a statement runs, and why there.
type Server struct {
	Address string
	Target  router.Target
	Reason  router.Reason
}

// Source is what is to be recorded: a batch for a database of the servers.
type Source struct {
	*batch.Batch
	Bytes    []byte           // of it
	Unnamed  *session.Unnamed // the statement without a name that was there before
	Database string
	Session  trace.SpanContext // what the session's statements belong to; a comment is stronger
}

// Record begins to record a batch, or goes on: from one of its messages on it has another
// Session, because of those before. It returns nil if no statement is traced.
func (t *Tracer) Record(b *Batch, of *Source, from int) *Batch {
	for i := range of.Messages[from:] {
		m := &of.Messages[from+i]
		if !m.Kind.Executes() {
			continue
		}
		parent := of.parent(m)
		if b == nil {
			if !parent.IsSampled() {
				continue
			}
			b = &Batch{tracer: t, started: of.Started, database: valid(of.Database)}
			return t.Record(b, of, 0)
		}
		b.set(m, parent, of)
	}
	return b
}

// set says to what a statement belongs. One without a parent that is sampled is not traced.
func (b *Batch) set(m *batch.Message, parent trace.SpanContext, of *Source) {
	i := b.find(m)
	if i == len(b.statements) {
		b.statements = append(b.statements, statement{message: m})
	}
	s := &b.statements[i]
	if s.parent = parent; parent.IsSampled() {
		s.shown = b.tracer.show(m.Plan, of.text(m))
	}
}

// text is what a message runs, as far as it is at hand.
func (of *Source) text(m *batch.Message) []byte {
	if m.Kind == batch.FunctionCall {
		return nil
	}
	return of.Text(m, of.Bytes, of.Unnamed)
}

// parent is what a statement's span belongs to.
func (of *Source) parent(m *batch.Message) trace.SpanContext {
	var parent trace.SpanContext
	var found bool
	if m.Prepared != nil && m.Text == "" {
		parent, found = inComment(m.Prepared.Text)
	} else {
		parent, found = inComment(of.text(m))
	}
	if !found {
		return of.Session
	}
	return parent
}

// Took records a step that has ended before a statement could be sent.
func (b *Batch) Took(name string, began time.Time) {
	if b != nil {
		b.steps = append(b.steps, step{name, began, time.Now()})
	}
}

// Sent says that the batch goes to a server next, from its first statement on that the proxy
// has not answered itself. takes is that the connection has to take something over first.
func (b *Batch) Sent(to Server, takes bool) {
	if b == nil {
		return
	}
	b.server, b.at, b.taking = to, time.Now(), time.Time{}
	if takes {
		b.taking = b.at
	}
	for b.next = 0; b.next < len(b.statements) && b.statements[b.next].message.Here; b.next++ {
	}
}

// TookOver says that the server has done something that comes before the statements.
func (b *Batch) TookOver() {
	if b == nil || b.taking.IsZero() {
		return
	}
	b.at = time.Now()
	if n := len(b.steps); n > 0 && b.steps[n-1].began.Equal(b.taking) {
		b.steps[n-1].ended = b.at
		return
	}
	b.steps = append(b.steps, step{TakeOver, b.taking, b.at})
}

// Ran says that a server has executed a statement.
func (b *Batch) Ran(m *batch.Message) {
	if b != nil {
		b.ran(b.find(m), "")
	}
}

// Failed says that a server has refused a message, by a SQLSTATE: the statement itself, or
// what it needs.
func (b *Batch) Failed(m *batch.Message, code string) {
	if b != nil {
		b.ran(b.find(m), code)
	}
}

// Lost says that the server's connection was lost.
func (b *Batch) Lost() {
	if b != nil {
		b.ran(b.next, connectionLost)
	}
}

// find is the statement that a message is, or is for.
func (b *Batch) find(m *batch.Message) int {
	if m == nil {
		return b.next
	}
	for i := range b.statements {
		if s := &b.statements[i]; s.message.Off >= m.Off {
			return i
		}
	}
	return len(b.statements)
}

func (b *Batch) ran(i int, fault string) {
	now := time.Now()
	if i < len(b.statements) {
		s := &b.statements[i]
		s.runs, s.ended = append(s.runs, run{b.server, b.at, now, fault}), now
	}
	b.at, b.next, b.taking = now, i+1, time.Time{}
	if fault != "" {
		b.next = i // until it is sent again, or refused
	}
}

// Answered says that the proxy has executed a statement itself.
func (b *Batch) Answered(m *batch.Message) {
	if b == nil {
		return
	}
	if i := b.find(m); i < len(b.statements) {
		b.statements[i].ended, b.next = time.Now(), i+1
	}
}

// Refused says with what the proxy answers the statement that is answered next.
func (b *Batch) Refused(code string) {
	if b != nil && b.next < len(b.statements) {
		s := &b.statements[b.next]
		s.fault, s.ended = code, time.Now()
	}
}

// End makes the spans, err being what its session ends with because of the batch.
func (b *Batch) End(err error) {
	if b == nil {
		return
	}
	if refused := (*wire.Error)(nil); errors.As(err, &refused) {
		b.Refused(refused.Code)
	} else if err != nil {
		b.Refused(sessionEnded)
	}
	steps := b.steps
	for i := range b.statements {
		s := &b.statements[i]
		if !s.parent.IsSampled() || s.ended.IsZero() {
			continue // what was skipped behind an error was not looked at by anybody
		}
		b.span(s, steps)
		steps = nil
	}
}

// span makes the spans of one statement. steps are those that the batch as a whole took.
func (b *Batch) span(s *statement, steps []step) {
	attributes := []attribute.KeyValue{semconv.DBSystemNamePostgreSQL, semconv.DBNamespace(b.database), semconv.DBQueryText(s.shown.text)}
	target := b.database
	if p := s.message.Plan; p != nil && len(p.Relations) == 1 {
		target = valid(p.Relations[0])
		attributes = append(attributes, semconv.DBCollectionName(target))
	}
	name := target
	if s.shown.operation != "" {
		name = s.shown.operation + " " + target
		attributes = append(attributes, semconv.DBOperationName(s.shown.operation))
	}
	where, fault := "proxy", s.fault
	if n := len(s.runs); n > 0 {
		last := &s.runs[n-1]
		where = last.on.Target.String()
		attributes = append(attributes, attribute.String("pgweir.reason", last.on.Reason.String()))
		if fault == "" {
			fault = last.fault
		}
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), s.parent)
	ctx, span := b.tracer.tracer.Start(ctx, name, trace.WithTimestamp(b.started), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(slices.Concat(attributes, []attribute.KeyValue{attribute.String("pgweir.target", where)})...))
	for _, st := range steps {
		_, child := b.tracer.tracer.Start(ctx, st.name, trace.WithTimestamp(st.began))
		child.End(trace.WithTimestamp(st.ended))
	}
	for i := range s.runs {
		r := &s.runs[i]
		_, child := b.tracer.tracer.Start(ctx, name, trace.WithTimestamp(r.began), trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(slices.Concat(attributes, r.on.attributes())...))
		end(child, r.fault, r.ended)
	}
	end(span, fault, s.ended)
}

func (s *Server) attributes() []attribute.KeyValue {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		host = s.Address
	}
	list := []attribute.KeyValue{semconv.ServerAddress(host), attribute.String("pgweir.target", s.Target.String())}
	if n, err := strconv.Atoi(port); err == nil {
		list = append(list, semconv.ServerPort(n))
	}
	return list
}

// end ends a span, with a fault if there was one. What the server said
// is not told: it may quote a literal.
func end(s trace.Span, fault string, at time.Time) {
	if fault != "" {
		s.SetStatus(codes.Error, "")
		s.SetAttributes(semconv.ErrorTypeKey.String(fault))
		if fault != connectionLost && fault != sessionEnded {
			s.SetAttributes(semconv.DBResponseStatusCode(fault))
		}
	}
	s.End(trace.WithTimestamp(at))
}
