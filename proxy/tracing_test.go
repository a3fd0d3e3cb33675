package proxy_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/wire"
)

// spans is a collector's, by OTLP over HTTP or gRPC.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu  sync.Mutex // protects the fields below
	got []*otlp.Span
	raw bytes.Buffer // all that was received
	of  string       // the service
}

// Export implements the service of OTLP.
func (c *spans) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.WriteString(r.String())
	for _, of := range r.GetResourceSpans() {
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				c.of = a.GetValue().GetStringValue()
			}
		}
		for _, s := range of.GetScopeSpans() {
			c.got = append(c.got, s.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP takes what is exported over HTTP.
func (c *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	request := new(collector.ExportTraceServiceRequest)
	if err == nil && r.URL.Path == "/v1/traces" {
		err = proto.Unmarshal(body, request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, _ := c.Export(r.Context(), request)
	body, _ = proto.Marshal(answer)
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(body)
}

func collect(t *testing.T) *spans {
	t.Helper()
	c := new(spans)
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	return c
}

func tracing(c *config.Config) { c.Tracing.Enabled = true }

// traceparent is the n-th of the test, of a span of its own number.
func traceparent(n int) string { return fmt.Sprintf("00-%032x-%016x-01", n, n) }

// comment is it as libraries write it.
func comment(n int) string {
	return fmt.Sprintf(" /*framework='django%%3A5',route='%%2Forders',traceparent='%s'*/", traceparent(n))
}

// tree is the n-th trace: a span a line, in the order in which they began, those below it
// indented. It waits until all its statements are there.
func (c *spans) tree(t *testing.T, n, statements int) string {
	t.Helper()
	var b strings.Builder
	var write func(depth int, parent []byte) int
	write = func(depth int, parent []byte) (found int) {
		for _, s := range c.got {
			if !bytes.Equal(s.GetParentSpanId(), parent) || hex.EncodeToString(s.GetTraceId()) != fmt.Sprintf("%032x", n) {
				continue
			}
			found++
			fmt.Fprintf(&b, "%s%s", strings.Repeat("  ", depth), s.GetName())
			server := s.GetKind() == otlp.Span_SPAN_KIND_SERVER
			kind := strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_"))
			for _, key := range []string{"pgweir.target", "pgweir.reason", "error.type", "db.response.status_code"} {
				for _, a := range s.GetAttributes() {
					if a.GetKey() == key && (key != "pgweir.reason" || server) {
						kind += ", " + a.GetValue().GetStringValue()
					}
				}
			}
			fmt.Fprintf(&b, " (%s)\n", kind)
			write(depth+1, s.GetSpanId())
		}
		return found
	}
	found := 0
	until(t, fmt.Sprintf("trace %d has %d statements", n, statements), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		slices.SortStableFunc(c.got, func(a, b *otlp.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
		b.Reset()
		parent, _ := hex.DecodeString(fmt.Sprintf("%016x", n))
		found = write(0, parent)
		return found >= statements
	})
	require.Equal(t, statements, found, b.String())
	return b.String()
}

var steps = regexp.MustCompile(`(?m)^  .* \(internal\)\n`)

// servers is a tree without what came before a statement was sent: whether a connection has to
// be waited for depends on which replica it is.
func servers(tree string) string { return steps.ReplaceAllString(tree, "") }

// texts are the statements that spans tell of.
func (c *spans) texts() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.got {
		for _, a := range s.GetAttributes() {
			if a.GetKey() == "db.query.text" && !slices.Contains(all, a.GetValue().GetStringValue()) {
				all = append(all, a.GetValue().GetStringValue())
			}
		}
	}
	return all
}

const tracedTables = `create table orders (id int primary key, note text); insert into orders select i, 'n' || i from generate_series(1, 20) i;
	create sequence s; create function bump(x int) returns int volatile language sql as 'update orders set note = ''bumped'' where id = x returning id'`

// TestTracedRequest: a request as Django sends it, in a transaction that reads, must wait for a
// connection as it writes, and commits. Each statement is a span of the request's, and what it
// waited for and where it ran are below it.
func TestTracedRequest(t *testing.T) {
	c := collect(t)
	t.Setenv("OTEL_SERVICE_NAME", "shop-db")
	s := start(t, tracing, poolSize(1), eventual)
	db := newDatabase(t, tracedTables)
	ctx := t.Context()
	other, conn := s.connect(t, db), s.connect(t, db)
	exec := func(c *pgx.Conn, sql string) {
		t.Helper()
		_, err := c.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	exec(conn, "select count(*) from orders") // the catalog is known
	exec(other, "begin")
	exec(other, "update orders set note = 'x' where id = 1")
	released := make(chan struct{})
	exec(conn, "begin")
	exec(conn, "set local application_name = 'shop'"+comment(1))
	exec(conn, "SELECT note FROM orders WHERE id = 7 AND note <> 'secret-1'"+comment(1))
	go func() {
		defer close(released)
		until(t, "the update waits", func() bool { return s.metric(t, "pgweir_pool_waiting") > 0 })
		_, _ = other.Exec(ctx, "rollback", pgx.QueryExecModeSimpleProtocol)
	}()
	exec(conn, "UPDATE orders SET note = 'secret-2' WHERE id = 8"+comment(1))
	<-released
	exec(conn, "COMMIT"+comment(1))
	got := c.tree(t, 1, 4)
	require.Equal(t, `SET `+db+` (server, replica, setting)
  SET `+db+` (client, replica)
SELECT orders (server, replica, read)
  SELECT orders (client, replica)
UPDATE orders (server, primary, write)
  UPDATE orders (client, primary)
COMMIT `+db+` (server, primary, transaction)
  COMMIT `+db+` (client, primary)
`, servers(got))
	require.Contains(t, got, `UPDATE orders (server, primary, write)
  take over (internal)
  wait for a connection (internal)
  take over (internal)
  UPDATE orders (client, primary)
`)
	require.Contains(t, c.texts(), "SELECT note FROM orders WHERE id = $1 AND note <> $2")
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NotContains(t, c.raw.String(), "secret")
	require.Equal(t, "shop-db", c.of)
	for _, span := range c.got {
		require.LessOrEqual(t, span.GetStartTimeUnixNano(), span.GetEndTimeUnixNano())
		has := map[string]bool{}
		for _, a := range span.GetAttributes() {
			has[a.GetKey()] = true
		}
		if strings.Contains(span.GetName(), "orders") {
			require.True(t, has["db.system.name"] && has["db.namespace"] && has["db.operation.name"] && has["db.collection.name"], span)
			require.Equal(t, span.GetKind() == otlp.Span_SPAN_KIND_CLIENT, has["server.address"] && has["server.port"], span)
		}
	}
}

// TestTracedStatements: by every protocol and with every end, a traced statement is the span of
// who asked for it, and others are none.
func TestTracedStatements(t *testing.T) {
	c := collect(t)
	s := start(t, tracing, eventual, func(c *config.Config) { c.Pool.AcquireTimeout = 300 * time.Millisecond })
	db := newDatabase(t, tracedTables)
	ctx := t.Context()
	conn := s.connect(t, db)
	exec := func(sql string, args ...any) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	}
	simple := func(sql string) error { return exec(sql, pgx.QueryExecModeSimpleProtocol) }
	read := func(where string) string {
		return "SELECT orders (server, " + where + ")\n  SELECT orders (client, " + strings.Split(where, ",")[0] + ")\n"
	}
	require.NoError(t, simple("select count(*) from orders"))

	t.Run("none", func(t *testing.T) {
		require.NoError(t, simple("select * from orders where id = 1 /*traceparent='00-000000000000000000000000000000ff-00000000000000ff-00'*/"))
		require.NoError(t, simple("select * from orders where id = 1 /*traceparent='00-000000000000000000000000000000fe-0000000000000000-01'*/"))
		require.NoError(t, simple("select * from orders where note = '/*traceparent=''"+traceparent(0xfd)+"''*/'"))
		require.NoError(t, simple("select * from orders where id = 1"))
	})
	t.Run("extended", func(t *testing.T) {
		require.NoError(t, exec("select note from orders where id = $1"+comment(2), 1)) // parsed in a batch before
		require.NoError(t, exec("select note from orders where id = $1"+comment(2), pgx.QueryExecModeExec, 1))
		require.Equal(t, read("replica, read")+read("replica, read"), servers(c.tree(t, 2, 2)))
	})
	t.Run("in front, and as Rails writes it", func(t *testing.T) {
		require.NoError(t, simple("/*application='x',traceparent='"+traceparent(3)+"',tracestate='a%3Db'*/ select note from orders;\n"))
		require.NoError(t, simple("select note from orders /*application:x,traceparent:"+traceparent(3)+"*/"))
		require.Equal(t, read("replica, read")+read("replica, read"), servers(c.tree(t, 3, 2)))
	})
	t.Run("pipelined", func(t *testing.T) {
		var b pgx.Batch
		b.Queue("select note from orders where id = $1"+comment(4), 1)
		b.Queue("select note from orders where id = 1")
		b.Queue("select note from orders where id = 1 / $1"+comment(5), 0)
		b.Queue("select note from orders where id = 1" + comment(5)) // skipped
		err := conn.SendBatch(ctx, &b).Close()
		require.ErrorContains(t, err, "22012")
		require.Equal(t, read("replica, read"), servers(c.tree(t, 4, 1)))
		require.Equal(t, "SELECT orders (server, replica, read, 22012, 22012)\n  SELECT orders (client, replica, 22012, 22012)\n", servers(c.tree(t, 5, 1)))
	})
	t.Run("errors", func(t *testing.T) {
		require.Error(t, simple("select 'secret' from nowhere"+comment(6)))
		require.Error(t, exec("select 'secret'::int + x from orders"+comment(6)))
		require.Error(t, simple("selec 'secret'"+comment(6)))
		got := c.tree(t, 6, 3)
		for _, code := range []string{"42P01", "22P02", "42601"} {
			require.Contains(t, got, code)
		}
	})
	t.Run("by the setting", func(t *testing.T) {
		require.ErrorContains(t, simple("set pgweir.traceparent = 'secret'"), "22023")
		require.NoError(t, simple("begin"))
		require.NoError(t, simple("set local pgweir.traceparent = '"+traceparent(7)+"'"))
		var shown string
		require.NoError(t, conn.QueryRow(ctx, "show pgweir.traceparent").Scan(&shown))
		require.Equal(t, traceparent(7), shown)
		require.NoError(t, exec("select note from orders where id = $1", 1))
		require.NoError(t, simple("select note from orders"+comment(8)))
		require.NoError(t, simple("commit"))
		require.NoError(t, simple("select note from orders"))
		require.Contains(t, servers(c.tree(t, 8, 1)), read("replica, read"))
		require.Equal(t, 3, strings.Count(c.tree(t, 7, 3), "(server"), "SHOW, SELECT and COMMIT")

		var b pgx.Batch // which changes it on its way
		b.Queue("set pgweir.traceparent = '" + traceparent(9) + "'")
		b.Queue("select note from orders")
		b.Queue("reset pgweir.traceparent")
		require.NoError(t, conn.SendBatch(ctx, &b).Close())
		require.NoError(t, simple("select note from orders"))
		require.Contains(t, servers(c.tree(t, 9, 2)), read("replica, read"))
	})
	t.Run("canceled", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		victim := s.connect(t, db)
		_, err := victim.Exec(short, "select pg_sleep(20)"+comment(10), pgx.QueryExecModeSimpleProtocol)
		require.Error(t, err)
		require.Contains(t, c.tree(t, 10, 1), "57014")
	})
	t.Run("retried", func(t *testing.T) {
		require.NoError(t, simple("select bump(1) /* pgweir:replica */"+comment(11)))
		require.Equal(t, "SELECT "+db+` (server, primary, retried)
  SELECT `+db+` (client, replica, 25006, 25006)
  SELECT `+db+` (client, primary)
`, servers(c.tree(t, 11, 1)))
	})
	t.Run("copy", func(t *testing.T) {
		_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader("100\tsecret\n"), "copy orders from stdin"+comment(12))
		require.NoError(t, err)
		require.Equal(t, "COPY orders (server, primary, write)\n  COPY orders (client, primary)\n", servers(c.tree(t, 12, 1)))
	})
	t.Run("waits in vain", func(t *testing.T) {
		one := start(t, tracing, poolSize(1), func(c *config.Config) { c.Pool.AcquireTimeout = 100 * time.Millisecond })
		holder, victim := one.connect(t, db), one.connect(t, db)
		_, err := holder.Exec(ctx, "begin; update orders set note = 'y' where id = 2")
		require.NoError(t, err)
		_, err = victim.Exec(ctx, "update orders set note = 'z' where id = 3"+comment(13))
		require.ErrorContains(t, err, "53300")
		require.Equal(t, "UPDATE orders (server, proxy, 53300, 53300)\n  wait for a connection (internal)\n", c.tree(t, 13, 1))
	})
	t.Run("connection lost", func(t *testing.T) {
		victim := s.connect(t, db)
		go func() {
			until(t, "it runs", func() bool {
				n, _ := shared(t).Primary.Value(ctx, db, "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like '%pg_sleep(21)%' and pid <> pg_backend_pid()")
				return n != "0"
			})
		}()
		_, err := victim.Exec(ctx, "insert into orders select 200 from pg_sleep(21)"+comment(14), pgx.QueryExecModeSimpleProtocol)
		require.Error(t, err)
		require.Contains(t, c.tree(t, 14, 1), "57P01")
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NotContains(t, c.raw.String(), "secret")
	for _, span := range c.got {
		require.NotContains(t, []string{"ff", "fe", "fd"}, strings.TrimLeft(hex.EncodeToString(span.GetTraceId()), "0"), span.GetName())
	}
	require.Zero(t, s.metric(t, "pgweir_tracing_spans_total", "outcome=failed")+s.metric(t, "pgweir_tracing_spans_total", "outcome=dropped"))
}

// TestTracesByGRPC: the exporter is the one that the environment names.
func TestTracesByGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c, server := new(spans), grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	s := start(t, tracing)
	_, err = s.connect(t, newDatabase(t, tracedTables)).Exec(t.Context(), "select * from orders"+comment(1))
	require.NoError(t, err)
	s.Close() // which flushes
	require.Contains(t, c.tree(t, 1, 1), "SELECT orders (server")
	require.Equal(t, "pgweir", c.of)
}

// TestDeadCollector: a collector that answers nothing slows no statement and keeps nothing from
// ending; what it does not take is counted.
func TestDeadCollector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // and accepts nothing
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
	s := start(t, tracing)
	conn := s.connect(t, newDatabase(t, tracedTables))
	const statements = 100
	began := time.Now()
	for range statements {
		_, err := conn.Exec(t.Context(), "select 1 from orders limit 1"+comment(1))
		require.NoError(t, err)
	}
	require.Less(t, time.Since(began), 5*time.Second)
	outcome := func(name string) float64 { return s.metric(t, "pgweir_tracing_spans_total", "outcome="+name) }
	require.GreaterOrEqual(t, outcome("dropped"), float64(2*statements-16-8))
	began = time.Now()
	s.Close()
	require.Less(t, time.Since(began), 5*time.Second)
	until(t, "all are counted", func() bool { return outcome("dropped")+outcome("failed") >= 2*statements })
	require.NotZero(t, s.logs.FilterMessage("spans could not be exported").Len())
}

// TestTracingAllocates: a statement costs no allocation for tracing if that is off, or on and its
// trace not sampled.
func TestTracingAllocates(t *testing.T) {
	collect(t)
	db := newDatabase(t, tracedTables)
	perStatement := func(s *service) float64 {
		defer s.Close()
		conn, err := s.connect(t, db).PgConn().Hijack()
		require.NoError(t, err)
		defer func() { _ = conn.Conn.Close() }()
		frame := wire.AppendQuery(nil, "select note from orders where id = 7 /*route='%2Fx',traceparent='"+strings.TrimSuffix(traceparent(1), "1")+"0'*/")
		buf := make([]byte, 4096)
		ask := func(times int) {
			for range times {
				_, err := conn.Conn.Write(frame)
				require.NoError(t, err)
				for n := 0; n < 6 || string(buf[n-6:n]) != "Z\x00\x00\x00\x05I"; {
					more, err := conn.Conn.Read(buf[n:])
					require.NoError(t, err)
					n += more
				}
			}
		}
		ask(200)
		const times = 1000
		least := 1e9
		for range 5 { // what runs beside it allocates, too
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			ask(times)
			runtime.ReadMemStats(&after)
			least = min(least, float64(after.Mallocs-before.Mallocs)/times)
		}
		return least
	}
	usual := func(c *config.Config) { c.Settings.VerifyReleases, c.Routing.MonitorInterval = false, 5*time.Second }
	off, on := perStatement(start(t, eventual, usual)), perStatement(start(t, eventual, usual, tracing))
	t.Logf("allocations for each statement: %.2f off, %.2f on", off, on)
	require.InDelta(t, off, on, 0.5) // with the race detector something is allocated in any case
}
