// Package auth proves who a client is. A Verifier runs the exchange a method asks
// for against a secret from one of three sources (the configuration, a userlist file,
// a query on the primary) and returns an Identity: the user, and whatever the
// exchange yielded that logs in to servers as that user.
//
// A wrong password and an unknown user cannot be told apart, neither by the
// messages nor by the work done, and failures are answered ever more slowly. The
// package opens no connection of its own and never logs; what holds a secret prints
// itself redacted.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"hash"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/scram"
	"github.com/pgweir/pgweir/internal/wire"
)

// MaxMessage is the largest body of a password message in bytes, as PostgreSQL
// bounds it. An Exchange must refuse a larger one.
const MaxMessage = 65535

// Exchange is the client's side of a login.
type Exchange interface {
	// Send writes whole frames and flushes them.
	Send(frame []byte) error
	// Receive returns the body of the next password message ('p'), at most
	// MaxMessage bytes, valid until the next call.
	Receive() (body []byte, err error)
	// TLS is the connection's state, nil without TLS.
	TLS() *tls.ConnectionState
}

// Lookup asks the primary of the database's cluster for the secret of a user;
// found is false if there is no such user. It may be called concurrently.
type Lookup func(ctx context.Context, database, user string) (secret string, found bool, err error)

// Methods of config.Auth.
const (
	methodSCRAM    = "scram-sha-256"
	methodMD5      = "md5"
	methodPassword = "password"
	methodCert     = "cert"
	methodTrust    = "trust"
)

// cacheSize bounds each cache of a Verifier, in users.
const cacheSize = 16384

// Verifier authenticates clients. It may be used concurrently. Its
// configuration never changes: a reload makes a new one.
type Verifier struct {
	method     string
	allowPlain bool
	tls        *TLS

	// Sources, in order; file and queries are nil where not configured.
	users   map[string]stored
	file    *userFile
	queries *queryCache

	// Keys of plain secrets, so that a login need not derive them; mocks has those
	// of unknown users, apart so that guessed names cannot push out real ones.
	derived *lru.Cache[cacheKey, scram.Keys]
	mocks   *lru.Cache[cacheKey, scram.Keys]
	// Which kinds of secrets were met: an unknown user must look like the known ones.
	metPlain, metMD5 atomic.Bool

	delays  *delays
	newHash func() hash.Hash // sha256.New, or what a test counts with
}

// New makes a Verifier. tls is what the listeners use, nil without TLS; lookup is
// nil where no query is configured.
func New(cfg config.Auth, users map[string]config.User, tls *TLS, lookup Lookup) (*Verifier, error) {
	v := &Verifier{
		method:     cfg.Method,
		allowPlain: cfg.AllowPlainPassword,
		tls:        tls,
		users:      make(map[string]stored),
		delays:     newDelays(cfg.FailureDelay),
		newHash:    sha256.New,
	}
	switch cfg.Method {
	case "":
		v.method = methodSCRAM
	case methodSCRAM, methodMD5, methodPassword, methodTrust:
	case methodCert:
		if !tls.VerifiesClients() {
			return nil, fmt.Errorf("auth method cert needs TLS with a ca_file for client certificates")
		}
	default:
		return nil, fmt.Errorf("auth method %q is unknown", cfg.Method)
	}
	for name, u := range users {
		s, err := parseStored(u.Password)
		if err != nil {
			return nil, fmt.Errorf("user %q: %w", name, err)
		}
		if s.kind != secretNone {
			v.users[name] = s
			v.met(s)
		}
	}
	if cfg.UserFile != "" {
		v.file = &userFile{path: cfg.UserFile}
		if err := v.ReloadUserFile(); err != nil {
			return nil, err
		}
	}
	if cfg.Query != "" && lookup != nil {
		v.queries = newQueryCache(lookup, cfg.QueryTTL, cfg.Timeout)
	}
	var err error
	if v.derived, err = lru.New[cacheKey, scram.Keys](cacheSize); err != nil {
		return nil, err
	}
	v.mocks, err = lru.New[cacheKey, scram.Keys](cacheSize)
	return v, err
}

