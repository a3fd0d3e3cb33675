package backend

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/scram"
)

// ask runs one simple query and returns the first column of its first row.
func ask(t *testing.T, l *Login, sql string) string {
	t.Helper()
	if err := l.send(&pgproto3.Query{String: sql}); err != nil {
		t.Fatal(err)
	}
	value := ""
	for {
		typ, body, err := l.receive()
		if err != nil {
			t.Fatal(err)
		}
		switch typ {
		case 'D':
			var row pgproto3.DataRow
			if err := row.Decode(body); err != nil {
				t.Fatal(err)
			}
			value = string(row.Values[0])
		case 'Z':
			return value
		}
	}
}

// receiveUntil reads messages up to one of the type, or an error.
func (l *Login) receiveUntil(want byte) (byte, []byte, error) {
	for {
		typ, body, err := l.receive()
		if err != nil || typ == want {
			return typ, body, err
		}
	}
}

// splice joins a connection to an address until either side ends.
func splice(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
	client.Close()
	<-done
}

// script is a server that plays one connection.
func script(t *testing.T, play func(conn net.Conn)) Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			play(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return Address{Host: "127.0.0.1", Port: uint16(l.Addr().(*net.TCPAddr).Port)}
}

// startup plays a server's part up to the startup message and then sends messages.
func startup(conn net.Conn, messages ...pgproto3.BackendMessage) *pgproto3.Backend {
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return b
	}
	for _, m := range messages {
		b.Send(m)
	}
	_ = b.Flush()
	return b
}

