package pgtest

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ConnString is a connection string for the server's TCP port in the keyword form,
// to which further keywords can be appended.
func (s *Server) ConnString(database, user string) string {
	dsn := fmt.Sprintf("host=%s port=%d dbname=%s user=%s", s.Host, s.Port, quoteKeyword(database), quoteKeyword(user))
	if s.cluster.opts.TLS {
		return dsn
	}
	return dsn + " sslmode=disable"
}

// quoteKeyword quotes a value as libpq's connection strings want it.
func quoteKeyword(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

// connect logs in as the superuser over the Unix-domain socket, where it is trusted.
func (s *Server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d dbname=%s user=%s sslmode=disable application_name=pgtest default_transaction_isolation='read committed'",
		quoteKeyword(s.SocketDir), s.Port, quoteKeyword(database), Superuser))
}

// Exec runs SQL, possibly several statements, on this server as the superuser. The
// statements are one implicit transaction.
func (s *Server) Exec(ctx context.Context, database, sql string) error {
	conn, err := s.connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// Value returns the only column of the only row of a query as text; NULL is "".
func (s *Server) Value(ctx context.Context, database, sql string, args ...any) (string, error) {
	conn, err := s.connect(ctx, database)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	return value(ctx, conn, sql, args...)
}

// value asks for the text format, in which every type is readable.
func value(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (string, error) {
	args = append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	v := ""
	if rows.Next() {
		v = string(rows.RawValues()[0])
	}
	rows.Close()
	return v, rows.Err()
}

// waitTrue asks sql on one connection until it answers true.
func (s *Server) waitTrue(ctx context.Context, sql string, args ...any) error {
	conn, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return askUntil(ctx, conn, sql, args...)
}

func askUntil(ctx context.Context, conn *pgx.Conn, sql string, args ...any) error {
	return until(ctx, func() (bool, error) {
		v, err := value(ctx, conn, sql, args...)
		return v == "t", err
	})
}

// onKept calls f with a connection to the database postgres that is kept for the next call, as
// to open one costs many times what it is used for: f is called again if it was lost meanwhile.
func (s *Server) onKept(ctx context.Context, f func(*pgx.Conn) error) error {
	s.mu.Lock()
	conn := s.kept
	s.kept = nil
	s.mu.Unlock()
	if conn != nil {
		if err := f(conn); !conn.IsClosed() {
			s.keep(ctx, conn)
			return err
		}
	}
	conn, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	err = f(conn)
	s.keep(ctx, conn)
	return err
}

func (s *Server) keep(ctx context.Context, conn *pgx.Conn) {
	s.mu.Lock()
	if s.kept == nil && !conn.IsClosed() {
		s.kept, conn = conn, nil
	}
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close(ctx) // another call was faster
	}
}

func (s *Server) waitStreaming(ctx context.Context, name string) error {
	return s.waitTrue(ctx,
		"select exists (select from pg_stat_replication where application_name = $1 and state = 'streaming')", name)
}

// Promote makes a replica a primary and returns when it accepts writes. Other
// replicas go on following the old primary; see Follow.
func (s *Server) Promote(ctx context.Context) error {
	v, err := s.Value(ctx, "postgres", "select pg_promote(true, 60)")
	if err == nil && v != "t" {
		err = fmt.Errorf("not done within 60 s")
	}
	if err != nil {
		return fmt.Errorf("promote %s: %w", s.Name, err)
	}
	return s.waitTrue(ctx, "select not pg_is_in_recovery()")
}

// PauseReplay makes a replica receive but not replay; it returns when replay stands still.
func (s *Server) PauseReplay(ctx context.Context) error {
	if err := s.Exec(ctx, "postgres", "select pg_wal_replay_pause()"); err != nil {
		return fmt.Errorf("pause %s: %w", s.Name, err)
	}
	return s.waitTrue(ctx, "select pg_get_wal_replay_pause_state() = 'paused'")
}

// ResumeReplay undoes PauseReplay.
func (s *Server) ResumeReplay(ctx context.Context) error {
	if err := s.Exec(ctx, "postgres", "select pg_wal_replay_resume()"); err != nil {
		return fmt.Errorf("resume %s: %w", s.Name, err)
	}
	return nil
}

// Reload makes the server read its configuration files again.
func (s *Server) Reload(ctx context.Context) error {
	return s.Exec(ctx, "postgres", "select pg_reload_conf()")
}

// Follow makes s a replica of upstream. A running replica changes its source and
// Follow returns when it streams; a stopped server becomes a standby at its next
// Start, if its history allows.
func (s *Server) Follow(ctx context.Context, upstream *Server) error {
	if err := s.configure(upstream); err != nil {
		return fmt.Errorf("let %s follow %s: %w", s.Name, upstream.Name, err)
	}
	if s.PID() == 0 {
		return nil
	}
	if err := s.Reload(ctx); err != nil {
		return err
	}
	return upstream.waitStreaming(ctx, s.Name)
}
