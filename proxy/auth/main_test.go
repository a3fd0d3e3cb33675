package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

const testTimeout = 20 * time.Second

// errPsqlPassword is what psql says of 28P01: it does not print the code.
var errPsqlPassword = wire.Fatalf("28P01", "from psql")

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func mustNew(t testing.TB, cfg config.Auth, users map[string]config.User, conf *TLS, lookup Lookup) *Verifier {
	t.Helper()
	v, err := New(cfg, users, conf, Servers{Secret: lookup})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// front is a listener that logs clients in with a Verifier and does nothing more.
type front struct {
	v    *Verifier
	tls  *TLS
	addr string

	mu         sync.Mutex // protects the field below
	identities []Identity
}

func newFront(t testing.TB, v *Verifier, conf *TLS) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{v: v, tls: conf, addr: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return f
}

func (f *front) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	x := &netExchange{Conn: conn}
	for {
		m, err := pgproto3.NewBackend(x.Conn, x.Conn).ReceiveStartupMessage()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.SSLRequest:
			if f.tls == nil {
				_, _ = conn.Write([]byte("N"))
				continue
			}
			_, _ = conn.Write([]byte("S"))
			secured := tls.Server(conn, f.tls.Config())
			if secured.Handshake() != nil {
				return
			}
			conn, x.Conn = secured, secured
		case *pgproto3.GSSEncRequest:
			_, _ = conn.Write([]byte("N"))
		case *pgproto3.StartupMessage:
			f.logIn(x, m)
			return
		default:
			return
		}
	}
}

func (f *front) logIn(x *netExchange, m *pgproto3.StartupMessage) {
	id, err := f.v.Authenticate(context.Background(), Client{User: m.Parameters["user"], Database: m.Parameters["database"], Address: x.RemoteAddr().String()}, x)
	var toClient *wire.Error
	if errors.As(err, &toClient) {
		_, _ = x.Write(toClient.Append(nil))
		return
	}
	if err != nil {
		return
	}
	f.mu.Lock()
	f.identities = append(f.identities, id)
	f.mu.Unlock()
	frames, _ := (&pgproto3.AuthenticationOk{}).Encode(nil)
	frames, _ = (&pgproto3.ReadyForQuery{TxStatus: 'I'}).Encode(frames)
	_, _ = x.Write(frames)
	// The client says Terminate, or just goes.
	var b [64]byte
	for {
		if _, err := x.Read(b[:]); err != nil {
			return
		}
	}
}

// last is the newest identity.
func (f *front) last(t testing.TB) Identity {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.identities) == 0 {
		t.Fatal("nobody logged in")
	}
	return f.identities[len(f.identities)-1]
}

// connect is a client's login with pgconn.
func (f *front) connect(t testing.TB, user, password, options string) error {
	t.Helper()
	host, port, _ := net.SplitHostPort(f.addr)
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s dbname=d %s", host, port, options))
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Password = user, password
	conn, err := pgconn.ConnectConfig(testContext(t), cfg)
	if err == nil {
		_ = conn.Close(testContext(t))
	}
	return err
}

// netExchange is an Exchange over a connection.
type netExchange struct{ net.Conn }

func (x *netExchange) Send(frame []byte) error { _, err := x.Write(frame); return err }

func (x *netExchange) TLS() *tls.ConnectionState {
	secured, ok := x.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	s := secured.ConnectionState()
	return &s
}

func (x *netExchange) Receive() ([]byte, error) {
	var header [5]byte
	if _, err := readFull(x, header[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(header[1:])) - 4
	if header[0] != 'p' || size < 0 || size > MaxMessage {
		return nil, wire.Fatalf("08P01", "expected password response")
	}
	body := make([]byte, size)
	_, err := readFull(x, body)
	return body, err
}

func readFull(c net.Conn, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := c.Read(b[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// scripted is an Exchange without a connection: answer makes the client's next
// message from the server's latest.
type scripted struct {
	answer func(n int, last []byte) []byte
	state  *tls.ConnectionState
	n      int
	sent   [][]byte
}

func (x *scripted) Send(frame []byte) error {
	x.sent = append(x.sent, bytes.Clone(frame))
	return nil
}

func (x *scripted) Receive() ([]byte, error) {
	if len(x.sent) == 0 {
		return nil, errors.New("nothing was asked")
	}
	x.n++
	body := x.answer(x.n, x.sent[len(x.sent)-1])
	if body == nil {
		return nil, net.ErrClosed
	}
	return body, nil
}

func (x *scripted) TLS() *tls.ConnectionState { return x.state }

// code is the SQLSTATE of an error, whichever side it was seen on.
func code(err error) string {
	var toClient *wire.Error
	var fromServer *pgconn.PgError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &toClient):
		return toClient.Code
	case errors.As(err, &fromServer):
		return fromServer.Code
	}
	return err.Error()
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
