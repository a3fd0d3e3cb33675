package simpg

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// bubble runs f with a cluster in a bubble of virtual time.
func bubble(t *testing.T, o Options, f func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(t, c)
	})
}

// want fails unless a query's answer has the part.
func (c *client) want(sql, part string) {
	c.t.Helper()
	if got := c.query(sql); !strings.Contains(got, part) {
		c.t.Errorf("%s\n%s\nwithout %q", sql, got, part)
	}
}

// start sends a query and goes on when its server waits for something.
func (c *client) start(sql string) {
	c.t.Helper()
	c.front.Send(&pgproto3.Query{String: sql})
	c.flush()
	synctest.Wait()
}

// hears fails unless what comes up to a message of the kind has the part.
func (c *client) hears(kind, part string) {
	c.t.Helper()
	if got := c.until(kind); !strings.Contains(got, part) {
		c.t.Errorf("%s\nwithout %q", got, part)
	}
}

const oneTable = "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')"

func TestReplay(t *testing.T) {
	bubble(t, Options{Replicas: 2, Setup: oneTable}, func(t *testing.T, c *Cluster) {
		one, two := c.Server("replica1"), c.Server("replica2")
		one.Lag(300 * time.Millisecond)
		two.Pause(true)
		k, r1, r2 := dial(t, c.Primary(), nil), dial(t, one, nil), dial(t, two, nil)
		k.want("insert into t values (3, 'c')", "INSERT 0 1")
		at := c.Primary().Replayed()
		time.Sleep(299 * time.Millisecond)
		r1.want("select count(*) from t", "D 2")
		if one.Replayed() >= at {
			t.Error("replayed too early")
		}
		time.Sleep(2 * time.Millisecond)
		r1.want("select count(*) from t", "D 3")
		if one.Replayed() != at {
			t.Errorf("%v replayed of %v", one.Replayed(), at)
		}
		r2.want("select count(*) from t", "D 2")
		two.Pause(false)
		r2.want("select count(*) from t", "D 3")
		two.Cut(true)
		k.want("delete from t", "DELETE 3")
		time.Sleep(time.Hour)
		r2.want("select count(*) from t", "D 3")
		r1.want("begin isolation level repeatable read", "BEGIN")
		r1.want("select count(*) from t", "D 0")
		k.want("insert into t values (4, 'd')", "INSERT 0 1")
		time.Sleep(time.Second)
		r1.want("select count(*) from t", "D 0")
		r1.want("commit", "COMMIT")
		r1.want("select count(*) from t", "D 1")
		r1.want("begin isolation level serializable; select 1", "0A000")
		r1.want("rollback; begin read write", "0A000")
	})
}

// What is not flushed is lost by a crash; what was acknowledged with synchronous_commit on is not.
func TestCrash(t *testing.T) {
	bubble(t, Options{Replicas: 1, Setup: oneTable}, func(t *testing.T, c *Cluster) {
		p := c.Primary()
		k := dial(t, p, nil)
		k.want("insert into t values (3, 'kept')", "INSERT")
		k.want("set synchronous_commit = off; insert into t values (4, 'lost')", "INSERT")
		k.want("select pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()", "D t")
		p.Crash()
		if _, err := k.front.Receive(); err == nil {
			t.Error("a client was told of a crash")
		}
		p.Start()
		k = dial(t, p, nil)
		k.want("select v from t where id > 2", "D kept")
		k.want("select count(*) from t", "D 3")
		k.want("set synchronous_commit = off; insert into t values (5, 'late')", "INSERT")
		time.Sleep(3 * walWriterDelay)
		p.Crash()
		p.Start()
		dial(t, p, nil).want("select count(*) from t where id = 5", "D 1")
	})
}

