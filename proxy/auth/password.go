package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/scram"
	"github.com/pgweir/pgweir/internal/wire"
)

// password is method password: the client sends it in plain. Whatever the
// secret's kind, and without one, the work is one derivation of SCRAM keys.
func (l *login) password(s stored) (Secret, error) {
	given, err := l.askPassword(&pgproto3.AuthenticationCleartextPassword{})
	if err != nil {
		return Secret{}, err
	}
	if err := l.mayCheck(); err != nil {
		return Secret{}, err
	}
	keys, real, err := l.v.scramKeys(l.User, s)
	if err != nil {
		return Secret{}, err
	}
	derived, err := scram.Derive(l.v.newHash, given, keys[0].Salt, keys[0].Iterations)
	if err != nil {
		return Secret{}, err
	}
	right := false
	for _, k := range keys {
		right = real && hmac.Equal(derived.StoredKey, k.StoredKey) || right
	}
	hashed := "md5" + hexMD5(given+l.User)
	s.each(func(s stored) {
		right = s.kind == secretMD5 && subtle.ConstantTimeCompare([]byte(hashed), []byte(s.text)) == 1 || right
	})
	if !right {
		return Secret{}, l.failed(reason(s))
	}
	l.v.delays.succeeded(l.key)
	secret := Secret{Password: given}
	if s.kind == secretSCRAM {
		secret.Keys = derived
	}
	return s.forServers(secret), nil
}

// md5 is method md5 with a secret that serves it.
// https://www.postgresql.org/docs/current/protocol-flow.html
func (l *login) md5(s stored) (Secret, error) {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	given, err := l.askPassword(&pgproto3.AuthenticationMD5Password{Salt: salt})
	if err != nil {
		return Secret{}, err
	}
	if err := l.mayCheck(); err != nil {
		return Secret{}, err
	}
	right := false
	s.each(func(s stored) {
		right = l.answersMD5(given, salt, s) || right
	})
	if !right {
		return Secret{}, l.failed(reason(s))
	}
	l.v.delays.succeeded(l.key)
	return s.usable(), nil
}

// answersMD5 reports whether a client's answer to a challenge is right for one secret. Without
// one, or with one that serves no such challenge, it is not, after the same work.
func (l *login) answersMD5(given string, salt [4]byte, s stored) bool {
	password := s.text
	usable := s.kind == secretPlain || s.kind == secretMD5
	if !usable {
		password = hex.EncodeToString(mockBytes("password", l.User))
	}
	inner := hexMD5(password + l.User)
	if s.kind == secretMD5 {
		inner = s.text[len("md5"):]
	}
	want := "md5" + hexMD5(inner+string(salt[:]))
	return subtle.ConstantTimeCompare([]byte(given), []byte(want)) == 1 && usable
}

// reason is for the log alone.
func reason(s stored) string {
	switch s.kind {
	case secretNone:
		if s.why != "" {
			return s.why
		}
		return "no such user, or no password for it"
	case secretMD5:
		return "wrong password, or the stored secret is an md5 hash and the method is not md5"
	case secretPlain, secretSCRAM:
	}
	return "wrong password"
}

// askPassword sends a request and reads the answer, a zero-terminated string.
func (l *login) askPassword(request pgproto3.BackendMessage) (string, error) {
	body, err := l.ask(request)
	if err != nil {
		return "", err
	}
	if i := bytes.IndexByte(body, 0); i < 0 || i != len(body)-1 {
		return "", wire.Fatalf("08P01", "invalid password packet size")
	}
	if len(body) == 1 {
		return "", wire.Fatalf("28P01", "empty password returned by client")
	}
	return string(body[:len(body)-1]), nil
}

// ask sends a message and receives the client's.
func (l *login) ask(m pgproto3.BackendMessage) ([]byte, error) {
	if err := l.send(m); err != nil {
		return nil, err
	}
	body, err := l.x.Receive()
	if err == nil && len(body) > MaxMessage {
		return nil, wire.Fatalf("08P01", "invalid message length")
	}
	return body, err
}

func (l *login) send(m pgproto3.BackendMessage) error {
	frame, err := m.Encode(nil)
	if err != nil {
		return err
	}
	return l.x.Send(frame)
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
