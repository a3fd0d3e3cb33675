package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/wire"
)

// victim is the other client of a proxy under fuzzing: it must not notice.
type victim struct {
	*service
	conn *pgx.Conn
}

func newVictim(f *testing.F) (v *victim, database string) {
	f.Helper()
	// What arbitrary bytes may do is bounded by what this role may.
	database = newDatabase(f, `do $$ begin create role fuzz login; exception when duplicate_object then null; end $$;
		alter role fuzz set statement_timeout = '2s'; create table t (a int); grant all on t to fuzz`)
	s := start(f, poolSize(2))
	return &victim{s, s.connect(f, database)}, database
}

// unharmed checks that the other client works and nothing is held by one who left.
func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var n int
	if err := v.conn.QueryRow(ctx, "select 41 + $1::int", 1).Scan(&n); err != nil || n != 42 {
		t.Fatalf("the other client: %d, %v", n, err)
	}
	until(t, "who sent it is gone", func() bool { return v.metric(t, "pgweir_clients") == 1 })
	until(t, "its connection is free", func() bool { return v.metric(t, "pgweir_server_connections_in_use") == 0 })
}

// throw writes bytes and no more, and reads until the proxy has nothing more to say.
func throw(t *testing.T, conn net.Conn, data []byte) (answer []byte) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var writer sync.WaitGroup
	writer.Go(func() {
		_, _ = conn.Write(data)
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	answer, err := io.ReadAll(conn)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the proxy hangs on %q", data)
	}
	_ = conn.Close()
	writer.Wait()
	return answer
}

// FuzzStartup: whatever a connection begins with, it ends, and nobody else notices.
func FuzzStartup(f *testing.F) {
	v, database := newVictim(f)
	login := hello(version32, "user", "fuzz", "database", database)
	for _, seed := range [][]byte{
		nil, withLength(0), withLength(1 << 30), packet(sslCode, ""), packet(gssCode, ""), packet(cancelCode, "12345678"),
		login, login[:20], join(packet(sslCode, ""), login), join(login, wire.AppendQuery(nil, "select 1")),
		hello(3<<16|9999, "user", "fuzz", "_pq_.x", "y"), hello(version30, "user", "fuzz", "database", database, "replication", "true"),
		hello(version30, "user", "fuzz", "database", database, "options", `-c a.b=\ c --d-e=f -x`), hello(2<<16, "x"),
		[]byte("\x16\x03\x01\x00\x05hello"), []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		throw(t, dial(t, v.addr), data)
		v.unharmed(t)
	})
}

// FuzzFrames: whatever follows a login, its session ends when the client does, what
// it is answered are whole frames, and nobody else notices.
func FuzzFrames(f *testing.F) {
	v, database := newVictim(f)
	q := func(sql string) []byte { return wire.AppendQuery(nil, sql) }
	prepared := join(wire.AppendParse(nil, "s", "select $1::int", nil), wire.AppendBind(nil, nil, "s", []byte("\x00\x00\x00\x01\x00\x00\x00\x015\x00\x00")),
		wire.AppendTarget(nil, wire.Describe, 'P', ""), wire.AppendExecute(nil, ""))
	sync := wire.AppendSync(nil)
	copying := q("copy t from stdin")
	for _, seed := range [][]byte{
		nil, q("select 1"), q(""), q("begin; select 1/0"), join(q("begin"), q("select 1"), q("commit")),
		join(q("begin"), q("insert into t values (1)"), q("savepoint a"), q("nonsense")),
		join(prepared, sync), join(prepared, prepared, sync), join(prepared, wire.AppendFrame(nil, 'H')), prepared,
		join(wire.AppendParse(nil, "", "nonsense", nil), wire.AppendBind(nil, nil, "", nil), wire.AppendExecute(nil, ""), sync, q("select 2")),
		join(prepared, q("select 1"), sync), join(wire.AppendTarget(nil, 'C', 'S', "s"), wire.AppendTarget(nil, 'D', 'S', "none"), sync),
		join(copying, wire.AppendFrame(nil, 'd', []byte("1\n")), wire.AppendFrame(nil, 'c'), q("select 1")),
		join(copying, wire.AppendFrame(nil, 'd', []byte("x\n")), sync, wire.AppendFrame(nil, 'f', []byte("no\x00"))),
		join(copying, q("select 1")), join(copying, wire.AppendFrame(nil, 'd', []byte("1\n"))), join(copying, []byte("d\x00\x00\x00\xffhalf")),
		q("copy (select 1) to stdout"), wire.AppendFrame(nil, 'F', []byte("\x00\x00\x05\x1d\x00\x00\x00\x00\x00\x00")),
		join(q("declare c cursor with hold for select 1"), q("listen x"), q("set work_mem = '1MB'"), q("create temp table z ()")),
		join(q("prepare p as select $1::int"), q("execute p (1)"), q("deallocate all"), q("discard all")),
		[]byte("Q\x00\x00\x00\x03"), []byte("Q\x7f\xff\xff\xff"), []byte("Q\x3f\xff\xff\xffselect"), []byte("S\x00\x01\x00\x00"), []byte("!\x00\x00\x00\x04"),
		[]byte("X\x00\x00\x00\x04"), []byte("P\x00\x00\x00\x08a\x00b\x00"), []byte("B\x00\x00\x00\x05\x00"), []byte("E\x00\x00\x00\x04"), []byte("D\x00\x00\x00\x06X\x00"),
	} {
		f.Add(seed)
		f.Add(join(q("begin"), q("insert into t values (2)"), seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(strings.ToLower(string(data)), "sleep") {
			return // may take long
		}
		conn := dial(t, v.addr)
		_, _ = conn.Write(hello(version30, "user", "fuzz", "database", database))
		front := pgproto3.NewFrontend(conn, nil)
		for {
			m, err := front.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := m.(*pgproto3.ReadyForQuery); ok {
				break
			}
		}
		whole(t, data, throw(t, conn, data))
		v.unharmed(t)
	})
}

// whole checks that an answer consists of whole frames.
func whole(t *testing.T, data, answer []byte) {
	t.Helper()
	for rest := answer; len(rest) > 0; {
		if len(rest) < wire.HeaderSize {
			t.Fatalf("%q is answered by %q, which ends within a frame", data, answer)
		}
		_, size, err := wire.PeekHeader(rest)
		if err != nil || size > len(rest) {
			t.Fatalf("%q is answered by %q, which ends within a frame", data, answer)
		}
		rest = rest[size:]
	}
}