// A promoted standby has what it received, on a timeline of its own; sequences go on
// behind what may have been given out.
func TestPromote(t *testing.T) {
	bubble(t, Options{Replicas: 2, Setup: oneTable + "; create sequence s"}, func(t *testing.T, c *Cluster) {
		p, one, two := c.Primary(), c.Server("replica1"), c.Server("replica2")
		k := dial(t, p, nil)
		k.want("select nextval('s')", "D 1")
		one.Lag(time.Hour)
		k.want("insert into t values (3, 'c')", "INSERT")
		two.Cut(true)
		k.want("insert into t values (4, 'd')", "INSERT")
		r := dial(t, one, nil)
		r.want("select count(*) from t", "D 2")
		p.Crash()
		one.Promote()
		if one.Timeline() != 2 || c.Primary() != one {
			t.Errorf("timeline %d, primary %v", one.Timeline(), c.Primary())
		}
		r.want("select count(*) from t", "D 4")
		r.want("insert into t values (5, 'e')", "INSERT")
		r.want("select nextval('s')", "D 34")
		p.Start()
		old := dial(t, p, nil)
		old.want("insert into t values (6, 'on the old line')", "INSERT")
		p.Stop()
		old.hears("E", "57P01")
		p.Follow(one)
		p.Start()
		dial(t, p, nil).want("select string_agg(id::text, ',' order by id) from t", "D 1,2,3,4,5")
		two.Cut(false)
		time.Sleep(time.Second)
		dial(t, two, nil).want("select count(*) from t where id > 3", "D 2") // by way of the old one
	})
}

func TestSynchronous(t *testing.T) {
	bubble(t, Options{Replicas: 1, Setup: "set synchronous_commit = local; " + oneTable, Synchronous: []string{"replica1"}}, func(t *testing.T, c *Cluster) {
		c.Server("replica1").Lag(200 * time.Millisecond)
		k := dial(t, c.Primary(), nil)
		began := time.Now()
		k.want("set synchronous_commit = remote_apply; insert into t values (3, 'c')", "INSERT 0 1")
		if waited := time.Since(began); waited < 200*time.Millisecond || waited > 210*time.Millisecond {
			t.Errorf("waited %v", waited)
		}
		dial(t, c.Server("replica1"), nil).want("select count(*) from t", "D 3")
		c.Server("replica1").Cut(true)
		k.start("set synchronous_commit = on; insert into t values (4, 'd')")
		c.Primary().Cancel(c.Primary().Sessions()[0])
		if got := k.until("Z"); !strings.Contains(got, "N WARNING 01000 canceling wait") || !strings.Contains(got, "INSERT 0 1") {
			t.Error(got)
		}
	})
}

func TestLocks(t *testing.T) {
	bubble(t, Options{Setup: oneTable}, func(t *testing.T, c *Cluster) {
		p := c.Primary()
		a, b := dial(t, p, nil), dial(t, p, nil)
		// READ COMMITTED looks again at what another changed.
		a.want("begin; update t set v = 'changed' where id = 1", "UPDATE 1")
		b.start("update t set v = v || '!' where v = 'changed' or id = 1 returning v")
		a.want("commit", "COMMIT")
		b.hears("Z", "D changed!")
		// REPEATABLE READ fails.
		b.want("begin isolation level repeatable read; select 1 from t", "SELECT")
		a.want("update t set v = 'z' where id = 2", "UPDATE 1")
		b.want("update t set v = 'y' where id = 2", "40001")
		b.want("rollback", "ROLLBACK")
		// Two wait for each other.
		a.want("begin; update t set v = 'a' where id = 1", "UPDATE 1")
		b.want("begin; update t set v = 'b' where id = 2", "UPDATE 1")
		a.start("update t set v = 'a' where id = 2")
		b.want("update t set v = 'b' where id = 1", "40P01")
		a.hears("Z", "UPDATE 1")
		a.want("commit", "COMMIT")
		b.want("rollback", "ROLLBACK")
		// A key another is about to have.
		a.want("begin; insert into t values (9, 'first')", "INSERT")
		b.start("insert into t values (9, 'second')")
		a.want("rollback", "ROLLBACK")
		b.hears("Z", "INSERT 0 1")
		a.want("insert into t values (9, 'third') on conflict (id) do update set v = t.v || '+' || excluded.v returning v", "D second+third")
		// Advisory locks, and statements that are canceled or too slow.
		a.want("select pg_advisory_lock(1)", "SELECT 1")
		b.start("select pg_advisory_lock(1)")
		p.Cancel(p.Sessions()[1])
		b.hears("Z", "57014 canceling statement due to user request")
		began := time.Now()
		b.want("set statement_timeout = 50", "SET")
		b.want("select pg_advisory_lock(1)", "57014 canceling statement due to statement timeout")
		b.want("select pg_sleep(9)", "57014")
		if d := time.Since(began); d != 100*time.Millisecond {
			t.Errorf("%v", d)
		}
		p.Cancel(p.Sessions()[1]) // nothing runs
		b.want("select 1", "D 1")
	})
}

