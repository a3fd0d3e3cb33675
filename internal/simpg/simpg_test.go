package simpg

import (
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// client is a client of a server of the model.
type client struct {
	t     testing.TB
	front *pgproto3.Frontend
}

func dial(t testing.TB, s *Server, params map[string]string) *client {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() { s.Serve(far); close(done) }()
	t.Cleanup(func() { _ = near.Close(); <-done })
	c := &client{t, pgproto3.NewFrontend(near, near)}
	if params["user"] == "" {
		params = map[string]string{"user": Superuser, "database": "postgres"}
	}
	c.front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: params})
	c.flush()
	c.until("Z")
	return c
}

func (c *client) flush() {
	c.t.Helper()
	if err := c.front.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// query returns what a simple query answers, a line a message.
func (c *client) query(sql string) string {
	c.t.Helper()
	c.front.Send(&pgproto3.Query{String: sql})
	c.flush()
	return c.until("Z")
}

// until reads up to a message of the kind.
func (c *client) until(kind string) string {
	c.t.Helper()
	var lines []string
	for {
		m, err := c.front.Receive()
		if err != nil {
			c.t.Fatal(err)
		}
		l := line(m)
		if lines = append(lines, l); strings.HasPrefix(l, kind) {
			return strings.Join(lines, "\n")
		}
	}
}

// line writes a message for people.
func line(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.ReadyForQuery:
		return "Z " + string(m.TxStatus)
	case *pgproto3.DataRow:
		var parts []string
		for _, v := range m.Values {
			if v == nil {
				parts = append(parts, "NULL")
			} else {
				parts = append(parts, string(v))
			}
		}
		return "D " + strings.Join(parts, "|")
	case *pgproto3.CommandComplete:
		return "C " + string(m.CommandTag)
	case *pgproto3.ErrorResponse:
		return "E " + m.Severity + " " + m.Code + " " + m.Message
	case *pgproto3.NoticeResponse:
		return "N " + m.Severity + " " + m.Code + " " + m.Message
	case *pgproto3.RowDescription:
		return "T"
	case *pgproto3.ParameterStatus:
		return "S " + m.Name + "=" + m.Value
	}
	return ""
}

func TestSmoke(t *testing.T) {
	c, err := New(Options{Replicas: 1, Setup: "create table t (id serial primary key, v text); insert into t (v) values ('a'), ('b')"})
	if err != nil {
		t.Fatal(err)
	}
	k := dial(t, c.Primary(), nil)
	for _, q := range []string{"select 1, 'x' as y", "select * from t", "insert into t (v) values ('c') returning id", "select count(*) from t", "begin", "set local app.a = '7'", "select current_setting('app.a', true)",
		"update t set v = 'z' where id = 2 returning v", "rollback", "select * from t where id = 2", "show app.a", "select current_setting('app.a', true)", "select 1/0", "select nope", "select name, source from pg_settings where source = 'session'", "set work_mem = '7MB'; select name, setting from pg_settings where source = 'session'"} {
		t.Log(q + "\n" + k.query(q))
	}
	c.CatchUp()
	r := dial(t, c.Server("replica1"), nil)
	t.Log(r.query("select * from t"), r.query("insert into t values (9)"), r.query("select pg_is_in_recovery()"))
}
