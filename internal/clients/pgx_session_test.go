package clients

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var pgxChecks = []pgxCheck{
	{"startup", pgxStartup},
	{"transactions", pgxTransactions},
	{"isolation", pgxIsolation},
	{"named statements", pgxNamedStatements},
	{"ddl under statements", pgxDDL},
	{"batch", pgxBatch},
	{"pipeline", pgxPipeline},
	{"copy", pgxCopy},
	{"large objects", pgxLargeObjects},
	{"notifications", pgxNotifications},
	{"cancel", pgxCancel},
	{"settings", pgxSettings},
	{"own writes", pgxOwnWrites},
	{"several connections", pgxSeveralConnections},
}

func pgxStartup(s *session) error {
	conn, err := s.connect(func(cfg *pgx.ConnConfig) {
		cfg.RuntimeParams = map[string]string{
			"application_name": "pgx", "search_path": `pg_catalog, "a b"`, "timezone": "Asia/Tokyo", "work_mem": "5MB",
			"options": `-c app.org=4\ 2 -c statement_timeout=50000`, "DateStyle": "German", "client_encoding": "UTF8",
		}
	})
	if err != nil {
		return err
	}
	defer conn.Close(s.ctx)
	for _, name := range []string{
		"server_version", "server_encoding", "client_encoding", "is_superuser", "session_authorization", "DateStyle", "IntervalStyle",
		"TimeZone", "integer_datetimes", "standard_conforming_strings", "application_name", "default_transaction_read_only", "in_hot_standby",
	} {
		s.say("status "+name, conn.PgConn().ParameterStatus(name))
	}
	for _, name := range []string{"application_name", "search_path", "timezone", "work_mem", "app.org", "statement_timeout", "datestyle"} {
		v, err := rowsOf(conn.Query(s.ctx, "select current_setting($1)", name))
		s.attempt(name, v, err)
	}
	_, err = s.connect(func(cfg *pgx.ConnConfig) { cfg.RuntimeParams["no_such_setting"] = "1" })
	s.say("refused setting", codeOf(err))
	_, err = s.connect(func(cfg *pgx.ConnConfig) { cfg.Database = "no_such_database" })
	s.say("refused database", codeOf(err))
	return nil
}

func codeOf(err error) string {
	if pg, ok := err.(interface{ SQLState() string }); ok {
		return pg.SQLState()
	}
	for err != nil {
		if pg, ok := err.(*pgconn.PgError); ok {
			return pg.Severity + " " + pg.Code + " " + pg.Message
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			err = u.Unwrap()[0]
		default:
			return "error: " + err.Error()
		}
	}
	return "no error"
}

func pgxTransactions(s *session) error {
	if err := s.must("create table tx (a int primary key)"); err != nil {
		return err
	}
	tx, err := s.Begin(s.ctx)
	if err != nil {
		return err
	}
	s.try("insert", "insert into tx values ($1)", 1)
	inner, err := tx.Begin(s.ctx)
	if err != nil {
		return err
	}
	s.try("insert inside", "insert into tx values ($1)", 2)
	s.try("duplicate", "insert into tx values ($1)", 1)
	s.try("aborted", "select $1::int", 1)
	s.say("status", string(s.PgConn().TxStatus()))
	s.attempt("roll back to", "done", inner.Rollback(s.ctx))
	s.try("goes on", "insert into tx values ($1) returning a", 3)
	s.attempt("commit", "done", tx.Commit(s.ctx))
	s.try("rows", "select a from tx order by a")
	if tx, err = s.Begin(s.ctx); err != nil {
		return err
	}
	s.try("error", "select 1 / $1::int", 0)
	s.attempt("commit of a failed one", "done", tx.Commit(s.ctx))
	s.try("usable", "select count(*) from tx")
	s.attempt("function", "done", pgx.BeginFunc(s.ctx, s.Conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(s.ctx, "insert into tx values (10)")
		return err
	}))
	for _, sql := range []string{"begin", "begin", "commit", "commit", "rollback"} {
		s.try(sql, sql)
	}
	s.say("notices", s.notices)
	return nil
}

func pgxIsolation(s *session) error {
	if err := s.must("create table iso (a int)"); err != nil {
		return err
	}
	for _, level := range []pgx.TxIsoLevel{pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted, pgx.ReadUncommitted} {
		for _, access := range []pgx.TxAccessMode{pgx.ReadWrite, pgx.ReadOnly} {
			name := fmt.Sprintf("%s %s", level, access)
			tx, err := s.BeginTx(s.ctx, pgx.TxOptions{IsoLevel: level, AccessMode: access, DeferrableMode: pgx.Deferrable})
			if err != nil {
				return err
			}
			s.try(name, "select current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')")
			s.try(name+" read", "select count(*) from iso")
			s.try(name+" write", "insert into iso values ($1)", 1)
			s.attempt(name+" commit", "done", tx.Commit(s.ctx))
		}
	}
	s.try("rows", "select count(*) from iso")
	return nil
}

