// Package scram is what both sides of the proxy need of SCRAM-SHA-256 as
// PostgreSQL speaks it: the keys, the stored secret, the preparation of
// passwords, the binding to a TLS channel, and the client's half of an exchange.
//
// The server's half lives in proxy/auth. Nothing here logs, and what holds a
// secret prints itself redacted.
//
// https://www.postgresql.org/docs/current/sasl-authentication.html, RFC 5802, RFC 7677
package scram

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// The mechanisms' names.
const (
	SHA256     = "SCRAM-SHA-256"
	SHA256Plus = "SCRAM-SHA-256-PLUS"
)

// KeySize is the length of every key in bytes.
const KeySize = sha256.Size

// DefaultIterations is what PostgreSQL uses for new passwords.
const DefaultIterations = 4096

// MaxIterations bounds the work a peer or a stored secret may ask for: some
// seconds of one core.
const MaxIterations = 5_000_000

// Keys are a user's SCRAM keys. A server stores all but ClientKey, which alone
// (with what can be derived from it) logs in; it is nil where it is not known.
// A Keys is never changed after it was made, so copies may share its slices.
type Keys struct {
	Salt       []byte
	Iterations int
	StoredKey  []byte // SHA-256 of the client key
	ServerKey  []byte
	ClientKey  []byte
}

// IsZero reports whether there are no keys at all.
func (k Keys) IsZero() bool { return k.StoredKey == nil }

// Equal compares in constant time for keys of one kind.
func (k Keys) Equal(o Keys) bool {
	return k.Iterations == o.Iterations && bytes.Equal(k.Salt, o.Salt) &&
		subtle.ConstantTimeCompare(k.StoredKey, o.StoredKey)&
			subtle.ConstantTimeCompare(k.ServerKey, o.ServerKey)&
			subtle.ConstantTimeCompare(k.ClientKey, o.ClientKey) == 1
}

const redacted = "<redacted>"

// String never shows keys.
func (k Keys) String() string { return redacted }

// GoString never shows keys.
func (k Keys) GoString() string { return "scram.Keys{" + redacted + "}" }

// MarshalJSON never shows keys.
func (k Keys) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Derive computes the keys of a password; it costs iterations HMACs. newHash is
// sha256.New, or what a test puts around it.
func Derive(newHash func() hash.Hash, password string, salt []byte, iterations int) (Keys, error) {
	if iterations < 1 || iterations > MaxIterations {
		return Keys{}, fmt.Errorf("SCRAM iteration count %d is out of range", iterations)
	}
	salted, err := pbkdf2.Key(newHash, Prepare(password), salt, iterations, KeySize)
	if err != nil {
		return Keys{}, fmt.Errorf("derive SCRAM keys: %w", err)
	}
	client := mac(newHash, salted, "Client Key")
	return Keys{
		Salt:       salt,
		Iterations: iterations,
		StoredKey:  digest(newHash, client),
		ServerKey:  mac(newHash, salted, "Server Key"),
		ClientKey:  client,
	}, nil
}

// IsSecret reports whether a stored secret is meant to be a SCRAM one.
func IsSecret(s string) bool { return strings.HasPrefix(s, SHA256+"$") }

// ErrSecret is a stored secret that is not of PostgreSQL's form. It does not quote it.
var ErrSecret = errors.New("malformed SCRAM secret")

// ParseSecret reads SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey, the form
// of pg_authid.rolpassword.
func ParseSecret(s string) (Keys, error) {
	rest, ok := strings.CutPrefix(s, SHA256+"$")
	head, tail, ok2 := strings.Cut(rest, "$")
	iterations, salt, ok3 := strings.Cut(head, ":")
	stored, server, ok4 := strings.Cut(tail, ":")
	if !ok || !ok2 || !ok3 || !ok4 {
		return Keys{}, ErrSecret
	}
	n, err := strconv.ParseUint(iterations, 10, 31)
	if err != nil || n < 1 || n > MaxIterations {
		return Keys{}, ErrSecret
	}
	k := Keys{Iterations: int(n)}
	for _, part := range []struct {
		text string
		to   *[]byte
		size int // 0 is any but none
	}{{salt, &k.Salt, 0}, {stored, &k.StoredKey, KeySize}, {server, &k.ServerKey, KeySize}} {
		b, err := base64.StdEncoding.Strict().DecodeString(part.text)
		if err != nil || len(b) == 0 || part.size > 0 && len(b) != part.size {
			return Keys{}, ErrSecret
		}
		*part.to = b
	}
	return k, nil
}

// Secret is the form a server stores k in.
func (k Keys) Secret() string {
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", SHA256, k.Iterations, enc(k.Salt), enc(k.StoredKey), enc(k.ServerKey))
}

// ClientSignature is what a client proof is XORed with.
func (k Keys) ClientSignature(newHash func() hash.Hash, authMessage string) []byte {
	return mac(newHash, k.StoredKey, authMessage)
}

// ServerSignature is what proves the server to the client.
func (k Keys) ServerSignature(newHash func() hash.Hash, authMessage string) []byte {
	return mac(newHash, k.ServerKey, authMessage)
}

// WithClientKey recovers the client key from a client's proof. ok is false, and k
// is returned as it is, if the proof is wrong.
func (k Keys) WithClientKey(newHash func() hash.Hash, proof []byte, authMessage string) (_ Keys, ok bool) {
	signature := k.ClientSignature(newHash, authMessage)
	if len(proof) != len(signature) {
		return k, false
	}
	client := make([]byte, KeySize)
	subtle.XORBytes(client, proof, signature)
	if !hmac.Equal(digest(newHash, client), k.StoredKey) {
		return k, false
	}
	k.ClientKey = client
	return k, true
}

func mac(newHash func() hash.Hash, key []byte, message string) []byte {
	h := hmac.New(newHash, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

func digest(newHash func() hash.Hash, b []byte) []byte {
	h := newHash()
	h.Write(b)
	return h.Sum(nil)
}
