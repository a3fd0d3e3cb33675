package proxy

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/peers"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// Codes in the place of a startup packet's protocol version.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	cancelCode = 80877102
	sslCode    = 80877103
	gssCode    = 80877104

	protocolMajor = 3
	protocolMinor = 2 // the newest minor version spoken

	maxStartup   = 10000 // MAX_STARTUP_PACKET_LENGTH
	maxKeyLength = 256
	tlsHandshake = 0x16 // first byte of direct TLS
)

// errServed ends a connection that has no session: a cancel request is carried out, a
// replication connection over.
var errServed = errors.New("served without a session")

// errNoStartup is of bytes that are no startup packet. Who sent them does not speak the
// protocol: PostgreSQL closes without a word.
var errNoStartup = errors.New("no startup packet")

// handshake is a connection before its session begins.
type handshake struct {
	s      *Server
	terms  *terms // in force when it came
	front  *wire.Conn
	nc     net.Conn // without TLS
	secure *tls.Conn
	minor  int
	params map[string]string
	asked  []string // protocol options the client asked for, none of which is known

	// unwatch has the end of the service no longer close the connection: it is a session's.
	unwatch func() bool
}

// serveConn takes a connection from its first byte to its last.
func (s *Server) serveConn(conn net.Conn) {
	terms := s.terms.Load()
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4})
		wire.SetUserTimeout(t, terms.cfg.TCPUserTimeout)
	}
	h := &handshake{s: s, terms: terms, nc: conn, front: wire.NewConn(conn, wire.SmallBuffer)}
	_ = conn.SetDeadline(time.Now().Add(terms.cfg.Auth.Timeout))
	h.unwatch = context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	m, err := h.begin()
	h.unwatch()
	if err != nil {
		s.refuseClient(h, err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	host := remoteHost(conn)
	s.sessions.Go(func() { s.serveMember(m, host) }) // a login has needed more of a stack than an idle session should keep
}

// refuseClient says why there is no session, unless the client knows.
func (s *Server) refuseClient(h *handshake, err error) {
	defer func() {
		_ = h.front.Close()
		h.front.Free()
	}()
	if errors.Is(err, errServed) || errors.Is(err, io.EOF) {
		return
	}
	s.metrics.LoginFailed()
	if errors.Is(err, errNoStartup) {
		s.log.Warn("login refused", zap.String("client", remoteHost(h.nc)), zap.Error(err))
		return
	}
	var own *wire.Error
	e := upstream.Told(err, h.terms.cfg.Routing.PrimaryWait)
	if !errors.As(err, &own) && isNetwork(err) {
		s.log.Debug("login broken off", zap.String("client", remoteHost(h.nc)), zap.Error(err))
		return
	}
	fatal := *e
	fatal.Severity = "FATAL"
	s.metrics.ProxyError()
	_ = h.nc.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = h.front.Write(fatal.Append(nil))
	s.log.Warn("login refused", zap.String("client", remoteHost(h.nc)),
		zap.String("user", h.params["user"]), zap.String("database", h.params["database"]),
		zap.String("sqlstate", fatal.Code), zap.String("error", fatal.Message), because(err, e))
}

// because is what the log tells of a refusal and the client does not learn.
func because(err error, told *wire.Error) zap.Field {
	if why, more := strings.CutPrefix(err.Error(), told.Error()+": "); more {
		return zap.String("because", why)
	}
	return zap.Skip()
}

// isNetwork reports whether err is of the client's connection.
func isNetwork(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, wire.ErrFrameLength) || errors.As(err, &op) && op.Op != "dial"
}

