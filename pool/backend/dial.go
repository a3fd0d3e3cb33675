package backend

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Options are where a server is and how to reach it.
type Options struct {
	Address Address
	TLSName string // the name its certificate must bear; empty is Address.Host
	TLS     *TLS   // nil is no TLS
	Dial    Dial   // nil is package net's
}

// Dial connects to an address, as net.Dialer's DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// orNet is d, or package net's for nil.
func (d Dial) orNet() Dial {
	if d == nil {
		return (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext // sets TCP_NODELAY
	}
	return d
}

// Login is a server connection at its first ReadyForQuery, with nothing read past it.
type Login struct {
	// Conn is what Options.Dial made (package net's are a *net.TCPConn or *net.UnixConn),
	// or a *tls.Conn over that. It has no deadlines.
	Conn    net.Conn
	Address Address
	PID     uint32
	// Key is the secret of a cancel request: 4 bytes, up to 256 from version 18 on.
	Key []byte
	// Parameters are the settings the server reported.
	Parameters map[string]string

	peer peer
}

// keepAlive finds a dead server in a minute or so.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// Open connects to a server and logs in to database. params are the further
// startup parameters (application_name, replication, …); nothing is taken from
// the environment, a service file or a password file.
//
// ctx bounds the whole of it. What the server answered is a *pgconn.PgError in the
// error's chain. Open may be called concurrently.
func Open(ctx context.Context, o Options, cred Credentials, database string, params map[string]string) (*Login, error) {
	var earlier error
	for _, a := range o.TLS.attempts(o.Address, cmp.Or(o.TLSName, o.Address.Host)) {
		l, encrypted, err := open(ctx, o, a, cred, database, params)
		if err == nil {
			return l, nil
		}
		err = errors.Join(err, earlier)
		// The other way is tried as libpq tries it, but not after a wrong password:
		// that would only fail twice.
		if !otherWayMayHelp(err) || ctx.Err() != nil || a.orPlain && !encrypted {
			return nil, fmt.Errorf("connect to server %s: %w", o.Address, err)
		}
		earlier = err
	}
	return nil, fmt.Errorf("connect to server %s: %w", o.Address, earlier)
}

// Knock connects to a server and leaves, to see whether it is there.
func Knock(ctx context.Context, o Options) error {
	network, address := o.Address.Network()
	conn, err := o.Dial.orNet()(ctx, network, address)
	if err != nil {
		return fmt.Errorf("connect to server %s: %w", o.Address, err)
	}
	return conn.Close()
}

// errTLS marks failures to agree on TLS.
var errTLS = errors.New("TLS")

func otherWayMayHelp(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code == "28000" // no pg_hba.conf entry for this kind of connection
	}
	return errors.Is(err, errTLS)
}

// open makes one attempt to log in. encrypted tells whether it got as far as wanting TLS.
func open(ctx context.Context, o Options, a attempt, cred Credentials, database string, params map[string]string) (_ *Login, encrypted bool, err error) {
	network, address := o.Address.Network()
	dial := o.Dial.orNet()
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, false, err
	}
	p := peer{network: network, address: conn.RemoteAddr().String(), dial: dial}
	if o.Address.Unix() {
		p.address = address
	}
	err = during(ctx, conn, func() error {
		secured, err := a.secure(ctx, conn)
		if err != nil {
			encrypted = true
			return err
		}
		if secured != nil {
			conn, encrypted, p.tls = secured, true, a.tls
		}
		return nil
	})
	l := &Login{Conn: conn, Address: o.Address, Parameters: map[string]string{}, peer: p}
	if err == nil {
		err = during(ctx, conn, func() error { return l.logIn(cred, database, params) })
	}
	if err != nil {
		_ = conn.Close()
		return nil, encrypted, err
	}
	return l, encrypted, nil
}

// during runs f, whose I/O on conn fails when ctx ends.
func during(ctx context.Context, conn net.Conn, f func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		// The deadline is set or will be: conn is of no further use.
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

const sslRequestCode = 80877103

// secure puts TLS over conn as the attempt wants it. It returns nil if the
// connection stays plain.
func (a attempt) secure(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	if a.tls == nil {
		return nil, nil
	}
	var request [8]byte
	binary.BigEndian.PutUint32(request[:4], 8)
	binary.BigEndian.PutUint32(request[4:], sslRequestCode)
	if _, err := conn.Write(request[:]); err != nil {
		return nil, fmt.Errorf("%w request: %w", errTLS, err)
	}
	// One byte and no more: what follows must come through the TLS layer.
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, fmt.Errorf("%w request: %w", errTLS, err)
	}
	switch {
	case answer[0] == 'S':
	case answer[0] == 'N' && a.orPlain:
		return nil, nil
	case answer[0] == 'N':
		return nil, fmt.Errorf("%w: the server does not support it", errTLS)
	default:
		// An error message here comes from nobody proven; it is not shown.
		return nil, fmt.Errorf("%w request: unexpected answer 0x%02x", errTLS, answer[0])
	}
	secured := tls.Client(conn, a.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("%w handshake: %w", errTLS, err)
	}
	return secured, nil
}

// peer is the one server process's postmaster: its address after name resolution,
// and how it was reached.
type peer struct {
	network, address string
	dial             Dial
	tls              *tls.Config
}

// Cancel asks the server to cancel what the connection runs, on a connection of
// its own, encrypted if the first one is. It returns when the server has closed that
// connection, so that the signal has been sent. It may be called concurrently with
// any use of the login.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func (l *Login) Cancel(ctx context.Context) error {
	if err := l.peer.cancel(ctx, l.PID, l.Key); err != nil {
		return fmt.Errorf("cancel request to server %s: %w", l.Address, err)
	}
	return nil
}

func (p peer) cancel(ctx context.Context, pid uint32, key []byte) error {
	frame, err := (&pgproto3.CancelRequest{ProcessID: pid, SecretKey: key}).Encode(nil)
	if err != nil {
		return err
	}
	conn, err := p.dial.orNet()(ctx, p.network, p.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	return during(ctx, conn, func() error {
		var to net.Conn = conn
		if secured, err := (attempt{tls: p.tls}).secure(ctx, conn); err != nil {
			return err
		} else if secured != nil {
			to = secured
		}
		if _, err := to.Write(frame); err != nil {
			return err
		}
		return awaitClose(to)
	})
}

// awaitClose reads until the peer closes. How it does so does not matter.
func awaitClose(conn net.Conn) error {
	var b [512]byte
	for {
		_, err := conn.Read(b[:])
		var timeout net.Error
		switch {
		case err == nil:
		case errors.As(err, &timeout) && timeout.Timeout():
			return err
		default:
			return nil
		}
	}
}