// Follow has v, which nobody uses yet, go on where another Verifier stands: failures before
// it count, and unknown users go on looking like known ones.
func (v *Verifier) Follow(before *Verifier) {
	v.delays = before.delays.with(v.delays.base)
	for _, seen := range []struct{ now, then *atomic.Bool }{{&v.metPlain, &before.metPlain}, {&v.metMD5, &before.metMD5}} {
		if seen.then.Load() {
			seen.now.Store(true)
		}
	}
}

// Authenticate runs the exchange of the configured method up to, but without,
// AuthenticationOk: that and every ErrorResponse are the caller's to send.
// remoteAddr is the client's address as net.Addr prints it; ctx bounds the waits
// (not Send and Receive, which the caller bounds by the connection's deadline).
//
// What the client is to be told is a *wire.Error in the error's chain; the rest of
// the chain may say more and is for the log. An error without one comes from Send or
// Receive: the connection is broken.
func (v *Verifier) Authenticate(ctx context.Context, user, database, remoteAddr string, x Exchange) (Identity, error) {
	l := login{v: v, ctx: ctx, user: user, database: database, x: x}
	var secret Secret
	var err error
	switch v.method {
	case methodTrust:
		secret = v.configured(user)
	case methodCert:
		if err = checkCertificate(user, x.TLS()); err == nil {
			secret = v.configured(user)
		}
	default:
		l.key = delayKey(remoteAddr, user)
		secret, err = l.prove()
	}
	if err != nil {
		return Identity{}, err
	}
	return Identity{User: user, Secret: secret}, nil
}

// login is one client's attempt.
type login struct {
	v              *Verifier
	ctx            context.Context
	user, database string
	x              Exchange
	key            cacheKey // of delays
}

// prove runs one of the methods that need a secret.
func (l *login) prove() (Secret, error) {
	v := l.v
	if v.method == methodPassword && l.x.TLS() == nil && !v.allowPlain {
		return Secret{}, wire.Fatalf("28000", "password authentication requires a TLS connection").
			WithHint("Connect with sslmode=require, or choose another auth method.")
	}
	s, err := v.find(l.ctx, l.database, l.user)
	if err != nil {
		if l.ctx.Err() != nil {
			return Secret{}, fmt.Errorf("%w: %w", errTimeout, err)
		}
		return Secret{}, fmt.Errorf("%w: %w",
			wire.Fatalf("57P03", "could not look up the password of user %q", l.user), err)
	}
	v.met(s)
	switch {
	case v.method == methodPassword:
		return l.password(s)
	case v.method == methodMD5 && v.looksLikeMD5(s):
		return l.md5(s)
	}
	return l.scram(s)
}

// looksLikeMD5 chooses the exchange of method md5 as PostgreSQL does: by the
// secret's kind, and for a user without one by what other users have.
func (v *Verifier) looksLikeMD5(s stored) bool {
	if s.kind == secretNone {
		return v.metMD5.Load() || v.metPlain.Load()
	}
	return s.kind != secretSCRAM
}

func (v *Verifier) met(s stored) {
	switch s.kind {
	case secretPlain:
		v.metPlain.Store(true)
	case secretMD5:
		v.metMD5.Store(true)
	case secretNone, secretSCRAM: // what is done without a secret looks like SCRAM
	}
}

var errTimeout = wire.Fatalf("57014", "canceling authentication due to timeout")

// Forget has whatever a query has found asked for again: it may have been changed.
func (v *Verifier) Forget() {
	if v.queries != nil {
		v.queries.forget()
	}
}

// failed answers a wrong proof: it is noted, and the answer held back.
func (l *login) failed(why string) error {
	if l.v.queries != nil {
		// The secret may have been changed: ask again before the next attempt.
		l.v.queries.suspect(l.database, l.user)
	}
	if err := l.v.delays.failed(l.ctx, l.key); err != nil {
		return fmt.Errorf("%w: %w", errTimeout, err)
	}
	return fmt.Errorf("%w: %s",
		wire.Fatalf("28P01", "password authentication failed for user \"%s\"", l.user), why)
}

// mayCheck waits while earlier failures of the same address and user are still
// being held back, so that hanging up early gains nothing.
func (l *login) mayCheck() error {
	if err := l.v.delays.wait(l.ctx, l.key); err != nil {
		return fmt.Errorf("%w: %w", errTimeout, err)
	}
	return nil
}
