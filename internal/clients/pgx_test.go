package clients

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// session is one check of the pgx program: a connection of its own, and the
// transcript all checks write to.
type session struct {
	*pgx.Conn
	ctx     context.Context
	to      target
	name    string
	notices []string
	out     *[]string
}

// pgxCheck is a check by name. An error it returns is one it did not foresee.
type pgxCheck struct {
	name string
	run  func(s *session) error
}

// runPgx is the client written in Go, in this process.
func runPgx(t *testing.T, to target) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), programTimeout)
	defer cancel()
	var out []string
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		for _, c := range pgxModeChecks {
			runPgxCheck(ctx, to, c.name+" ("+mode.String()+")", &out, c.run, func(cfg *pgx.ConnConfig) { cfg.DefaultQueryExecMode = mode })
		}
	}
	for _, c := range pgxChecks {
		runPgxCheck(ctx, to, c.name, &out, c.run, nil)
	}
	return lines(strings.Join(append(out, "program.end: "+lastLine), "\n"), to)
}

func runPgxCheck(ctx context.Context, to target, name string, out *[]string, run func(*session) error, tweak func(*pgx.ConnConfig)) {
	s := &session{ctx: ctx, to: to, name: name, out: out}
	conn, err := s.connect(tweak)
	if err != nil {
		s.say("unexpected", err)
		return
	}
	defer conn.Close(ctx)
	s.Conn = conn
	if err := run(s); err != nil {
		s.say("unexpected", err)
	}
}

// connect opens one more connection to the same target.
func (s *session) connect(tweak func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	host, port, err := net.SplitHostPort(s.to.addr)
	if err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable connect_timeout=20", host, port, role, s.to.database))
	if err != nil {
		return nil, err
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		s.notices = append(s.notices, fmt.Sprintf("%s %s %s %s %s", n.Severity, n.Code, n.Message, n.Detail, n.Hint))
	}
	if tweak != nil {
		tweak(cfg)
	}
	return pgx.ConnectConfig(s.ctx, cfg)
}

// say writes one line.
func (s *session) say(name string, value any) {
	text := plain(value)
	if len(text) > 1000 {
		text = fmt.Sprintf("%d bytes md5 %x", len(text), md5.Sum([]byte(text)))
	}
	*s.out = append(*s.out, s.name+"."+name+": "+strings.ReplaceAll(text, "\n", `\n`))
}

// attempt writes a value or, if there is an error, that.
func (s *session) attempt(name string, value any, err error) {
	if err != nil {
		value = err
	}
	s.say(name, value)
}

func plain(value any) string {
	err, isErr := value.(error)
	if !isErr {
		return fmt.Sprintf("%+v", pointed(value))
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		// Where in whose source an error was made says who made it, which may be the proxy.
		seen := *pg
		seen.File, seen.Line, seen.Routine = "", 0, ""
		return fmt.Sprintf("error %+v", seen)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return "error: the context ended"
	}
	return "error: " + err.Error()
}

// pointed is what a pointer points at, so that no address is printed.
func pointed(value any) any {
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && !v.IsNil() {
		return v.Elem().Interface()
	}
	return value
}

// rows executes one statement and gives its tag and all values.
func (s *session) rows(sql string, args ...any) (any, error) {
	return rowsOf(s.Conn.Query(s.ctx, sql, args...))
}

func rowsOf(rows pgx.Rows, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, err
		}
		for i := range values {
			values[i] = pointed(values[i])
		}
		all = append(all, fmt.Sprintf("%v", values))
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return fmt.Sprintf("%s %v", rows.CommandTag(), all), nil
}

// try executes one statement and writes what came of it.
func (s *session) try(name, sql string, args ...any) {
	v, err := s.rows(sql, args...)
	s.attempt(name, v, err)
}

// must executes statements that have to succeed.
func (s *session) must(statements ...string) error {
	for _, sql := range statements {
		if _, err := s.Exec(s.ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// within gives a context that ends after d.
func (s *session) within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, d)
}
