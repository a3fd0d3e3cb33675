package auth

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pgweir/pgweir/internal/scram"
)

// Identity is who a client proved to be.
type Identity struct {
	User   string
	Secret Secret
}

// Secret is everything known that logs in to servers as a user; any part may be missing.
type Secret struct {
	// Password is in plain.
	Password string
	// Keys with a ClientKey log in where the server stores the same SCRAM secret.
	Keys scram.Keys
	// MD5 is "md5" and the hash, and answers md5 challenges.
	MD5 string
}

// IsZero reports whether there is nothing to log in with.
func (s Secret) IsZero() bool {
	return s.Password == "" && s.Keys.ClientKey == nil && s.MD5 == ""
}

// String shows no secret.
func (s Secret) String() string { return "<redacted>" }

// GoString shows no secret.
func (s Secret) GoString() string { return "auth.Secret{<redacted>}" }

// MarshalJSON shows no secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"<redacted>"`), nil }

type secretKind int

const (
	secretNone  secretKind = iota // no such user, or one without a password
	secretPlain                   //
	secretMD5                     // as PostgreSQL stores it
	secretSCRAM
)

// stored is a secret as a source holds it.
type stored struct {
	kind secretKind
	text string
	keys scram.Keys // with secretSCRAM
}

func (s stored) String() string   { return "<redacted>" }
func (s stored) GoString() string { return "stored{<redacted>}" }

// parseStored tells the kind of a secret by its form, as PostgreSQL does.
func parseStored(text string) (stored, error) {
	switch {
	case text == "":
		return stored{}, nil
	case scram.IsSecret(text):
		keys, err := scram.ParseSecret(text)
		if err != nil {
			return stored{}, err
		}
		return stored{kind: secretSCRAM, text: text, keys: keys}, nil
	case isMD5(text):
		return stored{kind: secretMD5, text: text}, nil
	}
	return stored{kind: secretPlain, text: text}, nil
}

func isMD5(s string) bool {
	hash, ok := strings.CutPrefix(s, "md5")
	return ok && len(hash) == 2*md5.Size && strings.Trim(hash, "0123456789abcdef") == ""
}

// usable is what of s logs in to servers without an exchange.
func (s stored) usable() Secret {
	switch s.kind {
	case secretPlain:
		return Secret{Password: s.text}
	case secretMD5:
		return Secret{MD5: s.text}
	case secretNone, secretSCRAM:
	}
	return Secret{}
}

// cacheKey stands for names, whose length clients choose.
type cacheKey [sha256.Size]byte

func keyOf(parts ...string) cacheKey {
	// No part can hold a zero byte: they come from a startup message.
	return sha256.Sum256([]byte(strings.Join(parts, "\x00")))
}

// processSecret makes the mocks of unknown users the same for the process's whole
// life, over reloads too, and unpredictable.
var processSecret = sync.OnceValue(func() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return b
})

func mockBytes(purpose, user string) []byte {
	h := hmac.New(sha256.New, processSecret())
	h.Write([]byte(purpose + "\x00" + user))
	return h.Sum(nil)
}

// saltSize is PostgreSQL's.
const saltSize = 16

// scramKeys are the keys to check a SCRAM proof of user against. Without a secret
// that SCRAM can use they are mocks, which no proof satisfies, got by the same work.
func (v *Verifier) scramKeys(user string, s stored) (keys scram.Keys, real bool, err error) {
	switch s.kind {
	case secretSCRAM:
		return s.keys, true, nil
	case secretPlain:
		keys, err = v.derive(v.derived, user, s.text)
		return keys, true, err
	case secretNone, secretMD5:
	}
	if v.metPlain.Load() {
		keys, err = v.derive(v.mocks, user, hex.EncodeToString(mockBytes("password", user)))
		return keys, false, err
	}
	return scram.Keys{
		Salt:       mockBytes("salt", user)[:saltSize],
		Iterations: scram.DefaultIterations,
		StoredKey:  mockBytes("stored key", user),
		ServerKey:  mockBytes("server key", user),
	}, false, nil
}

// derive makes the keys of a plain password, or finds them. The salt is a mock's,
// so that it does not tell known from unknown users.
func (v *Verifier) derive(cache *lru.Cache[cacheKey, scram.Keys], user, password string) (scram.Keys, error) {
	sum := sha256.Sum256([]byte(password))
	key := keyOf(user, string(sum[:]))
	if keys, ok := cache.Get(key); ok {
		return keys, nil
	}
	salt := mockBytes("salt", user)[:saltSize]
	keys, err := scram.Derive(v.newHash, password, salt, scram.DefaultIterations)
	if err != nil {
		return scram.Keys{}, err
	}
	// What checks a client needs no client key: keep none.
	keys.ClientKey = nil
	cache.Add(key, keys)
	return keys, nil
}
