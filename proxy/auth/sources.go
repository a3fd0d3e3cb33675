package auth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"github.com/pgweir/pgweir/internal/hba"
)

// find looks a user's secret up in the sources, in order. No secret is no error.
func (v *Verifier) find(ctx context.Context, database, user string) (stored, error) {
	if s, ok := v.static(user); ok {
		return s, nil
	}
	if v.queries != nil {
		return v.queries.find(ctx, database, user)
	}
	return stored{}, nil
}

// static looks in the configuration and the file.
func (v *Verifier) static(user string) (stored, bool) {
	if s, ok := v.users[user]; ok {
		return s, true
	}
	if v.file != nil {
		s, ok := v.file.find(user)
		return s, ok
	}
	return stored{}, false
}

// Configured is what logs a user's clients in to servers, as far as that is configured; a user
// file is not looked at again.
func (v *Verifier) Configured(user string) Secret {
	s, ok := v.users[user]
	if !ok && v.file != nil {
		s = v.file.state.Load().users[user]
	}
	return s.usable()
}

// configured is what logs a client in to servers who proved nothing by a secret.
func (v *Verifier) configured(user string) Secret {
	s, _ := v.static(user)
	return s.usable()
}

// Bounds of what auth.query's answers are kept for: no user is nearly as soon
// true no more as it is asked for, and a changed password should be noticed.
const (
	maxNegativeTTL = 5 * time.Second
	suspectAfter   = time.Second
)

// queryCache keeps the answers of auth.query. It is bounded, and concurrent
// questions for one user are one query.
type queryCache struct {
	lookup  Lookup
	ttl     time.Duration
	timeout time.Duration // of one query; 0 is none
	flights singleflight.Group

	mu        sync.Mutex // protects the fields below
	answers   *simplelru.LRU[cacheKey, answer]
	forgotten uint64 // calls of forget
}

type answer struct {
	stored
	asked, expires time.Time
}

func newQueryCache(lookup Lookup, ttl, timeout time.Duration) *queryCache {
	answers, err := simplelru.NewLRU[cacheKey, answer](cacheSize, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &queryCache{lookup: lookup, ttl: ttl, timeout: timeout, answers: answers}
}

func (q *queryCache) find(ctx context.Context, database, user string) (stored, error) {
	key := keyOf(database, user)
	s, ok, forgotten := q.cached(key)
	if ok {
		return s, nil
	}
	// The query outlives the client that happened to ask first, because others wait
	// for it too; its own timeout ends it.
	detached := context.WithoutCancel(ctx)
	flight := q.flights.DoChan(fmt.Sprint(forgotten, " ", string(key[:])), func() (any, error) {
		return q.ask(detached, key, database, user, forgotten)
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return stored{}, fmt.Errorf("auth query: %w", r.Err)
		}
		return r.Val.(stored), nil
	case <-ctx.Done():
		return stored{}, fmt.Errorf("auth query: %w", context.Cause(ctx))
	}
}

// cached returns the answer that is kept, if there is one, and how often all were forgotten.
func (q *queryCache) cached(key cacheKey) (s stored, ok bool, forgotten uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.answers.Get(key)
	return a.stored, ok && time.Now().Before(a.expires), q.forgotten
}

// forget drops all answers, and those that were asked for before.
func (q *queryCache) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answers.Purge()
	q.forgotten++
}

// ask asks, and keeps the answer unless all were forgotten since.
func (q *queryCache) ask(ctx context.Context, key cacheKey, database, user string, forgotten uint64) (stored, error) {
	if q.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.timeout)
		defer cancel()
	}
	asked := time.Now()
	found, err := q.lookup(ctx, database, user)
	if err != nil {
		return stored{}, err
	}
	s, err := parseStored(found.Secret)
	if err != nil {
		return stored{}, err
	}
	s.noLogin = found.NoLogin
	ttl := q.ttl
	if s.kind == secretNone {
		ttl = min(ttl/4, maxNegativeTTL)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.forgotten == forgotten {
		q.answers.Add(key, answer{stored: s, asked: asked, expires: asked.Add(ttl)})
	}
	return s, nil
}

// suspect drops an answer that did not fit what a client sent, unless it is quite
// new: wrong passwords must not become a stream of queries.
func (q *queryCache) suspect(database, user string) {
	key := keyOf(database, user)
	q.mu.Lock()
	defer q.mu.Unlock()
	if a, ok := q.answers.Peek(key); ok && a.kind != secretNone && time.Since(a.asked) > suspectAfter {
		q.answers.Remove(key)
	}
}

// Knows reports whether a user could log in, as far as that is known here: a query may find
// anybody, and some methods ask nobody for a secret that is kept here.
func (v *Verifier) Knows(user string, query bool) bool {
	if query || v.rules.uses(hba.Trust, hba.Cert, hba.Peer, hba.LDAP) {
		return true
	}
	_, ok := v.static(user)
	return ok
}
