package proxy

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/auth"
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

// errCancelRequest ends a connection that carried a cancel request.
var errCancelRequest = errors.New("cancel request")

// greeting is a connection before its session begins.
type greeting struct {
	s      *Server
	front  *wire.Conn
	nc     net.Conn // without TLS
	secure *tls.Conn
	minor  int
	params map[string]string
	asked  []string // protocol options the client asked for, none of which is known
}

// welcomeClient takes a connection from its first byte to its last.
func (s *Server) welcomeClient(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4})
	}
	g := &greeting{s: s, nc: conn, front: wire.NewConn(conn, wire.SmallBuffer)}
	_ = conn.SetDeadline(time.Now().Add(s.cfg.Auth.Timeout))
	stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	c, err := g.begin()
	stop()
	if err != nil {
		s.refuseClient(g, err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	s.serveClient(c)
}

// refuseClient says why there is no session, unless the client knows.
func (s *Server) refuseClient(g *greeting, err error) {
	defer func() {
		_ = g.front.Close()
		g.front.Free()
	}()
	if errors.Is(err, errCancelRequest) || errors.Is(err, io.EOF) {
		return
	}
	s.metrics.LoginFailed()
	var own *wire.Error
	e := s.clientError(err)
	if !errors.As(err, &own) && isNetwork(err) {
		s.log.Debug("login broken off", zap.String("client", remoteHost(g.nc)), zap.Error(err))
		return
	}
	fatal := *e
	fatal.Severity = "FATAL"
	s.metrics.ProxyError()
	_ = g.nc.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = g.front.Write(fatal.Append(nil))
	s.log.Warn("login refused", zap.String("client", remoteHost(g.nc)),
		zap.String("user", g.params["user"]), zap.String("database", g.params["database"]),
		zap.String("sqlstate", fatal.Code), zap.String("error", fatal.Message))
}

// isNetwork reports whether err is of the client's connection.
func isNetwork(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, wire.ErrFrameLength) || errors.As(err, &op) && op.Op != "dial"
}

// begin goes through the startup: encryption, the startup packet, authentication.
func (g *greeting) begin() (*client, error) {
	if err := g.startupPacket(); err != nil {
		return nil, err
	}
	started := time.Now()
	if g.s.draining.Load() {
		return nil, wire.Fatalf("57P03", "the proxy is shutting down")
	}
	user, database := g.params["user"], g.params["database"]
	if user == "" {
		return nil, wire.Fatalf("28000", "no PostgreSQL user name specified in startup packet")
	}
	if database == "" {
		database = user
		g.params["database"] = database
	}
	if err := g.checkTLS(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(g.s.ctx, g.s.cfg.Auth.Timeout)
	defer cancel()
	id, err := g.s.verifier.Authenticate(ctx, user, database, remoteHost(g.nc), g)
	if err != nil {
		return nil, err
	}
	c, err := g.session(ctx, id, database)
	if err == nil {
		g.s.metrics.LoggedIn(time.Since(started))
	}
	return c, err
}

// startupPacket answers requests for encryption and reads the packet behind them.
func (g *greeting) startupPacket() error {
	sslAsked, gssAsked := false, false
	for {
		code, body, err := g.packet()
		if err != nil {
			return err
		}
		switch {
		case code == sslCode && !sslAsked && g.secure == nil:
			sslAsked = true
			err = g.answerSSL()
		case code == gssCode && !gssAsked:
			gssAsked = true
			_, err = g.front.Write([]byte{'N'})
		case code == cancelCode:
			return g.cancelRequest(body)
		default:
			return g.startupMessage(code, body)
		}
		if err != nil {
			return err
		}
	}
}

// packet reads one packet without type byte; direct TLS is begun first.
func (g *greeting) packet() (code uint32, body []byte, err error) {
	buf, err := g.front.Need(1)
	if err != nil {
		return 0, nil, err
	}
	if buf[0] == tlsHandshake && g.secure == nil {
		if err := g.startTLS(); err != nil {
			return 0, nil, err
		}
		if err := g.s.tls.CheckDirect(g.secure.ConnectionState()); err != nil {
			return 0, nil, err
		}
	}
	if buf, err = g.front.Need(4); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(buf)
	if length < 8 || length > maxStartup {
		return 0, nil, wire.Fatalf("08P01", "invalid length of startup packet")
	}
	if buf, err = g.front.Need(int(length)); err != nil {
		return 0, nil, err
	}
	body = slices.Clone(buf[8:length])
	code = binary.BigEndian.Uint32(buf[4:])
	g.front.Discard(int(length))
	return code, body, nil
}

func (g *greeting) answerSSL() error {
	if g.s.tls.Config() == nil || g.nc.LocalAddr().Network() == "unix" {
		_, err := g.front.Write([]byte{'N'})
		return err
	}
	if len(g.front.Buffered()) > 0 {
		// Somebody between us and the client may have put it there.
		return wire.Fatalf("08P01", "received unencrypted data after SSL request")
	}
	if _, err := g.front.Write([]byte{'S'}); err != nil {
		return err
	}
	return g.startTLS()
}

// startTLS puts TLS over the connection; what was read so far belongs to it.
func (g *greeting) startTLS() error {
	conf := g.s.tls.Config()
	if conf == nil {
		return wire.Fatalf("08P01", "received direct SSL connection request without SSL support")
	}
	under := g.nc
	if early := g.front.Buffered(); len(early) > 0 {
		under = &prefixed{Conn: g.nc, early: slices.Clone(early)}
		g.front.Discard(len(early))
	}
	g.secure = tls.Server(under, conf)
	ctx, cancel := context.WithTimeout(g.s.ctx, g.s.cfg.Auth.Timeout)
	defer cancel()
	if err := g.secure.HandshakeContext(ctx); err != nil {
		return &net.OpError{Op: "handshake", Err: err}
	}
	g.front = wire.NewConn(g.secure, wire.SmallBuffer)
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

// startupMessage reads the parameters and settles the protocol's version.
func (g *greeting) startupMessage(code uint32, body []byte) error {
	major, minor := int(code>>16), int(code&0xffff)
	if major != protocolMajor {
		return wire.Fatalf("0A000", "unsupported frontend protocol %d.%d: server supports 3.0 to 3.%d", major, minor, protocolMinor)
	}
	g.minor = min(minor, protocolMinor)
	g.params = map[string]string{}
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
			g.asked = append(g.asked, string(name))
		} else {
			g.params[string(name)] = string(value)
		}
		body = rest
	}
	if minor > protocolMinor || len(g.asked) > 0 {
		return g.negotiate()
	}
	return nil
}

