package proxy_test

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/internal/wire"
)

// client states a service may be ended in.
var endedStates = []struct {
	name string
	idle bool // no transaction is open: Shutdown need not wait
	sql  []string
	last string // runs still when the end comes; empty for nothing
}{
	{"idle", true, nil, ""},
	{"idle, having worked", true, []string{"select 1"}, ""},
	{"listening", true, []string{"listen somewhere"}, ""},
	{"idle in a deferred transaction", false, []string{"begin"}, ""},
	{"idle in a transaction", false, []string{"begin", "create temp table x ()"}, ""},
	{"idle in a failed transaction", false, []string{"begin", "select 1/0"}, ""},
	{"running", false, nil, "/* pgweir:primary */ select pg_sleep(10)"},
	{"within COPY", false, []string{"create temp table y (a int)"}, "copy y from stdin"},
	{"not reading", false, nil, "select repeat('x', 1000) from generate_series(1, 200000)"},
}

// Close ends sessions whatever they are doing, and tells them so if they listen.
func TestClose(t *testing.T) {
	database := newDatabase(t, "")
	for _, state := range endedStates {
		t.Run(state.name, func(t *testing.T) {
			s := start(t)
			r := raw(t, s.addr, database)
			for _, sql := range state.sql {
				r.query(sql)
			}
			if state.last != "" {
				r.send(&pgproto3.Query{String: state.last})
				until(t, "it runs", func() bool { return s.metric(t, "pgweir_server_connections_in_use") > 0 })
			}
			began := time.Now()
			s.Close()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("Close took %v", took)
			}
			got := r.wait("end")
			if (state.last == "" || state.name == "running") && !slices.ContainsFunc(got, isFarewell) {
				t.Errorf("the client was told %q", tail(got))
			}
		})
	}
}

// Close cancels what runs on the servers, be it that it was only just sent: a server takes no
// notice of a request that it reads before the statement.
func TestCloseCancels(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t)
	var all []*rawConn
	for range 20 {
		r := raw(t, s.addr, database)
		r.query("select 1")
		all = append(all, r)
	}
	for _, r := range all {
		r.send(&pgproto3.Query{String: "/* pgweir:primary */ select pg_sleep(60)"})
	}
	s.Close()
	until(t, "nothing runs any more", func() bool {
		n, err := shared(t).Primary.Value(bounded(t, patience), database, "select count(*) from pg_stat_activity where datname = current_database() and query like '%pg_sleep(60)' and pid <> pg_backend_pid()")
		return err == nil && n == "0"
	})
	for _, r := range all {
		if got := r.wait("end"); !slices.ContainsFunc(got, isFarewell) {
			t.Errorf("a client was told %q", tail(got))
		}
	}
}

// A client that began a CopyData and sends no more of it holds up nobody's end.
func TestCloseWithinCopyData(t *testing.T) {
	database := newDatabase(t, "create table y (a int)")
	s := start(t)
	r := raw(t, s.addr, database)
	r.send(&pgproto3.Query{String: "copy y from stdin"})
	r.wait("G")
	if _, err := r.conn.Write([]byte{wire.CopyData, 0, 0, 0, 100, '1', '\n'}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { s.Close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the service does not end")
	}
	if got, err := shared(t).Primary.Value(bounded(t, patience), database, "select count(*) from y"); err != nil || got != "0" {
		t.Errorf("%s rows of a COPY that did not end, %v", got, err)
	}
}

// TestPanicEndsItsSession: a fault of the proxy's own ends the session it is in, is logged
// with where it was, and leaves no trace in others.
func TestPanicEndsItsSession(t *testing.T) {
	database := newDatabase(t, "create table kept (a int)")
	cfg := baseConfig(t)
	poolSize(1)(&cfg)
	cfg.Log.SlowStatement = time.Nanosecond
	var armed atomic.Bool
	var fault zapcore.Entry
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.WarnLevel), zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "slow statement" && armed.CompareAndSwap(true, false) {
			panic("planted")
		}
		if e.Level == zap.ErrorLevel {
			fault = e
		}
		return nil
	}))
	s := launchLogging(t, cfg, log)
	until(t, "all servers are up", func() bool { return s.metric(t, "pgweir_server_up") == float64(len(cfg.Servers)) })
	other, r := raw(t, s.addr, database), raw(t, s.addr, database)
	r.query("begin")
	r.query("insert into kept values (1)")
	r.query("set search_path = pg_catalog")
	armed.Store(true)
	r.send(&pgproto3.Query{String: "insert into kept values (2)"})
	if got := r.wait("end"); !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "E FATAL FATAL XX000") }) {
		t.Errorf("the client was told %q", got)
	}
	if got := other.query("insert into kept values (3)"); !slices.Contains(got, "C INSERT 0 1") {
		t.Errorf("another session: %q", got)
	}
	if got := other.query("show search_path"); !slices.Contains(got, `D "\"$user\", public"`) {
		t.Errorf("another session finds %q", got)
	}
	if got, err := shared(t).Primary.Value(bounded(t, patience), database, "select string_agg(a::text, ',') from kept"); err != nil || got != "3" {
		t.Errorf("kept are %s, %v", got, err)
	}
	if !strings.Contains(fault.Message, "fault of the proxy") {
		t.Errorf("logged was %+v", fault)
	}
}

