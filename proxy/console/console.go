// Package console is the admin console: the database by whose name administrators connect with any
// client of PostgreSQL, to see what the service does (SHOW) and to command it (PAUSE, KILL, …). Names
// and columns are those of PgBouncer's console where it has them, so that tools made for that work;
// docs/console.md lists all of them.
//
// The caller has let the client in; Serve speaks the protocol with it, simple and extended. What is
// shown and commanded is asked of a Service.
package console

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
)

const (
	// maxMessage bounds a message of a client's, in bytes.
	maxMessage = 1 << 20
	// maxNames bounds its prepared statements, and its portals.
	maxNames = 256
)

// Session is one administrator's.
type Session struct {
	Service Service
	User    string
	Admin   bool // may command; else may SHOW only
	Log     *zap.Logger
	Version string
	// Parameters are what is told at the start (ParameterStatus).
	Parameters map[string]string

	out     *pgproto3.Backend
	types   *pgtype.Map
	running atomic.Pointer[context.CancelCauseFunc] // ends the command under way
	inBlock bool                                    // between BEGIN and COMMIT, which mean nothing here
	failed  bool                                    // everything is skipped up to Sync
	// Prepared statements and portals, by name.
	prepared map[string]prepared
	portals  map[string]portal
}

// prepared is a statement that was parsed; none is an empty text.
type prepared struct{ statements []statement }

// portal is a statement with the formats of its columns.
type portal struct {
	prepared
	formats []int16
}

// Serve answers over rw until the client leaves, which is nil, or ctx ends.
func (s *Session) Serve(ctx context.Context, rw io.ReadWriter) error {
	s.out = pgproto3.NewBackend(rw, rw)
	s.out.SetMaxBodyLen(maxMessage)
	s.types = pgtype.NewMap()
	s.prepared, s.portals = map[string]prepared{}, map[string]portal{}
	for {
		m, err := s.out.Receive()
		if err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		if _, end := m.(*pgproto3.Terminate); end {
			return nil
		}
		s.message(ctx, m)
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync, *pgproto3.Flush, *pgproto3.FunctionCall:
			if err := s.out.Flush(); err != nil {
				return err
			}
		}
	}
}

func (s *Session) message(ctx context.Context, m pgproto3.FrontendMessage) {
	switch m := m.(type) {
	case *pgproto3.Query:
		s.failed = false
		s.query(ctx, m.String)
		s.ready()
		return
	case *pgproto3.Sync:
		s.failed = false
		s.ready()
		return
	case *pgproto3.FunctionCall:
		s.fail(wire.Errorf("0A000", "the console has no functions"))
		s.failed = false
		s.ready()
		return
	}
	if s.failed {
		return
	}
	if err := s.extended(ctx, m); err != nil {
		s.failed = true
		s.fail(err)
	}
}

// query answers a simple query, up to its first error.
func (s *Session) query(ctx context.Context, text string) {
	all, refused := parse(text)
	if refused != nil {
		s.fail(refused)
		return
	}
	if len(all) == 0 {
		s.out.Send(&pgproto3.EmptyQueryResponse{})
	}
	for _, st := range all {
		t, tag, err := s.run(ctx, st)
		if err == nil && t != nil {
			s.out.Send(t.described(nil))
			err = s.rows(t, nil)
		}
		if err != nil {
			s.fail(err)
			return
		}
		s.out.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
	}
}

// extended answers a message of the extended protocol.
func (s *Session) extended(ctx context.Context, m pgproto3.FrontendMessage) error {
	switch m := m.(type) {
	case *pgproto3.Parse:
		return s.parse(m)
	case *pgproto3.Bind:
		return s.bind(m)
	case *pgproto3.Describe:
		return s.describe(m)
	case *pgproto3.Execute:
		return s.execute(ctx, m)
	case *pgproto3.Close:
		if m.ObjectType == 'S' {
			delete(s.prepared, m.Name)
		} else {
			delete(s.portals, m.Name)
		}
		s.out.Send(&pgproto3.CloseComplete{})
	case *pgproto3.Flush:
	default:
		return wire.Errorf("08P01", "the console does not take this message")
	}
	return nil
}

func (s *Session) parse(m *pgproto3.Parse) error {
	all, refused := parse(m.Query)
	switch {
	case refused != nil:
		return refused
	case len(all) > 1:
		return wire.Errorf("42601", "cannot insert multiple commands into a prepared statement")
	case len(all) == 1:
		if _, err := s.columnsOf(all[0]); err != nil {
			return err
		}
	}
	if _, is := s.prepared[m.Name]; !is && len(s.prepared) == maxNames {
		return wire.Errorf("54000", "too many prepared statements: the console keeps %d for a session", maxNames)
	}
	s.prepared[m.Name] = prepared{all}
	s.out.Send(&pgproto3.ParseComplete{})
	return nil
}