// negotiate names the newest version spoken and the options not known.
func (g *greeting) negotiate() error {
	frame, err := (&pgproto3.NegotiateProtocolVersion{
		NewestMinorProtocol: uint32(protocolMajor<<16 | g.minor), UnrecognizedOptions: g.asked,
	}).Encode(nil)
	if err != nil {
		return err
	}
	return g.Send(frame)
}

func (g *greeting) checkTLS() error {
	if g.s.tls.Required() && g.secure == nil && g.nc.LocalAddr().Network() != "unix" {
		return wire.Fatalf("28000", "no encryption: the proxy requires TLS (sslmode=require)")
	}
	return nil
}

// Send implements auth.Exchange.
func (g *greeting) Send(frame []byte) error {
	_, err := g.front.Write(frame)
	return err
}

// Receive implements auth.Exchange.
func (g *greeting) Receive() ([]byte, error) {
	typ, size, err := g.front.Header()
	if err != nil {
		return nil, err
	}
	if typ != wire.Password || size > auth.MaxMessage+wire.HeaderSize {
		return nil, wire.Fatalf("08P01", "expected password response, got message type %d", typ)
	}
	frame, err := g.front.Frame(size)
	if err != nil {
		return nil, err
	}
	body := slices.Clone(frame[wire.HeaderSize:])
	g.front.Discard(size)
	return body, nil
}

// TLS implements auth.Exchange.
func (g *greeting) TLS() *tls.ConnectionState {
	if g.secure == nil {
		return nil
	}
	st := g.secure.ConnectionState()
	return &st
}

// cancelRequest passes a cancel request on and closes the connection, as
// PostgreSQL does, when it is done.
func (g *greeting) cancelRequest(body []byte) error {
	if len(body) < 5 || len(body) > 4+maxKeyLength {
		return errCancelRequest
	}
	g.s.metrics.CancelRequested()
	g.s.mu.Lock()
	c := g.s.clients[binary.BigEndian.Uint32(body)]
	g.s.mu.Unlock()
	if c == nil || subtle.ConstantTimeCompare(c.who.key.secret, body[4:]) != 1 {
		g.s.log.Info("cancel request with a wrong key", zap.String("client", remoteHost(g.nc)))
		return errCancelRequest
	}
	ctx, cancel := context.WithTimeout(g.s.ctx, g.s.cfg.Pool.ConnectTimeout)
	defer cancel()
	if err := c.interrupt.cancel(ctx); err != nil {
		g.s.log.Warn("cancel request", zap.Error(err))
	}
	return errCancelRequest
}

// startupSettings are the settings among the startup parameters, and those of the
// proxy itself, without their prefix.
func startupSettings(params map[string]string) (_ session.Settings, own map[string]string, _ error) {
	values := map[string]string{}
	if options := params["options"]; options != "" {
		fromOptions, rest := session.Options(options)
		if len(rest) > 0 {
			return session.Settings{}, nil, wire.Fatalf("22023", "startup option \"%s\" is not supported", rest[0]).
				WithHint("Only settings can be given: -c name=value.")
		}
		for n, v := range fromOptions {
			values[n] = v
		}
	}
	for n, v := range params {
		switch n {
		case "user", "database", "options", "replication":
		default:
			values[n] = v
		}
	}
	for n, v := range values {
		if name, ok := strings.CutPrefix(strings.ToLower(n), ownPrefix); ok {
			delete(values, n)
			if own == nil {
				own = map[string]string{}
			}
			own[ownPrefix+name] = v
		}
	}
	return session.From(values), own, nil
}
