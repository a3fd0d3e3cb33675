package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/config"
)

const base = 100 * time.Millisecond

func delayed(t *testing.T) *Verifier {
	return mustNew(t, config.Auth{Method: "password", AllowPlainPassword: true, FailureDelay: base}, testUsers(t), nil, nil)
}

// attempt returns how long the answer took.
func attempt(t *testing.T, v *Verifier, user, pw, addr, want string) time.Duration {
	t.Helper()
	start := time.Now()
	_, err := v.Authenticate(context.Background(), Client{User: user, Database: "d", Address: addr}, password(pw))
	if code(err) != want {
		t.Errorf("%s/%s: got %v, want %s", user, pw, err, want)
	}
	return time.Since(start)
}

func TestFailuresAreSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := delayed(t)
		for _, user := range []string{"plain", "unknown"} {
			for i, want := range []time.Duration{base, 2 * base, 4 * base, 8 * base, 16 * base, 32 * base, 32 * base} {
				// The port is another each time.
				if took := attempt(t, v, user, "wrong", fmt.Sprint("192.0.2.1:", i), "28P01"); took != want {
					t.Errorf("%s: failure %d answered after %s, want %s", user, i+1, took, want)
				}
			}
		}
		// Neither another address nor another user waits, nor does the right password.
		if took := attempt(t, v, "plain", "secret", "192.0.2.2:1", "ok"); took != 0 {
			t.Errorf("another address waits %s", took)
		}
		if took := attempt(t, v, "plain", "wrong", "192.0.2.2:1", "28P01"); took != base {
			t.Errorf("another address waits %s", took)
		}
		if took := attempt(t, v, "scram", "secret", "192.0.2.1:1", "ok"); took != 0 {
			t.Errorf("another user waits %s", took)
		}
		if took := attempt(t, v, "plain", "secret", "192.0.2.1:1", "ok"); took != 0 {
			t.Errorf("the right password waits %s", took)
		}
		if took := attempt(t, v, "plain", "wrong", "192.0.2.1:1", "28P01"); took != base {
			t.Errorf("a success does not end the slowing: %s", took)
		}
		attempt(t, v, "plain", "wrong", "192.0.2.1:1", "28P01")
		time.Sleep(forgetFailures + time.Second)
		if took := attempt(t, v, "plain", "wrong", "192.0.2.1:1", "28P01"); took != base {
			t.Errorf("nothing is forgotten: %s", took)
		}
	})
}

// TestHangingUpGainsNothing: who does not wait for an answer waits at the next attempt.
func TestHangingUpGainsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := delayed(t)
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := v.Authenticate(ctx, Client{User: "plain", Database: "d", Address: "192.0.2.1:1"}, password("wrong")); !errors.Is(err, context.Canceled) || code(err) != "57014" {
				t.Errorf("error %v", err)
			}
		})
		synctest.Wait()
		cancel()
		all.Wait()
		if took := attempt(t, v, "plain", "wrong", "192.0.2.1:2", "28P01"); took != 3*base {
			t.Errorf("answered after %s, want %s", took, 3*base)
		}
	})
}

func TestDelayKey(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true},
		{"192.0.2.1:1", "192.0.2.2:1", false},
		{"192.0.2.1:1", "[::ffff:192.0.2.1]:9", true},
		{"[2001:db8::1]:1", "[2001:db8::2]:1", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::2%eth0]:1", true},
		{"", "@", false},
	} {
		if same := delayKey(c.a, "u") == delayKey(c.b, "u"); same != c.same {
			t.Errorf("%s and %s: same is %v", c.a, c.b, same)
		}
	}
	if delayKey("192.0.2.1:1", "u") == delayKey("192.0.2.1:1", "v") {
		t.Error("users share a key")
	}
}

func TestDelaysAreBounded(t *testing.T) {
	d := newDelays(base)
	now := time.Now()
	for i := range 2 * cacheSize {
		d.note(delayKey("192.0.2.1:1", strings.Repeat("x", i%7)+fmt.Sprint(i)), now)
	}
	if n := d.slots.Len(); n != cacheSize {
		t.Errorf("%d keys are held", n)
	}
}
