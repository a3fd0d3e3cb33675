package auth

import (
	"crypto/sha256"
	"hash"
	"sync/atomic"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// countedHash counts the blocks of input hashed: the work of HMACs and derivations.
type countedHash struct {
	hash.Hash
	n *atomic.Int64
}

func (h countedHash) Write(p []byte) (int, error) {
	h.n.Add(1)
	return h.Hash.Write(p)
}

// TestSameWork counts what right, wrong and unknown cost. Time would tell the same,
// less surely.
func TestSameWork(t *testing.T) {
	for _, c := range []struct {
		method string
		users  map[string]config.User
	}{
		{"scram-sha-256", map[string]config.User{"a": {Password: "secret"}}},
		{"scram-sha-256", map[string]config.User{"a": {Password: scramSecret(t, "secret")}}},
		{"password", map[string]config.User{"a": {Password: "secret"}}},
		{"password", map[string]config.User{"a": {Password: scramSecret(t, "secret")}}},
	} {
		v := mustNew(t, config.Auth{Method: c.method, AllowPlainPassword: true}, c.users, nil, nil)
		var n atomic.Int64
		v.newHash = func() hash.Hash { return countedHash{sha256.New(), &n} }
		work := func(user, pw, want string) int64 {
			n.Store(0)
			x := password(pw)
			if c.method == "scram-sha-256" {
				x = (&saslClient{t: t, password: pw}).exchange()
			}
			if _, got := authenticate(t, v, user, x); got != want {
				t.Fatalf("%s/%s: got %s", user, pw, got)
			}
			return n.Load()
		}
		// The first attempts may derive keys that later ones find.
		first, firstUnknown := work("a", "wrong", "28P01"), work("nobody", "secret", "28P01")
		if first != firstUnknown {
			t.Errorf("%s: a first wrong password costs %d, a first unknown user %d", c.method, first, firstUnknown)
		}
		right, wrong, unknown := work("a", "secret", "ok"), work("a", "wrong", "28P01"), work("nobody", "secret", "28P01")
		if right != wrong || wrong != unknown || right == 0 {
			t.Errorf("%s: right costs %d, wrong %d, unknown %d", c.method, right, wrong, unknown)
		}
		if c.method == "scram-sha-256" && right > 100 {
			t.Errorf("a login derives keys: %d", right)
		}
	}
}
