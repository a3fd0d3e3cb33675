package auth

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/config"
)

// table is a primary's pg_shadow.
type table struct {
	mu    sync.Mutex // protects the fields below
	users map[string]string
	err   error
	asked []string
	gate  chan struct{} // if set, answers wait for it
}

func (p *table) lookup(ctx context.Context, database, user string) (Found, error) {
	p.mu.Lock()
	p.asked = append(p.asked, database+"/"+user)
	secret := p.users[user]
	err, gate := p.err, p.gate
	p.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return Found{}, ctx.Err()
		}
	}
	return Found{Secret: secret}, err
}

func (p *table) set(user, secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users[user] = secret
}

func (p *table) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

func queryAuth() config.Auth {
	return config.Auth{Method: "password", AllowPlainPassword: true, Query: "select …", QueryTTL: time.Minute, Timeout: 10 * time.Second}
}

func TestOrderOfSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	writeFile(t, path, "\"a\" \"file\"\n\"b\" \"file\"")
	p := &table{users: map[string]string{"a": "query", "b": "query", "c": "query"}}
	cfg := queryAuth()
	cfg.UserFile = path
	v := mustNew(t, cfg, map[string]config.User{"a": {Password: "config"}, "c": {PoolSize: 1}}, nil, p.lookup)
	for user, want := range map[string]string{"a": "config", "b": "file", "c": "query"} {
		for _, source := range []string{"config", "file", "query"} {
			_, got := authenticate(t, v, user, password(source))
			if (got == "ok") != (source == want) {
				t.Errorf("%s with the password of %s: %s", user, source, got)
			}
		}
	}
}

func TestQueryCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &table{users: map[string]string{"a": "one"}}
		v := mustNew(t, queryAuth(), nil, nil, p.lookup)
		check := func(user, pw, want string, asked int) {
			t.Helper()
			if _, err := v.Authenticate(context.Background(), Client{User: user, Database: "d", Address: ""}, password(pw)); code(err) != want {
				t.Errorf("%s/%s: got %v, want %s", user, pw, err, want)
			}
			if p.count() != asked {
				t.Errorf("%s/%s: asked %d times, want %d", user, pw, p.count(), asked)
			}
		}
		check("a", "one", "ok", 1)
		check("a", "one", "ok", 1)
		time.Sleep(time.Minute)
		check("a", "one", "ok", 2)

		// A changed password is noticed at the second attempt, and guesses do not
		// become a stream of queries.
		p.set("a", "two")
		time.Sleep(2 * suspectAfter)
		check("a", "two", "28P01", 2)
		check("a", "two", "ok", 3)
		for range 5 {
			check("a", "guess", "28P01", 3)
		}

		check("late", "x", "28P01", 4)
		p.set("late", "x")
		check("late", "x", "28P01", 4)
		time.Sleep(maxNegativeTTL)
		check("late", "x", "ok", 5)

		p.err = errors.New("no primary")
		time.Sleep(time.Minute)
		check("a", "two", "57P03", 6)
		check("a", "two", "57P03", 7) // a failure is not kept
		p.set("bad", "SCRAM-SHA-256$x")
		p.err = nil
		check("bad", "x", "57P03", 8)
	})
}

func TestConcurrentQueriesAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &table{users: map[string]string{"a": "one"}, gate: make(chan struct{})}
		v := mustNew(t, queryAuth(), nil, nil, p.lookup)
		hurried, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		login := func(ctx context.Context, want string) {
			_, err := v.Authenticate(ctx, Client{User: "a", Database: "d", Address: ""}, password("one"))
			if code(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		all.Go(func() { login(hurried, "57014") })
		for range 20 {
			all.Go(func() { login(context.Background(), "ok") })
		}
		synctest.Wait()
		cancel() // who asked first goes; the others still get their answer
		synctest.Wait()
		close(p.gate)
		all.Wait()
		if p.count() != 1 {
			t.Errorf("asked %d times", p.count())
		}
	})
}

func TestQueryTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &table{gate: make(chan struct{})}
		v := mustNew(t, queryAuth(), nil, nil, p.lookup)
		start := time.Now()
		_, err := v.Authenticate(context.Background(), Client{User: "a", Database: "d", Address: ""}, password("x"))
		if code(err) != "57P03" || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

func TestDatabasesAreApart(t *testing.T) {
	p := &table{users: map[string]string{"a": "one"}}
	v := mustNew(t, queryAuth(), nil, nil, p.lookup)
	for _, database := range []string{"x", "y", "x"} {
		if _, err := v.Authenticate(context.Background(), Client{User: "a", Database: database, Address: ""}, password("one")); err != nil {
			t.Error(err)
		}
	}
	if got := fmt.Sprint(p.asked); got != "[x/a y/a]" {
		t.Errorf("asked %s", got)
	}
}
