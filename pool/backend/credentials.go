package backend

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"strings"

	"github.com/pgweir/pgweir/internal/scram"
)

// Credentials are who logs in to a server and whatever is known to prove it; any
// of the proofs may be missing.
type Credentials struct {
	User     string
	Password string
	// Keys with a ClientKey answer SCRAM without the password.
	Keys scram.Keys
	// MD5 is "md5" and the hash PostgreSQL stores; it answers an md5 challenge
	// without the password.
	MD5 string
}

// ByPassword reports whether the server may be shown a password, or a proof of one.
func (c Credentials) ByPassword() bool { return c.Password != "" || c.MD5 != "" || !c.Keys.IsZero() }

// ErrNoSecret says that the credentials hold nothing the server's method can use.
var ErrNoSecret = scram.ErrNoCredential

// Equal reports whether c and o are the same user with the same proofs.
func (c Credentials) Equal(o Credentials) bool {
	return c.User == o.User && c.Keys.Equal(o.Keys) &&
		subtle.ConstantTimeCompare([]byte(c.Password), []byte(o.Password))&
			subtle.ConstantTimeCompare([]byte(c.MD5), []byte(o.MD5)) == 1
}

// String names the user and shows no secret.
func (c Credentials) String() string { return c.User }

// GoString shows no secret.
func (c Credentials) GoString() string { return "backend.Credentials{User: " + c.User + "}" }

// MarshalJSON shows no secret.
func (c Credentials) MarshalJSON() ([]byte, error) { return []byte(`"<redacted>"`), nil }

// md5Response answers an md5 challenge; ok is false if nothing known can.
// https://www.postgresql.org/docs/current/protocol-flow.html
func (c Credentials) md5Response(salt [4]byte) (_ string, ok bool) {
	inner, ok := strings.CutPrefix(c.MD5, "md5")
	if !ok {
		if c.Password == "" {
			return "", false
		}
		inner = hexMD5(c.Password + c.User)
	}
	return "md5" + hexMD5(inner+string(salt[:])), true
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
