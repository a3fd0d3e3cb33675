package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tracer stands in for the proxy: it sends every client to one server and says of
// each statement that it ran there, as a replica.
type tracer struct {
	listener net.Listener
	server   string
	wg       sync.WaitGroup
}

func startTracer(_ context.Context, cfg config.Config) (*Proxy, error) {
	l, err := net.Listen("tcp", cfg.Listen[0])
	if err != nil {
		return nil, err
	}
	tr := &tracer{listener: l, server: cfg.Clusters["default"].Servers[0].Address}
	tr.wg.Go(tr.accept)
	return &Proxy{Stop: func(context.Context) error {
		err := l.Close()
		tr.wg.Wait()
		return err
	}}, nil
}

func (tr *tracer) accept() {
	for {
		client, err := tr.listener.Accept()
		if err != nil {
			return
		}
		tr.wg.Go(func() { tr.serve(client) })
	}
}

func (tr *tracer) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", tr.server)
	if err != nil {
		return
	}
	defer server.Close()
	tr.wg.Go(func() {
		front := pgproto3.NewFrontend(server, nil)
		back := pgproto3.NewBackend(nil, client)
		for {
			m, err := front.Receive()
			if err != nil {
				return
			}
			if _, ok := m.(*pgproto3.CommandComplete); ok {
				back.Send(&pgproto3.NoticeResponse{
					Severity: "NOTICE", Code: "00000",
					Message: fmt.Sprintf("pgweir: %s replica read 312µs", tr.server),
				})
			}
			back.Send(m)
			if back.Flush() != nil {
				return
			}
		}
	})
	buf := make([]byte, 4096)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestOnce(t *testing.T) {
	pgtest.SkipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	o := Options{Listen: freeAddress(t), HTTP: freeAddress(t), Rows: 2000, Once: true, Out: &out, Start: startTracer}
	require.NoError(t, Run(ctx, o))
	text := out.String()
	for _, want := range []string{
		"2000 deliveries",
		"role replica, reason: read, 312µs",
		"ran on primary (127.0.0.1:",
		"| 1 | Alder Parcels | basic",
		"| Cedar Freight | plus",
		"| D-000001",
		"| 1 | 800 |", // 40 of 100 couriers
		"| 2 | 600 |",
		"select name from organizations where id = $1 -- $1 is 4",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "no trace")
	require.NotContains(t, text, "\x1b[")
	for i := range stops {
		require.Contains(t, text, fmt.Sprintf("\n%2d. ", i+1))
	}
}

// announcer ends the demo once it says how to go on by hand.
type announcer struct {
	bytes.Buffer
	end context.CancelFunc
}

func (a *announcer) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "/metrics") {
		a.end()
	}
	return a.Buffer.Write(b)
}

func TestStaysUpUntilTheEndOfTheContext(t *testing.T) {
	pgtest.SkipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx, end := context.WithCancel(ctx)
	out := &announcer{end: end}
	stopped := false
	o := Options{Listen: freeAddress(t), HTTP: freeAddress(t), Rows: 10, Out: out}
	o.Start = func(ctx context.Context, cfg config.Config) (*Proxy, error) {
		proxy, err := startTracer(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return &Proxy{Stop: func(ctx context.Context) error {
			stopped = ctx.Err() == nil
			return proxy.Stop(ctx)
		}}, nil
	}
	require.NoError(t, Run(ctx, o))
	require.True(t, stopped, "the proxy was not given time to stop")
	host, port, _ := strings.Cut(o.Listen, ":")
	require.Contains(t, out.String(), fmt.Sprintf("psql \"host=%s port=%s user=fleet_app dbname=fleet\"", host, port))
	require.Contains(t, out.String(), "stopping")
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	used := l.Addr().String()
	err = Run(t.Context(), Options{Listen: used, Rows: 1, Out: &bytes.Buffer{}})
	require.EqualError(t, err, used+" is in use: stop what listens there, or choose another address with --listen")
	err = Run(t.Context(), Options{Listen: "127.0.0.1:0", HTTP: used, Rows: 1, Out: &bytes.Buffer{}})
	require.ErrorContains(t, err, "--http")
	require.Error(t, Run(t.Context(), Options{Listen: "127.0.0.1:0", Out: &bytes.Buffer{}}))
}

func TestProxyFailure(t *testing.T) {
	pgtest.SkipShort(t)
	broken := errors.New("broken")
	o := Options{Listen: freeAddress(t), Rows: 10, Once: true, Out: &bytes.Buffer{}}
	o.Start = func(context.Context, config.Config) (*Proxy, error) { return nil, broken }
	require.ErrorIs(t, Run(t.Context(), o), broken)
}

func TestParseTrace(t *testing.T) {
	for message, want := range map[string]ran{
		"pgweir: 127.0.0.1:5433 replica read 312µs":     {"127.0.0.1:5433", "replica", "read", 312 * time.Microsecond},
		"pgweir: proxy - deferred 3µs":                  {"proxy", "-", "deferred", 3 * time.Microsecond},
		"pgweir: /run/pg:5432 primary row lock 12000µs": {"/run/pg:5432", "primary", "row lock", 12 * time.Millisecond},
	} {
		got, ok := parseTrace(message)
		require.True(t, ok, message)
		require.Equal(t, want, got)
	}
	for _, message := range []string{"", "pgweir: proxy -", "relation exists", "pgweir: a b c 1s"} {
		_, ok := parseTrace(message)
		require.False(t, ok, message)
	}
}
