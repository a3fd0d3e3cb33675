package backend

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/scram"
)

// maxLoginMessage bounds a message of the login in bytes.
const maxLoginMessage = 1 << 20

// Authentication requests, by the number in the message.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	authOK           = 0
	authCleartext    = 3
	authMD5          = 5
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// logIn sends the startup message and answers the server up to its first
// ReadyForQuery. It reads frame by frame and nothing past the last one.
func (l *Login) logIn(cred Credentials, database string, params map[string]string) error {
	startup := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion32, Parameters: map[string]string{}}
	maps.Copy(startup.Parameters, params)
	startup.Parameters["user"] = cred.User
	delete(startup.Parameters, "database")
	if database != "" {
		startup.Parameters["database"] = database
	}
	if err := l.send(&startup); err != nil {
		return err
	}
	a := authentication{l: l, cred: cred}
	for {
		typ, body, err := l.receive()
		if err != nil {
			return err
		}
		switch typ {
		case 'R':
			err = a.answer(body)
		case 'K':
			var m pgproto3.BackendKeyData
			if err = m.Decode(body); err == nil {
				l.PID, l.Key = m.ProcessID, append([]byte(nil), m.SecretKey...)
			}
		case 'S':
			var m pgproto3.ParameterStatus
			if err = m.Decode(body); err == nil {
				l.Parameters[m.Name] = m.Value
			}
		case 'v':
			// An older server answers 3.0; it knows no option of ours because we sent none.
		case 'N':
		case 'Z':
			if !a.accepted {
				return errors.New("the server is ready before it accepted the login")
			}
			return nil
		default:
			err = fmt.Errorf("unexpected message %q during the login", typ)
		}
		if err != nil {
			return err
		}
	}
}

// send writes one message.
func (l *Login) send(m pgproto3.FrontendMessage) error {
	frame, err := m.Encode(nil)
	if err != nil {
		return err
	}
	_, err = l.Conn.Write(frame)
	return err
}

// receive reads one message. The server's error is returned as a *pgconn.PgError.
func (l *Login) receive() (typ byte, body []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(l.Conn, header[:]); err != nil {
		return 0, nil, fmt.Errorf("the server closed the connection during the login: %w", err)
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size < 4 || size > maxLoginMessage {
		return 0, nil, fmt.Errorf("message %q of %d bytes during the login: not a PostgreSQL server?", header[0], size)
	}
	body = make([]byte, size-4)
	if _, err := io.ReadFull(l.Conn, body); err != nil {
		return 0, nil, fmt.Errorf("the server closed the connection during the login: %w", err)
	}
	if header[0] == 'E' {
		var m pgproto3.ErrorResponse
		if err := m.Decode(body); err != nil {
			return 0, nil, err
		}
		return 0, nil, pgconn.ErrorResponseToPgError(&m)
	}
	return header[0], body, nil
}

// authentication is the state of one login's proof.
type authentication struct {
	l        *Login
	cred     Credentials
	scram    *scram.Client // between SASL messages
	verified bool          // the server proved itself in turn
	accepted bool
}

// answer does what an authentication request asks for.
func (a *authentication) answer(body []byte) error {
	if len(body) < 4 {
		return errors.New("malformed authentication request")
	}
	kind, data := binary.BigEndian.Uint32(body), body[4:]
	if a.accepted {
		return errors.New("the server asks for authentication after it accepted the login")
	}
	switch kind {
	case authOK:
		if len(data) > 0 {
			return errors.New("malformed authentication request")
		}
		if a.scram != nil && !a.verified {
			return errors.New("the server did not finish the SCRAM exchange")
		}
		a.accepted = true
		return nil
	case authCleartext:
		if a.cred.Password == "" {
			return fmt.Errorf("the server asks for a plain password: %w", ErrNoSecret)
		}
		return a.l.send(&pgproto3.PasswordMessage{Password: a.cred.Password})
	case authMD5:
		if len(data) != 4 {
			return errors.New("malformed authentication request")
		}
		response, ok := a.cred.md5Response([4]byte(data))
		if !ok {
			return fmt.Errorf("the server asks for md5 authentication: %w", ErrNoSecret)
		}
		return a.l.send(&pgproto3.PasswordMessage{Password: response})
	case authSASL, authSASLContinue, authSASLFinal:
		return a.sasl(kind, body, data)
	}
	return fmt.Errorf("the server asks for an authentication method that is not supported (%d)", kind)
}

func (a *authentication) sasl(kind uint32, body, data []byte) error {
	if (kind == authSASL) != (a.scram == nil) || a.verified {
		return errors.New("SASL message out of order")
	}
	switch kind {
	case authSASL:
		var m pgproto3.AuthenticationSASL
		if err := m.Decode(body); err != nil {
			return err
		}
		client, err := scram.NewClient(m.AuthMechanisms, a.l.binding(), a.cred.Password, a.cred.Keys)
		if err != nil {
			return fmt.Errorf("the server asks for SASL authentication: %w", err)
		}
		a.scram = client
		return a.l.send(&pgproto3.SASLInitialResponse{AuthMechanism: client.Mechanism(), Data: client.First()})
	case authSASLContinue:
		final, err := a.scram.Final(data)
		if err != nil {
			return err
		}
		return a.l.send(&pgproto3.SASLResponse{Data: final})
	}
	if err := a.scram.Verify(data); err != nil {
		return err
	}
	a.verified = true
	return nil
}

// binding returns the channel binding data of the connection, nil if there is none.
func (l *Login) binding() []byte {
	secured, ok := l.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	certs := secured.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil
	}
	return scram.EndPointData(certs[0])
}