// What runs when the service is ended by force does not run on at the servers.
func TestForcedEndCancels(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t)
	running := func() (n int) {
		t.Helper()
		for _, server := range shared(t).Servers() {
			v, err := server.Value(bounded(t, patience), database,
				"select count(*) from pg_stat_activity where state = 'active' and query like '%as forgotten'")
			must(t, err)
			i, err := strconv.Atoi(v)
			must(t, err)
			n += i
		}
		return n
	}
	var clients []*rawConn
	for _, sql := range []string{"/* pgweir:primary */ select pg_sleep(60) as forgotten", "select pg_sleep(60) as forgotten"} {
		inside, alone := raw(t, s.addr, database), raw(t, s.addr, database)
		inside.query("begin")
		inside.send(&pgproto3.Query{String: sql})
		alone.send(&pgproto3.Query{String: sql})
		clients = append(clients, inside, alone)
	}
	until(t, "all run", func() bool { return running() == len(clients) })
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the second signal
	s.Shutdown(ctx)
	until(t, "nothing runs", func() bool { return running() == 0 })
	for _, c := range clients {
		if got := c.wait("end"); !slices.ContainsFunc(got, isFarewell) {
			t.Errorf("a client was told %q", tail(got))
		}
	}
}

func isFarewell(line string) bool {
	return line == `E FATAL FATAL 57P01 "terminating connection due to administrator command"`
}

// Shutdown ends idle sessions at once and lets open transactions come to their end.
func TestShutdown(t *testing.T) {
	database := newDatabase(t, "create table kept (a int)")
	s := start(t)
	working := raw(t, s.addr, database)
	working.query("begin")
	working.query("insert into kept values (1)")
	var idle []*rawConn
	for _, state := range endedStates {
		if state.idle {
			r := raw(t, s.addr, database)
			for _, sql := range state.sql {
				r.query(sql)
			}
			idle = append(idle, r)
		}
	}
	ended := make(chan struct{})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.Shutdown(ctx)
		close(ended)
	}()
	for _, r := range idle {
		if got := r.wait("end"); !slices.ContainsFunc(got, isFarewell) {
			t.Errorf("an idle client was told %q", got)
		}
	}
	select {
	case <-ended:
		t.Error("a transaction was cut off")
	default:
	}
	if got := working.query("insert into kept values (2)"); !slices.Contains(got, "Z T") {
		t.Errorf("within the transaction: %q", got)
	}
	if got := working.query("commit"); !slices.Contains(got, "C COMMIT") {
		t.Errorf("its end: %q", got)
	}
	if got := working.wait("end"); !slices.ContainsFunc(got, isFarewell) {
		t.Errorf("afterwards it was told %q", got)
	}
	<-ended
	v, err := shared(t).Primary.Value(context.Background(), database, "select sum(a) from kept")
	if err != nil || v != "3" {
		t.Errorf("kept %s, %v", v, err)
	}
}
