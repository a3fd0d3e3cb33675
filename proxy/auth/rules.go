package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/hba"
	"github.com/pgweir/pgweir/internal/wire"
)

// Client is who asks to be let in, and from where.
type Client struct {
	User, Database string
	// Address is the client's, as net.Addr prints it, with or without its port.
	Address string
	// Local is that it came over a Unix-domain socket.
	Local bool
	// Physical is that it asks for replication without a database.
	Physical bool
	// Peer is the system's name of the user at the other end of a Unix-domain socket; nil
	// where that cannot be known.
	Peer func() (string, error)
}

// Roles asks the primary of the database's cluster of which roles a user is a member,
// directly or not. It may be called concurrently.
type Roles func(ctx context.Context, database, user string) ([]string, error)

// rules say by which method a client must prove who it is. Without a file it is one method for all.
type rules struct {
	lines hba.Rules
	maps  hba.Maps
	usual hba.Rule
	roles *roleCache

	authorities *x509.CertPool // of LDAP servers; nil is the system's
}

func newRules(cfg config.Auth, roles Roles) (rules, error) {
	r := rules{usual: hba.Rule{Method: cfg.Method, ClientName: "CN"}, roles: newRoleCache(roles, cfg.QueryTTL)}
	if r.usual.Method == "" {
		r.usual.Method = hba.SCRAM
	}
	if cfg.LDAPCAFile != "" {
		pem, err := os.ReadFile(cfg.LDAPCAFile)
		if err != nil {
			return rules{}, fmt.Errorf("auth ldap_ca_file: %w", err)
		}
		if r.authorities = x509.NewCertPool(); !r.authorities.AppendCertsFromPEM(pem) {
			return rules{}, fmt.Errorf("auth ldap_ca_file %s: no certificate in it", cfg.LDAPCAFile)
		}
	}
	var faults []hba.Fault
	if cfg.HBAFile != "" {
		r.lines, faults = hba.Parse(cfg.HBAFile, os.ReadFile)
	}
	if cfg.IdentFile != "" && len(faults) == 0 {
		r.maps, faults = hba.ParseMaps(cfg.IdentFile, os.ReadFile)
	}
	if faults = append(faults, r.lines.Unknown(r.maps)...); len(faults) > 0 {
		return rules{}, errors.New(faults[0].String())
	}
	return r, nil
}

// uses reports whether some client proves who it is by one of the methods.
func (r *rules) uses(methods ...string) bool {
	if r.lines != nil {
		return r.lines.Uses(methods...)
	}
	return hba.Rules{&r.usual}.Uses(methods...)
}

// needsCertificates reports whether some client must show one.
func (r *rules) needsCertificates() bool {
	return r.usual.Method == hba.Cert && r.lines == nil || r.lines.NeedsCertificates()
}

// of is the rule for a client. What it is refused with is a *wire.Error in the error's chain.
func (r *rules) of(ctx context.Context, c Client, s *tls.ConnectionState) (*hba.Rule, error) {
	if r.lines == nil {
		return &r.usual, nil
	}
	connection := r.connection(ctx, c, s)
	rule, err := r.lines.Match(connection)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", wire.Fatalf("57P03", "could not look up the roles of user %q", c.User), err)
	case rule == nil:
		return nil, wire.Fatalf("28000", "%s", connection.NoMatch())
	case rule.Method == hba.Reject:
		return nil, fmt.Errorf("%w: %s", wire.Fatalf("28000", "%s", connection.Rejected()), rule)
	}
	return rule, nil
}

func (r *rules) connection(ctx context.Context, c Client, s *tls.ConnectionState) hba.Connection {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		host = strings.TrimSpace(c.Address)
	}
	address, _ := netip.ParseAddr(host) // what is none matches no network
	return hba.Connection{
		User: c.User, Database: c.Database, Physical: c.Physical, Local: c.Local, Encrypted: s != nil, Address: address.Unmap(),
		MemberOf: func(role string) (bool, error) { return r.roles.member(ctx, c.Database, c.User, role) },
	}
}

// mapped says whether who the system, or a certificate, says it is may be the user it asks to be.
func (r *rules) mapped(ctx context.Context, rule *hba.Rule, system string, c Client) error {
	yes, err := r.maps.Allow(rule.Map, system, r.connection(ctx, c, nil))
	switch {
	case err != nil:
		return err
	case yes:
		return nil
	case rule.Map != "":
		return fmt.Errorf("%q may not be %q by map %s", system, c.User, rule.Map)
	}
	return fmt.Errorf("it is %q", system)
}

// roleCache keeps of which roles users are members, for as long as answers of auth.query.
// Safe for concurrent use.
type roleCache struct {
	ask Roles
	ttl time.Duration

	mu    sync.Mutex // protects the fields below
	known *simplelru.LRU[cacheKey, membership]
}

type membership struct {
	of      map[string]bool
	expires time.Time
}

func newRoleCache(ask Roles, ttl time.Duration) *roleCache {
	known, err := simplelru.NewLRU[cacheKey, membership](cacheSize, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &roleCache{ask: ask, ttl: ttl, known: known}
}

// member reports whether a user is a member of a role; everybody is of its own.
func (r *roleCache) member(ctx context.Context, database, user, role string) (bool, error) {
	key := keyOf(database, user)
	r.mu.Lock()
	m, ok := r.known.Get(key)
	r.mu.Unlock()
	if ok && time.Now().Before(m.expires) {
		return m.of[role], nil
	}
	if r.ask == nil {
		return false, errors.New("no service account to ask with")
	}
	names, err := r.ask(ctx, database, user)
	if err != nil {
		return false, err
	}
	m = membership{make(map[string]bool, len(names)), time.Now().Add(r.ttl)}
	for _, name := range names {
		m.of[name] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known.Add(key, m)
	return m.of[role], nil
}

// forget has everybody's roles asked for again.
func (r *roleCache) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known.Purge()
}