// begin goes through the startup: encryption, the startup packet, authentication.
func (h *handshake) begin() (*member, error) {
	if err := h.startupPacket(); err != nil {
		return nil, err
	}
	started := time.Now()
	if h.s.phase.draining.Load() {
		return nil, wire.Fatalf("57P03", "the proxy is shutting down")
	}
	user, database := h.params["user"], h.params["database"]
	if user == "" {
		return nil, wire.Fatalf("28000", "no PostgreSQL user name specified in startup packet")
	}
	if database == "" {
		database = user
		h.params["database"] = database
	}
	if err := h.checkTLS(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(h.s.ctx, h.terms.cfg.Auth.Timeout)
	defer cancel()
	id, err := h.terms.verifier.Authenticate(ctx, h.client(user, database), h)
	if err != nil {
		return nil, err
	}
	if h.terms.cfg.Console.Is(database) {
		return nil, h.console(id)
	}
	m, err := h.session(ctx, id, database)
	if err == nil {
		h.s.metrics.LoggedIn(time.Since(started))
	}
	return m, err
}

// client is who asks to be let in.
func (h *handshake) client(user, database string) auth.Client {
	c := auth.Client{User: user, Database: database, Address: remoteHost(h.nc), Local: h.nc.LocalAddr().Network() == "unix"}
	if r := h.params["replication"]; r != "" {
		on, ok := setting.ParseBool(r)
		c.Physical = ok && on // anything else is "database"
	}
	if c.Local {
		c.Peer = func() (string, error) { return peerUser(h.nc) }
	}
	return c
}

// startupPacket answers requests for encryption and reads the packet behind them.
func (h *handshake) startupPacket() error {
	sslAsked, gssAsked := false, false
	for {
		code, body, err := h.packet()
		if err != nil {
			return err
		}
		switch {
		case code == sslCode && !sslAsked && h.secure == nil:
			sslAsked = true
			err = h.answerSSL()
		case code == gssCode && !gssAsked:
			gssAsked = true
			_, err = h.front.Write([]byte{'N'})
		case code == cancelCode:
			return h.cancelRequest(body)
		case code == peers.Code:
			return h.peerCancelRequest(body)
		default:
			return h.startupMessage(code, body)
		}
		if err != nil {
			return err
		}
	}
}

// packet reads one packet without type byte; direct TLS is begun first.
func (h *handshake) packet() (code uint32, body []byte, err error) {
	buf, err := h.front.Need(1)
	if err != nil {
		return 0, nil, err
	}
	if buf[0] == tlsHandshake && h.secure == nil {
		if err := h.startTLS(); err != nil {
			return 0, nil, err
		}
		if err := h.terms.tls.CheckDirect(h.secure.ConnectionState()); err != nil {
			return 0, nil, err
		}
	}
	if buf, err = h.front.Need(4); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(buf)
	if length < 8 || length > maxStartup {
		if buf[0] == wire.Terminate {
			return 0, nil, errServed // a client that is done before it began
		}
		return 0, nil, fmt.Errorf("%w: invalid length", errNoStartup)
	}
	if buf, err = h.front.Need(int(length)); err != nil {
		return 0, nil, err
	}
	body = slices.Clone(buf[8:length])
	code = binary.BigEndian.Uint32(buf[4:])
	h.front.Discard(int(length))
	return code, body, nil
}

func (h *handshake) answerSSL() error {
	if h.terms.tls.Config() == nil || h.nc.LocalAddr().Network() == "unix" {
		_, err := h.front.Write([]byte{'N'})
		return err
	}
	if len(h.front.Buffered()) > 0 {
		// Somebody between us and the client may have put it there.
		return wire.Fatalf("08P01", "received unencrypted data after SSL request")
	}
	if _, err := h.front.Write([]byte{'S'}); err != nil {
		return err
	}
	return h.startTLS()
}

// startTLS puts TLS over the connection; what was read so far belongs to it.
func (h *handshake) startTLS() error {
	conf := h.terms.tls.Config()
	if conf == nil {
		return fmt.Errorf("%w: direct TLS, for which there is no certificate", errNoStartup)
	}
	under := h.nc
	if early := h.front.Buffered(); len(early) > 0 {
		under = &prefixed{Conn: h.nc, early: slices.Clone(early)}
		h.front.Discard(len(early))
	}
	h.secure = tls.Server(under, conf)
	ctx, cancel := context.WithTimeout(h.s.ctx, h.terms.cfg.Auth.Timeout)
	defer cancel()
	if err := h.secure.HandshakeContext(ctx); err != nil {
		return &net.OpError{Op: "handshake", Err: err}
	}
	h.front = wire.NewConn(h.secure, wire.SmallBuffer)
	return nil
}

// prefixed gives back bytes that were read ahead.
type prefixed struct {
	net.Conn
	early []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.early) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.early)
	p.early = p.early[n:]
	return n, nil
}

// SyscallConn implements syscall.Conn, so that it can be seen whether the client is gone.
func (p *prefixed) SyscallConn() (syscall.RawConn, error) {
	if under, ok := p.Conn.(syscall.Conn); ok {
		return under.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// startupMessage reads the parameters and settles the protocol's version.
func (h *handshake) startupMessage(code uint32, body []byte) error {
	major, minor := int(code>>16), int(code&0xffff)
	if major != protocolMajor {
		return wire.Fatalf("0A000", "unsupported frontend protocol %d.%d: server supports 3.0 to 3.%d", major, minor, protocolMinor)
	}
	h.minor = min(minor, protocolMinor)
	h.params = map[string]string{}
	for {
		name, rest, ok := wire.CString(body)
		if ok && len(name) == 0 && len(rest) == 0 {
			break
		}
		value, rest, ok2 := wire.CString(rest)
		if !ok || !ok2 || len(name) == 0 {
			return wire.Fatalf("08P01", "invalid startup packet layout: expected terminator as last byte")
		}
		if strings.HasPrefix(string(name), "_pq_.") {
			h.asked = append(h.asked, string(name))
		} else {
			h.params[string(name)] = string(value)
		}
		body = rest
	}
	if minor > protocolMinor || len(h.asked) > 0 {
		return h.negotiate()
	}
	return nil
}

// negotiate names the newest version spoken and the options not known.
func (h *handshake) negotiate() error {
	frame, err := (&pgproto3.NegotiateProtocolVersion{
		NewestMinorProtocol: uint32(protocolMajor<<16 | h.minor), UnrecognizedOptions: h.asked,
	}).Encode(nil)
	if err != nil {
		return err
	}
	return h.Send(frame)
}

func (h *handshake) checkTLS() error {
	if h.terms.tls.Required() && h.secure == nil && h.nc.LocalAddr().Network() != "unix" {
		return wire.Fatalf("28000", "no encryption: the proxy requires TLS (sslmode=require)")
	}
	return nil
}

// Send implements auth.Exchange.
func (h *handshake) Send(frame []byte) error {
	_, err := h.front.Write(frame)
	return err
}

// Receive implements auth.Exchange.
func (h *handshake) Receive() ([]byte, error) {
	typ, size, err := h.front.Header()
	if err != nil {
		return nil, err
	}
	if typ != wire.Password || size > auth.MaxMessage+wire.HeaderSize {
		return nil, wire.Fatalf("08P01", "expected password response, got message type %d", typ)
	}
	frame, err := h.front.Frame(size)
	if err != nil {
		return nil, err
	}
	body := slices.Clone(frame[wire.HeaderSize:])
	h.front.Discard(size)
	return body, nil
}

// TLS implements auth.Exchange.
func (h *handshake) TLS() *tls.ConnectionState {
	if h.secure == nil {
		return nil
	}
	st := h.secure.ConnectionState()
	return &st
}