func pgxNotifications(s *session) error {
	if err := s.must("listen fleet"); err != nil {
		return err
	}
	other, err := s.connect(nil)
	if err != nil {
		return err
	}
	defer other.Close(s.ctx)
	for i := range 3 {
		if _, err := other.Exec(s.ctx, "select pg_notify('fleet', $1)", fmt.Sprintf("n%d", i)); err != nil {
			return err
		}
	}
	ctx, cancel := s.within(15 * time.Second)
	defer cancel()
	for i := range 3 {
		n, err := s.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		s.say(fmt.Sprintf("notification %d", i), n.Channel+" "+n.Payload)
	}
	soon, cancel := s.within(100 * time.Millisecond)
	defer cancel()
	_, err = s.WaitForNotification(soon)
	s.say("none", err)
	s.try("usable", "select $1::int", 1)
	s.try("own", "notify fleet, 'own'")
	n, err := s.WaitForNotification(ctx)
	if err != nil {
		return err
	}
	s.say("own", n.Channel+" "+n.Payload)
	return s.must("unlisten *")
}

func pgxCancel(s *session) error {
	for i := range 3 {
		cancelled := make(chan error, 1)
		timer := time.AfterFunc(400*time.Millisecond, func() {
			ctx, cancel := s.within(10 * time.Second)
			defer cancel()
			cancelled <- s.PgConn().CancelRequest(ctx)
		})
		started := time.Now()
		s.try(fmt.Sprintf("sleep %d", i), "select pg_sleep($1)", 30)
		s.say("quick", time.Since(started) < 15*time.Second)
		timer.Stop()
		if err := <-cancelled; err != nil {
			return err
		}
		s.try("usable", "select $1::int", i)
	}
	// By default pgx closes a connection whose context ended.
	ctx, cancel := s.within(300 * time.Millisecond)
	defer cancel()
	_, err := s.Exec(ctx, "select pg_sleep(30)")
	s.say("context", err)
	s.say("closed", s.IsClosed())
	return nil
}

func pgxSettings(s *session) error {
	s.try("set_config", "select set_config('app.org', $1, false)", "it's ü")
	for i := range 10 {
		s.try("set", "select set_config('app.org', $1, false)", fmt.Sprint(i))
		s.try("get", "select current_setting($1)", "app.org")
	}
	err := pgx.BeginFunc(s.ctx, s.Conn, func(tx pgx.Tx) error {
		s.try("local", "select set_config('app.org', $1, true)", "local")
		s.try("local", "select current_setting('app.org')")
		return nil
	})
	s.attempt("transaction", "done", err)
	s.try("after", "select current_setting('app.org')")
	s.try("set by parse", "set app.org = 'parsed'")
	s.try("get", "show app.org")
	if err := s.must("set timezone = 'Asia/Tokyo'"); err != nil {
		return err
	}
	s.say("zone", s.PgConn().ParameterStatus("TimeZone"))
	s.try("discard", "discard all")
	if err := s.DeallocateAll(s.ctx); err != nil {
		return err
	}
	s.try("after discard", "select current_setting('app.org', true), current_setting('timezone')")
	return nil
}

func pgxOwnWrites(s *session) error {
	if err := s.must("create table ow (a int)"); err != nil {
		return err
	}
	var stale []string
	for i := range 200 {
		if _, err := s.Exec(s.ctx, "insert into ow values ($1)", i); err != nil {
			return err
		}
		var seen int
		if err := s.QueryRow(s.ctx, "select max(a) from ow").Scan(&seen); err != nil {
			return err
		}
		if seen != i {
			stale = append(stale, fmt.Sprintf("%d for %d", seen, i))
		}
	}
	s.say("stale reads", strings.Join(stale, ", "))
	return nil
}

// pgxSeveralConnections lets many sessions share what few server connections there are,
// each with settings and named statements of its own.
func pgxSeveralConnections(s *session) error {
	if err := s.must("create table sc (n int, i int)"); err != nil {
		return err
	}
	const workers = 30
	results := make(chan string, workers)
	for n := range workers {
		go func() { results <- s.worker(s.ctx, n) }()
	}
	wrong := map[string]int{}
	for range workers {
		wrong[<-results]++
	}
	s.say("outcomes", wrong)
	s.try("rows", "select count(*), sum(n), sum(i) from sc")
	return nil
}

func (s *session) worker(ctx context.Context, n int) string {
	own := session{ctx: ctx, to: s.to}
	conn, err := own.connect(nil)
	if err != nil {
		return "connect: " + plain(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "select set_config('app.worker', $1, false)", fmt.Sprint(n)); err != nil {
		return "set: " + plain(err)
	}
	// The same name stands for another text in every session.
	if _, err := conn.Prepare(ctx, "mine", fmt.Sprintf("select current_setting('app.worker')::int * 1000 + %d + $1", n)); err != nil {
		return "prepare: " + plain(err)
	}
	for i := range 20 {
		var got int
		if err := conn.QueryRow(ctx, "mine", i).Scan(&got); err != nil {
			return "query: " + plain(err)
		}
		if got != n*1000+n+i {
			return fmt.Sprintf("worker %d got %d", n, got)
		}
		if _, err := conn.Exec(ctx, "insert into sc values ($1, $2)", n, i); err != nil {
			return "insert: " + plain(err)
		}
	}
	return "right"
}
