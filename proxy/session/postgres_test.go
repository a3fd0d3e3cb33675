package session_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/pgweir/pgweir/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

// The model the other tests trust is PostgreSQL's session: random histories give the same
// command tags and errors, and after each batch the same settings and modes are in force.
// For more of them say -rapid.checks=10000.
func TestModelOnServer(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{})
	rapid.Check(t, func(t *rapid.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		startup := values{}
		options := ""
		if rapid.Bool().Draw(t, "startup settings") {
			startup = values{"app.b": "at start", "work_mem": "3MB", "application_name": "starts"}
			options = `-c app.b=at\ start -c work_mem=3MB -c application_name=starts`
		}
		s := dial(ctx, t, cluster.Primary.ConnString("postgres", pgtest.Superuser), options)
		defer s.conn.Close(ctx)
		m := newModel(startup, startup)
		for range rapid.IntRange(1, 30).Draw(t, "batches") {
			b := genBatch(t)
			if slices.ContainsFunc(b.ops, func(o op) bool { return o.name == own }) {
				continue
			}
			t.Log(b)
			want := m.do(b)
			status := m.sync()
			if got := s.do(ctx, t, b); !slices.Equal(got, want) || s.conn.TxStatus() != status {
				t.Fatalf("%s\nanswers %q, %c; the model %q, %c", b, got, s.conn.TxStatus(), want, status)
			}
			if status != 'E' {
				s.compare(ctx, t, m)
			}
		}
	})
}

// server is a session on a real one.
type server struct {
	conn     *pgconn.PgConn
	defaults values
}

func dial(ctx context.Context, t *rapid.T, where, options string) *server {
	config, err := pgconn.ParseConfig(where)
	if err != nil {
		t.Fatal(err)
	}
	delete(config.RuntimeParams, "application_name")
	plain, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close(ctx)
	s := &server{conn: plain, defaults: values{}}
	for _, name := range settableNames() {
		if !strings.Contains(name, ".") {
			s.defaults[name] = s.show(ctx, t, name)
		}
	}
	if options != "" {
		config.RuntimeParams["options"] = options
	}
	if s.conn, err = pgconn.ConnectConfig(ctx, config); err != nil {
		t.Fatal(err)
	}
	// SHOW fails for a custom setting that was never set, and SELECT takes a snapshot.
	if _, err := s.conn.Exec(ctx, "begin; set local app.a = ''; set local app.b = ''; rollback").ReadAll(); err != nil {
		t.Fatal(err)
	}
	return s
}

func settableNames() (names []string) {
	for _, s := range settable {
		names = append(names, s.name)
	}
	return names
}

func (s *server) show(ctx context.Context, t *rapid.T, name string) string {
	r, err := s.conn.Exec(ctx, "show "+name).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return string(r[0].Rows[0][0])
}

// do sends a batch and returns its command tags and errors.
func (s *server) do(ctx context.Context, t *rapid.T, b batch) (answers []string) {
	var results *pgconn.MultiResultReader
	if b.pipeline {
		var p pgconn.Batch
		for _, o := range b.ops {
			var params [][]byte
			for _, v := range o.params {
				params = append(params, []byte(v))
			}
			p.ExecParams(o.text, params, nil, nil, nil)
		}
		results = s.conn.ExecBatch(ctx, &p)
	} else {
		results = s.conn.Exec(ctx, b.String())
	}
	for results.NextResult() {
		tag, err := results.ResultReader().Close()
		if err == nil {
			answers = append(answers, tag.String())
		}
	}
	err := results.Close()
	if refused, ok := err.(*pgconn.PgError); ok {
		return append(answers, refused.Code)
	}
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

// compare looks whether what is in force is what the model says.
func (s *server) compare(ctx context.Context, t *rapid.T, m *model) {
	var got, want []string
	for _, name := range settableNames() {
		value, ok := m.now[name]
		if !ok {
			value = s.defaults[name]
		}
		got, want = append(got, name+"="+s.show(ctx, t, name)), append(want, name+"="+value)
	}
	got = append(got, fmt.Sprint(modes{s.show(ctx, t, "transaction_isolation"), s.show(ctx, t, "transaction_read_only"), s.show(ctx, t, "transaction_deferrable")}))
	want = append(want, fmt.Sprint(m.modes))
	if !slices.Equal(got, want) {
		t.Fatalf("in force %q; the model %q", got, want)
	}
}
