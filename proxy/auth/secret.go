package auth

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pgweir/pgweir/internal/hba"
	"github.com/pgweir/pgweir/internal/scram"
)

// Identity is who a client proved to be.
type Identity struct {
	User   string
	Secret Secret
	Method string // by which it proved that
}

// ByPassword reports whether it proved that by a secret that servers may know, and that
// may have expired there.
func (i Identity) ByPassword() bool {
	switch i.Method {
	case hba.SCRAM, hba.MD5, hba.Password:
		return true
	}
	return false
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
	more []stored   // further secrets that let the user in, while one is rotated
	why  string     // with secretNone, for the log: what is wrong with the one there is

	noLogin bool // see Found
}

// parseAll reads the secrets of one user, of which the first logs in to servers. Without
// any there is none, and no error.
func parseAll(texts ...string) (stored, error) {
	var all []stored
	for _, text := range texts {
		s, err := parseStored(text)
		if err != nil {
			return stored{}, err
		}
		if s.kind != secretNone {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return stored{}, nil
	}
	first := all[0]
	first.more = all[1:]
	return first, nil
}

// each calls f with every secret of s.
func (s stored) each(f func(stored)) {
	f(s)
	for _, other := range s.more {
		f(other)
	}
}

// forServers is what logs in to servers once a client has proved one of several secrets:
// servers know the first.
func (s stored) forServers(proved Secret) Secret {
	if usable := s.usable(); len(s.more) > 0 && !usable.IsZero() {
		return usable
	}
	return proved
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

// scramKeys are the keys to check a SCRAM proof of user against, one at least, all with
// one salt and number of iterations, as the client is told these before it proves anything.
// Without a secret that SCRAM can use they are mocks, which no proof satisfies, got by the
// same work.
func (v *Verifier) scramKeys(user string, s stored) (all []scram.Keys, real bool, err error) {
	shape := saltOf(user, s)
	s.each(func(s stored) {
		var keys scram.Keys
		switch {
		case err != nil:
		case s.kind == secretSCRAM && string(s.keys.Salt) == string(shape.Salt) && s.keys.Iterations == shape.Iterations:
			all = append(all, s.keys)
		case s.kind == secretPlain:
			keys, err = v.derive(v.derived, user, s.text, shape)
			all = append(all, keys)
		}
	})
	if err != nil || len(all) > 0 {
		return all, true, err
	}
	if v.metPlain.Load() {
		keys, err := v.derive(v.mocks, user, hex.EncodeToString(mockBytes("password", user)), shape)
		return []scram.Keys{keys}, false, err
	}
	shape.StoredKey, shape.ServerKey = mockBytes("stored key", user), mockBytes("server key", user)
	return []scram.Keys{shape}, false, nil
}

// saltOf is the salt and the iterations a client is told: those of the first SCRAM secret,
// or else a mock's, so that they do not tell known from unknown users.
func saltOf(user string, s stored) (shape scram.Keys) {
	shape = scram.Keys{Salt: mockBytes("salt", user)[:saltSize], Iterations: scram.DefaultIterations}
	found := false
	s.each(func(s stored) {
		if s.kind == secretSCRAM && !found {
			shape, found = scram.Keys{Salt: s.keys.Salt, Iterations: s.keys.Iterations}, true
		}
	})
	return shape
}

// derive makes the keys of a plain password, or finds them.
func (v *Verifier) derive(cache *lru.Cache[cacheKey, scram.Keys], user, password string, shape scram.Keys) (scram.Keys, error) {
	sum := sha256.Sum256([]byte(password))
	key := keyOf(user, string(sum[:]), string(shape.Salt), strconv.Itoa(shape.Iterations))
	if keys, ok := cache.Get(key); ok {
		return keys, nil
	}
	keys, err := scram.Derive(v.newHash, password, shape.Salt, shape.Iterations)
	if err != nil {
		return scram.Keys{}, err
	}
	// What checks a client needs no client key: keep none.
	keys.ClientKey = nil
	cache.Add(key, keys)
	return keys, nil
}
