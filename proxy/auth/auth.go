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
	"errors"
	"fmt"
	"hash"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/hba"
	"github.com/pgweir/pgweir/internal/scram"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/auth/ldap"
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

// Lookup asks the primary of the database's cluster for the secret of a user. It may be
// called concurrently.
type Lookup func(ctx context.Context, database, user string) (Found, error)

// Found is what was found; the zero value is that there is no such user, or none with a secret.
type Found struct {
	Secret string
	// NoLogin is that the secret lets nobody in: it is a role's that is not permitted to log in,
	// which is told to who proves to know it, and to nobody else.
	NoLogin bool
}

// cacheSize bounds each cache of a Verifier, in users.
const cacheSize = 16384

// Verifier authenticates clients. It may be used concurrently. Its
// configuration never changes: a reload makes a new one.
type Verifier struct {
	rules      rules
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

// Servers are what is asked of them. What is nil cannot be asked.
type Servers struct {
	Secret Lookup // finds nothing in databases without a query
	Roles  Roles
}

// New makes a Verifier. tls is what the listeners use, nil without TLS.
func New(cfg config.Auth, users map[string]config.User, tls *TLS, ask Servers) (*Verifier, error) {
	v := &Verifier{
		allowPlain: cfg.AllowPlainPassword,
		tls:        tls,
		users:      make(map[string]stored),
		delays:     newDelays(cfg.FailureDelay),
		newHash:    sha256.New,
	}
	switch cfg.Method {
	case "", hba.SCRAM, hba.MD5, hba.Password, hba.Trust, hba.Cert:
	default:
		return nil, fmt.Errorf("auth method %q is unknown", cfg.Method)
	}
	var err error
	if v.rules, err = newRules(cfg, ask.Roles); err != nil {
		return nil, err
	}
	if v.rules.needsCertificates() && !tls.VerifiesClients() {
		return nil, fmt.Errorf("auth method cert needs TLS with a ca_file for client certificates")
	}
	for name, u := range users {
		s, err := parseAll(append([]string{u.Password}, u.OldPasswords...)...)
		if err != nil {
			return nil, fmt.Errorf("user %q: %w", name, err)
		}
		if s.kind != secretNone {
			v.users[name] = s
			s.each(v.met)
		}
	}
	if cfg.UserFile != "" {
		v.file = &userFile{path: cfg.UserFile}
		if err := v.ReloadUserFile(); err != nil {
			return nil, err
		}
	}
	if ask.Secret != nil {
		v.queries = newQueryCache(ask.Secret, cfg.QueryTTL, cfg.Timeout)
	}
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

// KnowsSomebody reports whether anybody can log in without a secret being asked for on
// the servers.
func (v *Verifier) KnowsSomebody() bool {
	return len(v.users) > 0 || v.file != nil || v.rules.uses(hba.Trust, hba.Cert, hba.Peer, hba.LDAP)
}

// Authenticate runs the exchange of the method that is asked of a client up to, but without,
// AuthenticationOk: that and every ErrorResponse are the caller's to send.
// ctx bounds the waits (not Send and Receive, which the caller bounds by the connection's deadline).
//
// What the client is to be told is a *wire.Error in the error's chain; the rest of
// the chain may say more and is for the log. An error without one comes from Send or
// Receive: the connection is broken.
func (v *Verifier) Authenticate(ctx context.Context, c Client, x Exchange) (Identity, error) {
	rule, err := v.rules.of(ctx, c, x.TLS())
	if err != nil {
		return Identity{}, err
	}
	l := login{v: v, ctx: ctx, Client: c, x: x, rule: rule, key: delayKey(c.Address, c.User)}
	secret, err := l.byMethod()
	if err != nil {
		return Identity{}, err
	}
	return Identity{User: c.User, Secret: secret, Method: rule.Method}, nil
}

// login is one client's attempt.
type login struct {
	Client
	v    *Verifier
	ctx  context.Context
	x    Exchange
	rule *hba.Rule
	key  cacheKey // of delays
}

// byMethod has the client prove who it is as its rule says.
func (l *login) byMethod() (Secret, error) {
	if l.rule.ClientCert != "" || l.rule.Method == hba.Cert {
		if err := l.certificate(); err != nil {
			return Secret{}, err
		}
	}
	switch l.rule.Method {
	case hba.Trust, hba.Cert:
		return l.v.configured(l.User), nil
	case hba.Peer:
		return l.peer()
	case hba.LDAP:
		return l.directory()
	}
	return l.prove()
}

// peer is method peer: who the system says is at the other end of the socket.
func (l *login) peer() (Secret, error) {
	refused := wire.Fatalf("28000", "Peer authentication failed for user \"%s\"", l.User)
	if l.Peer == nil {
		return Secret{}, fmt.Errorf("%w: the system does not say who it is", refused)
	}
	system, err := l.Peer()
	if err == nil {
		err = l.v.rules.mapped(l.ctx, l.rule, system, l.Client)
	}
	if err != nil {
		return Secret{}, fmt.Errorf("%w: %w", refused, err)
	}
	return l.v.configured(l.User), nil
}

// mayBeInClear refuses a connection over which a password could be overheard.
func (l *login) mayBeInClear() error {
	if l.x.TLS() == nil && !l.Local && !l.v.allowPlain {
		return wire.Fatalf("28000", "%s authentication requires a TLS connection", l.rule.Method).
			WithHint("Connect with sslmode=require, or choose another auth method.")
	}
	return nil
}

// directory is method ldap: the client sends its password in plain, and an LDAP server says
// whether it is right. It may log in to servers, which may ask the same one.
func (l *login) directory() (Secret, error) {
	if err := l.mayBeInClear(); err != nil {
		return Secret{}, err
	}
	given, err := l.askPassword(&pgproto3.AuthenticationCleartextPassword{})
	if err != nil {
		return Secret{}, err
	}
	if err := l.mayCheck(); err != nil {
		return Secret{}, err
	}
	err = ldap.Check(l.ctx, l.rule.LDAP, l.v.rules.authorities, l.User, given)
	switch {
	case errors.Is(err, ldap.ErrRefused):
		return Secret{}, l.failed(err.Error())
	case err != nil && l.ctx.Err() != nil:
		return Secret{}, fmt.Errorf("%w: %w", errTimeout, err)
	case err != nil:
		return Secret{}, fmt.Errorf("%w: %w", wire.Fatalf("57P03", "could not ask the LDAP server about user %q", l.User), err)
	}
	l.v.delays.succeeded(l.key)
	return Secret{Password: given}, nil
}

// prove runs one of the methods that need a secret.
func (l *login) prove() (Secret, error) {
	v := l.v
	if l.rule.Method == hba.Password {
		if err := l.mayBeInClear(); err != nil {
			return Secret{}, err
		}
	}
	s, err := v.find(l.ctx, l.Database, l.User)
	if err != nil {
		if l.ctx.Err() != nil {
			return Secret{}, fmt.Errorf("%w: %w", errTimeout, err)
		}
		return Secret{}, fmt.Errorf("%w: %w",
			wire.Fatalf("57P03", "could not look up the password of user %q", l.User), err)
	}
	s.each(v.met)
	secret, err := l.compare(s)
	if err == nil && s.noLogin {
		return Secret{}, wire.Fatalf("28000", "role \"%s\" is not permitted to log in", l.User)
	}
	return secret, err
}

// compare runs the exchange that a secret takes.
func (l *login) compare(s stored) (Secret, error) {
	switch {
	case l.rule.Method == hba.Password:
		return l.password(s)
	case l.rule.Method == hba.MD5 && l.v.looksLikeMD5(s):
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
	v.rules.roles.forget()
}

// failed answers a wrong proof: it is noted, and the answer held back.
func (l *login) failed(why string) error {
	if l.v.queries != nil {
		// The secret may have been changed: ask again before the next attempt.
		l.v.queries.suspect(l.Database, l.User)
	}
	if err := l.v.delays.failed(l.ctx, l.key); err != nil {
		return fmt.Errorf("%w: %w", errTimeout, err)
	}
	told := wire.Fatalf("28P01", "password authentication failed for user \"%s\"", l.User)
	if l.rule.Method == hba.LDAP {
		told = wire.Fatalf("28000", "LDAP authentication failed for user \"%s\"", l.User)
	}
	return fmt.Errorf("%w: %s", told, why)
}

// mayCheck waits while earlier failures of the same address and user are still
// being held back, so that hanging up early gains nothing.
func (l *login) mayCheck() error {
	if err := l.v.delays.wait(l.ctx, l.key); err != nil {
		return fmt.Errorf("%w: %w", errTimeout, err)
	}
	return nil
}