func TestServersThatMisbehave(t *testing.T) {
	ok := &pgproto3.AuthenticationOk{}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	sasl := &pgproto3.AuthenticationSASL{AuthMechanisms: []string{scram.SHA256}}
	for name, c := range map[string]struct {
		messages []pgproto3.BackendMessage
		want     string
	}{
		"ready before accepted":    {[]pgproto3.BackendMessage{ready}, "before it accepted"},
		"accepts amid SCRAM":       {[]pgproto3.BackendMessage{sasl, ok, ready}, "did not finish"},
		"final before challenge":   {[]pgproto3.BackendMessage{sasl, &pgproto3.AuthenticationSASLFinal{Data: []byte("v=AAAA")}}, "signature"},
		"challenge without SASL":   {[]pgproto3.BackendMessage{&pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=AA==,i=1")}}, "out of order"},
		"nonce of its own":         {[]pgproto3.BackendMessage{sasl, &pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=AAAA,i=1")}}, "nonce"},
		"garbage challenge":        {[]pgproto3.BackendMessage{sasl, &pgproto3.AuthenticationSASLContinue{Data: []byte("hello")}}, "malformed"},
		"unknown mechanism":        {[]pgproto3.BackendMessage{&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"OAUTHBEARER"}}}, "mechanisms"},
		"unsupported method":       {[]pgproto3.BackendMessage{&pgproto3.AuthenticationGSS{}}, "not supported"},
		"asks again":               {[]pgproto3.BackendMessage{ok, &pgproto3.AuthenticationCleartextPassword{}}, "after it accepted"},
		"unexpected message":       {[]pgproto3.BackendMessage{ok, &pgproto3.DataRow{}}, "unexpected message"},
		"hangs up":                 {nil, "closed the connection"},
		"hangs up after accepting": {[]pgproto3.BackendMessage{ok}, "closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := script(t, func(conn net.Conn) {
				startup(conn, c.messages...)
				if c.messages != nil {
					// Unread input would turn the close into a reset that overtakes the messages.
					_ = conn.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, conn)
				}
			})
			_, err := Open(testContext(t), Options{Address: addr}, Credentials{User: "u", Password: "p"}, "d", nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestRogueServer has no secret and still ends the SCRAM exchange in its favour.
func TestRogueServer(t *testing.T) {
	addr := script(t, func(conn net.Conn) {
		b := startup(conn, &pgproto3.AuthenticationSASL{AuthMechanisms: []string{scram.SHA256}})
		_ = b.SetAuthType(pgproto3.AuthTypeSASL)
		m, err := b.Receive()
		first, ok := m.(*pgproto3.SASLInitialResponse)
		if err != nil || !ok {
			return
		}
		_, nonce, _ := strings.Cut(string(first.Data), "r=")
		b.Send(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=" + nonce + "x,s=AAAA,i=4096")})
		_ = b.Flush()
		_ = b.SetAuthType(pgproto3.AuthTypeSASLContinue)
		if _, err := b.Receive(); err != nil {
			return
		}
		b.Send(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=" + strings.Repeat("A", 43) + "=")})
		b.Send(&pgproto3.AuthenticationOk{})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		_ = b.Flush()
		_, _ = io.Copy(io.Discard, conn)
	})
	_, err := Open(testContext(t), Options{Address: addr}, Credentials{User: "u", Password: "p"}, "d", nil)
	if err == nil || !strings.Contains(err.Error(), "signature is wrong") {
		t.Errorf("error %v", err)
	}
}

// TestNothingReadAhead sends more right behind ReadyForQuery.
func TestNothingReadAhead(t *testing.T) {
	addr := script(t, func(conn net.Conn) {
		startup(conn, &pgproto3.NegotiateProtocolVersion{}, &pgproto3.NoticeResponse{Message: "hello"},
			&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "a", Value: "b"},
			&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte(strings.Repeat("k", 256))},
			&pgproto3.ReadyForQuery{TxStatus: 'I'}, &pgproto3.ParameterStatus{Name: "late", Value: "c"})
		_, _ = io.Copy(io.Discard, conn)
	})
	l, err := Open(testContext(t), Options{Address: addr}, Credentials{User: "u"}, "d", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Conn.Close()
	if l.PID != 7 || len(l.Key) != 256 || l.Parameters["a"] != "b" || len(l.Parameters) != 1 {
		t.Errorf("%+v", l)
	}
	if typ, body, err := l.receive(); err != nil || typ != 'S' || string(body) != "late\x00c\x00" {
		t.Errorf("after the login: %q %q %v", typ, body, err)
	}
}

func TestServerWithoutTLS(t *testing.T) {
	for mode, ok := range map[string]bool{"disable": true, "allow": true, "prefer": true, "require": false, "verify-ca": false, "verify-full": false} {
		connections := 0
		addr := script(t, func(conn net.Conn) {
			connections++
			b := pgproto3.NewBackend(conn, conn)
			m, err := b.ReceiveStartupMessage()
			if _, isTLS := m.(*pgproto3.SSLRequest); isTLS && err == nil {
				_, _ = conn.Write([]byte("N"))
				if _, err = b.ReceiveStartupMessage(); err != nil {
					return
				}
			}
			b.Send(&pgproto3.AuthenticationOk{})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			_ = b.Flush()
		})
		l, err := Open(testContext(t), Options{Address: addr, TLS: mustTLS(t, config.ServerTLS{Mode: mode})}, Credentials{User: "u"}, "d", nil)
		if (err == nil) != ok {
			t.Errorf("%s: %v", mode, err)
		}
		if err == nil {
			l.Conn.Close()
		}
		if connections != 1 {
			t.Errorf("%s: %d connections", mode, connections)
		}
	}
}

// TestErrorInPlaceOfTLS: a server out of slots may answer the request itself.
func TestErrorInPlaceOfTLS(t *testing.T) {
	addr := script(t, func(conn net.Conn) {
		b := pgproto3.NewBackend(conn, conn)
		_, _ = b.ReceiveStartupMessage()
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", Message: "too many clients"})
		_ = b.Flush()
	})
	var refused *pgconn.PgError
	_, err := Open(testContext(t), Options{Address: addr, TLS: mustTLS(t, config.ServerTLS{})}, Credentials{User: "u"}, "d", nil)
	if !errors.As(err, &refused) || refused.Code != "53300" {
		t.Errorf("mode prefer: %v", err)
	}
	_, err = Open(testContext(t), Options{Address: addr, TLS: mustTLS(t, config.ServerTLS{Mode: "require"})}, Credentials{User: "u"}, "d", nil)
	if err == nil || errors.As(err, &refused) && strings.Contains(err.Error(), "too many") {
		t.Errorf("mode require believes an error from nobody proven: %v", err)
	}
}

// TestContext ends the context at each step at which a server can fall silent.
func TestContext(t *testing.T) {
	for name, speak := range map[string]func(net.Conn){
		"before TLS":      func(net.Conn) {},
		"in the TLS":      func(conn net.Conn) { _, _ = conn.Write([]byte("S")) },
		"after the login": func(conn net.Conn) { _, _ = conn.Write([]byte("N")); startup(conn, &pgproto3.AuthenticationOk{}) },
	} {
		t.Run(name, func(t *testing.T) {
			reached := make(chan struct{})
			addr := script(t, func(conn net.Conn) {
				var request [8]byte
				if _, err := io.ReadFull(conn, request[:]); err != nil {
					return
				}
				speak(conn)
				close(reached)
				_, _ = io.Copy(io.Discard, conn)
			})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() { <-reached; cancel() }()
			_, err := Open(ctx, Options{Address: addr, TLS: mustTLS(t, config.ServerTLS{})}, Credentials{User: "u"}, "d", nil)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestCancelWaitsForTheServer(t *testing.T) {
	closed := make(chan struct{})
	addr := script(t, func(conn net.Conn) {
		b := pgproto3.NewBackend(conn, conn)
		if m, err := b.ReceiveStartupMessage(); err != nil || m.(*pgproto3.CancelRequest).ProcessID != 9 {
			t.Errorf("%v, %v", m, err)
		}
		close(closed)
	})
	network, address := addr.Network()
	l := &Login{Address: addr, PID: 9, Key: []byte("abcd"), peer: peer{network: network, address: address}}
	if err := l.Cancel(testContext(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	default:
		t.Error("Cancel returned before the server was done")
	}
}

func TestLoadTLSFaults(t *testing.T) {
	for _, c := range []config.ServerTLS{
		{Mode: "always"}, {CAFile: "/nonexistent"}, {CAFile: "login_test.go"}, {CertFile: "/nonexistent"}, {CertFile: "x", KeyFile: "y"},
	} {
		if _, err := LoadTLS(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// FuzzLogin gives the login whatever a server may send.
func FuzzLogin(f *testing.F) {
	keys, err := scram.Derive(sha256.New, "p", []byte("salt"), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"))
	f.Add([]byte("R\x00\x00\x00\x18\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00R\x00\x00\x00\x16\x00\x00\x00\x0br=x,s=AAAA,i=1"))
	f.Add([]byte("E\x00\x00\x00\x0bC28P01\x00\x00"))
	f.Add([]byte("K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02S\x00\x00\x00\x08a\x00b\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &Login{Conn: &replay{r: strings.NewReader(string(data))}, Parameters: map[string]string{}}
		cred := Credentials{User: "u", Password: "p", Keys: keys}
		if err := l.logIn(cred, "d", nil); err == nil && !strings.Contains(string(data), "R\x00\x00\x00\x08\x00\x00\x00\x00") {
			t.Error("logged in without AuthenticationOk")
		}
	})
}

// replay is a connection that reads given bytes and swallows what is written.
type replay struct {
	net.Conn
	r io.Reader
}

func (c *replay) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *replay) Write(p []byte) (int, error) { return len(p), nil }