func TestInterrupts(t *testing.T) {
	bubble(t, Options{Replicas: 1, Setup: oneTable, Slots: 3}, func(t *testing.T, c *Cluster) {
		p := c.Primary()
		a, b := dial(t, p, nil), dial(t, p, nil)
		a.want("listen news", "LISTEN")
		b.want("notify news, 'one'", "NOTIFY")
		if m, err := a.front.Receive(); err != nil || m.(*pgproto3.NotificationResponse).Payload != "one" {
			t.Errorf("%v %v", m, err)
		}
		a.want("begin", "BEGIN")
		b.want("notify news, 'two'", "NOTIFY")
		a.want("select 1", "D 1")
		a.front.Send(&pgproto3.Query{String: "commit"})
		a.flush()
		if m, _ := a.front.Receive(); line(m) != "C COMMIT" {
			t.Error(line(m))
		}
		if m, err := a.front.Receive(); err != nil || m.(*pgproto3.NotificationResponse).Payload != "two" {
			t.Errorf("%v %v", m, err)
		}
		a.until("Z")
		p.Terminate(p.Sessions()[0])
		a.hears("E", "57P01")
		b.want("set idle_session_timeout = 1000", "SET")
		time.Sleep(1001 * time.Millisecond)
		b.hears("E", "57P05")
		synctest.Wait()
		r := dial(t, c.Server("replica1"), nil)
		r.want("begin; select 1 from t", "SELECT")
		c.Server("replica1").Conflict(c.Server("replica1").Sessions()[0])
		r.hears("E", "FATAL 40001")
		for range 3 {
			dial(t, p, nil)
		}
		if err := refused(p); err != "53300" {
			t.Error(err)
		}
		p.Slots(-1)
		p.Starting(true)
		if err := refused(p); err != "57P03" {
			t.Error(err)
		}
	})
}

// refused is the code of the error that a login gets.
func refused(s *Server) string {
	near, far := net.Pipe()
	go s.Serve(far)
	defer near.Close()
	front := pgproto3.NewFrontend(near, near)
	front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": Superuser}})
	_ = front.Flush()
	for {
		switch m, err := front.Receive(); m := m.(type) {
		case *pgproto3.ErrorResponse:
			return m.Code
		case *pgproto3.ReadyForQuery:
			return "let in"
		default:
			if err != nil {
				return err.Error()
			}
		}
	}
}

// A driver logs in with a password, and cancels.
func TestPassword(t *testing.T) {
	c, err := New(Options{SCRAM: true, Iterations: 1, Setup: "create role u login password 'secret'"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	connect := func(password string) (*pgconn.PgConn, error) {
		cfg, err := pgconn.ParseConfig("host=h user=u dbname=postgres sslmode=disable password=" + password)
		if err != nil {
			t.Fatal(err)
		}
		cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
		cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go c.Primary().Serve(far)
			return near, nil
		}
		return pgconn.ConnectConfig(t.Context(), cfg)
	}
	if _, err := connect("wrong"); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Error(err)
	}
	k, err := connect("secret")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close(context.Background())
	done := make(chan error)
	go func() {
		_, err := k.Exec(context.Background(), "select pg_sleep(100)").ReadAll()
		done <- err
	}()
	for {
		if err := k.CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "57014") {
				t.Error(err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