func (s *Session) bind(m *pgproto3.Bind) error {
	p, ok := s.prepared[m.PreparedStatement]
	if !ok {
		return wire.Errorf("26000", "prepared statement \"%s\" does not exist", m.PreparedStatement)
	}
	if len(m.Parameters) > 0 {
		return wire.Errorf("08P01", "the console's statements have no parameters: write the value into the text")
	}
	var cs []column
	if len(p.statements) > 0 {
		cs, _ = s.columnsOf(p.statements[0]) // it could be parsed
	}
	if n := len(m.ResultFormatCodes); n > 1 && n != len(cs) {
		return wire.Errorf("08P01", "bind message has %d result formats but query has %d columns", n, len(cs))
	}
	if _, is := s.portals[m.DestinationPortal]; !is && len(s.portals) == maxNames {
		return wire.Errorf("54000", "too many portals: the console keeps %d for a session", maxNames)
	}
	s.portals[m.DestinationPortal] = portal{p, slices.Clone(m.ResultFormatCodes)}
	s.out.Send(&pgproto3.BindComplete{})
	return nil
}

func (s *Session) describe(m *pgproto3.Describe) error {
	var of prepared
	var formats []int16
	if m.ObjectType == 'S' {
		p, ok := s.prepared[m.Name]
		if !ok {
			return wire.Errorf("26000", "prepared statement \"%s\" does not exist", m.Name)
		}
		of = p
		s.out.Send(&pgproto3.ParameterDescription{})
	} else {
		p, ok := s.portals[m.Name]
		if !ok {
			return wire.Errorf("34000", "portal \"%s\" does not exist", m.Name)
		}
		of, formats = p.prepared, p.formats
	}
	if len(of.statements) == 0 {
		s.out.Send(&pgproto3.NoData{})
		return nil
	}
	cs, err := s.columnsOf(of.statements[0])
	if err != nil {
		return err
	}
	if cs == nil {
		s.out.Send(&pgproto3.NoData{})
		return nil
	}
	s.out.Send((&table{columns: cs}).described(formats))
	return nil
}

// execute runs a portal to its end, whatever number of rows is asked for: nothing is suspended.
func (s *Session) execute(ctx context.Context, m *pgproto3.Execute) error {
	p, ok := s.portals[m.Portal]
	if !ok {
		return wire.Errorf("34000", "portal \"%s\" does not exist", m.Portal)
	}
	if len(p.statements) == 0 {
		s.out.Send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	t, tag, err := s.run(ctx, p.statements[0])
	if err == nil && t != nil {
		err = s.rows(t, p.formats)
	}
	if err == nil {
		s.out.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
	}
	return err
}

func (s *Session) rows(t *table, formats []int16) error {
	for _, row := range t.rows {
		d, err := t.row(s.types, row, formats)
		if err != nil {
			return err
		}
		s.out.Send(d)
	}
	return nil
}

// run carries out one statement. t is nil for one without rows.
func (s *Session) run(ctx context.Context, st statement) (t *table, tag string, err error) {
	if v, ok := shownBy(st); ok {
		t, err := v.show(s, st)
		return t, "SHOW", err
	}
	c := find(st)
	if c == nil {
		return nil, "", unknown(st)
	}
	if c.verb == verbTrivial {
		return nil, s.trivial(st), nil
	}
	if !s.Admin {
		return nil, "", wire.Errorf("42501", "permission denied: user \"%s\" may only SHOW", s.User).
			WithHint("console.admin_users lists who may give commands.")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.running.Store(&cancel)
	defer s.running.Store(nil)
	log := s.Log.With(zap.String("by", s.User), zap.String("command", st.String()))
	if c.waits {
		log.Info("console command has begun")
	}
	began := time.Now()
	err = c.do(ctx, s, st)
	result := zap.Error(err) // nothing if there is none
	log.Info("console command", zap.String("event", "console_command"), zap.Duration("took", time.Since(began)), result)
	return nil, c.tag, err
}

var errCanceled = errors.New("due to user request")

// Cancel ends the command that is under way, if there is one. It may be called from any goroutine.
func (s *Session) Cancel() {
	if cancel := s.running.Load(); cancel != nil {
		(*cancel)(errCanceled)
	}
}

// fail tells the client of an error.
func (s *Session) fail(err error) {
	var e *wire.Error
	if !errors.As(err, &e) {
		e = wire.Errorf("58000", "%v", err)
	}
	s.out.Send(&pgproto3.ErrorResponse{
		Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint,
	})
}

func (s *Session) ready() {
	status := byte(wire.TxIdle)
	if s.inBlock {
		status = wire.TxOpen
	}
	s.out.Send(&pgproto3.ReadyForQuery{TxStatus: status})
}
