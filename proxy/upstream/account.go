package upstream

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/slots"
)

// Account is how the proxy itself logs in to one cluster: with the service account, or
// with the fallback credentials of the latest client.
type Account struct {
	dialer
	slots    *slots.Servers
	pools    func() []*Pools // where clients with other credentials are found
	fallback atomic.Pointer[login]
	guest    atomic.Pointer[login] // the fallback that only its client's own database lets in
	asker    asker
	knocks   knocks
	// logins counts changes of who may log in; loginsChanged is called with each.
	logins        atomic.Uint64
	loginsChanged func()
}

// maintenance is the database that is there to be connected to, and that nobody drops.
const maintenance = "postgres"

// Reach is how a server is connected to.
func (a *Account) Reach(s *cluster.Server) (backend.Options, error) { return a.reach(s) }

// login is a client's, that the proxy may fall back to.
type login struct {
	cred     backend.Credentials
	database string
	proven   bool // a server let it in
}

// OfferFallback offers a client's credentials for a database, which the proxy uses if it
// has no account of its own.
func (a *Account) OfferFallback(cred backend.Credentials, database string) {
	a.offer(login{cred: cred, database: database})
}

// offer takes a login to fall back to. One that a server has let in is not given up for
// one that none has yet.
func (a *Account) offer(l login) {
	if a.access.Load().service.User != "" {
		return
	}
	if now := a.fallback.Load(); now == nil || l.proven || !now.proven {
		a.fallback.Store(&l)
	}
}

// Open logs in to a server; an empty database is the account's own. The error is
// cluster.ErrNoLogin as long as there are no credentials.
func (a *Account) Open(ctx context.Context, s *cluster.Server, database string) (*backend.Backend, error) {
	if a.access.Load().service.User == "" {
		return a.borrow(ctx, s, database)
	}
	service := a.access.Load().service
	if database == "" {
		database = cmp.Or(service.Database, maintenance)
	}
	return a.dialOwn(ctx, s, backend.Credentials{User: service.User, Password: service.Password}, database)
}

// borrow is Open with a client's login. Its own database is not that client's if there is
// another that lets it in: nobody could drop or copy that.
func (a *Account) borrow(ctx context.Context, s *cluster.Server, database string) (*backend.Backend, error) {
	l := a.fallback.Load()
	if l == nil {
		return nil, cmp.Or(a.knocks.knock(ctx, s, a.connectOnly), cluster.ErrNoLogin)
	}
	own := database == "" || database == l.database
	if database == "" {
		database = maintenance
		if a.guest.Load() == l {
			database = l.database
		}
	}
	b, err := a.dialOwn(ctx, s, l.cred, database)
	if own && database != l.database && closedTo(err) {
		a.guest.Store(l)
		b, err = a.dialOwn(ctx, s, l.cred, l.database)
	}
	if own && l.proven && err != nil && !Unreachable(err) {
		// A changed password, perhaps, or a dropped database: another client's login is
		// as good.
		a.fallback.CompareAndSwap(l, a.another(l, ""))
	}
	return b, err
}

// connectOnly connects to a server and leaves.
func (d *dialer) connectOnly(ctx context.Context, s *cluster.Server) error {
	ctx, cancel := context.WithTimeout(ctx, d.access.Load().timeout)
	defer cancel()
	reach, err := d.reach(s)
	if err != nil {
		return err
	}
	return backend.Knock(ctx, reach)
}

// closedTo reports whether a login failed because of its database.
func closedTo(err error) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case "3D000", "42501", "28000", "55000": // no such database, no CONNECT, no line of pg_hba.conf, no connections allowed
		return true
	}
	return false
}

// leave has the proxy's own connections leave a client's database, if they are in it, and
// reports whether they were.
func (a *Account) leave(database string) bool {
	l := a.fallback.Load()
	if l == nil || a.guest.Load() != l || l.database != database {
		return false
	}
	next := a.another(l, database)
	if next.database == database {
		next = nil
	}
	return a.fallback.CompareAndSwap(l, next)
}

// dialOwn opens a connection of the proxy's own.
func (a *Account) dialOwn(ctx context.Context, s *cluster.Server, cred backend.Credentials, database string) (*backend.Backend, error) {
	return a.slots.Of(s).Own(ctx, func(ctx context.Context) (*backend.Backend, error) {
		return a.dial(ctx, s, cred, database, internal)
	})
}

// compareSlots says whether a server lets in what pools may open.
func (a *Account) compareSlots(ctx context.Context, s *cluster.Server, log *zap.Logger) {
	ctx, cancel := context.WithTimeout(ctx, a.access.Load().timeout)
	defer cancel()
	b, err := a.Open(ctx, s, "")
	if err != nil {
		return // others tell of that
	}
	defer b.Close()
	a.slots.Of(s).Compare(ctx, b, log)
}

// another is the login of some other user or database that has clients, to be tried
// in place of one that a server refused; without any, that one again, until a client
// comes with a better one.
func (a *Account) another(refused *login, avoid string) *login {
	found := a.ofClient(func(l *login) bool {
		return l.database != avoid && (l.database != refused.database || !l.cred.Equal(refused.cred))
	})
	if found == nil {
		found = &login{cred: refused.cred, database: refused.database}
	}
	return found
}

// ofClient is the login of some client that a server has let in; nil if there is none that suits.
func (a *Account) ofClient(suits func(*login) bool) *login {
	for _, p := range a.pools() {
		l := login{p.Credentials(), p.Database.name, true}
		if p.Database.account == a && p.clients.Load() > 0 && p.proven() && suits(&l) {
			return &l
		}
	}
	return nil
}

// refusal asks the servers whether they let a client in, where the proxy has no account
// of its own to learn anything of them with. It returns theirs, or nil.
func (a *Account) refusal(ctx context.Context, t *cluster.Topology, cred backend.Credentials, database string) error {
	if a.access.Load().service.User != "" || t.Primary != nil {
		return nil
	}
	for _, st := range t.States {
		b, err := a.dialOwn(ctx, st.Server, cred, database)
		if err == nil {
			b.Close()
			return nil
		}
		if !Unreachable(err) {
			return err
		}
	}
	return nil
}

// dialer is what connections to the servers of one cluster have in common.
type dialer struct {
	connect backend.Dial
	access  atomic.Pointer[access] // in force
}

// access is what the configuration says of logging in to a cluster. It never changes.
type access struct {
	tls           *backend.TLS
	service       config.Service
	timeout       time.Duration
	maxStatements int // prepared on one connection
}

// internal are the startup parameters of the proxy's own connections.
var internal = map[string]string{"application_name": "pgweir"}

func (d *dialer) reach(s *cluster.Server) (backend.Options, error) {
	addr, err := backend.ParseAddress(s.Address)
	return backend.Options{Address: addr, TLSName: s.TLSName(), TLS: d.access.Load().tls, Dial: d.connect}, err
}

// dial opens one server connection; params are further startup parameters.
func (d *dialer) dial(ctx context.Context, s *cluster.Server, cred backend.Credentials, database string, params map[string]string) (*backend.Backend, error) {
	now := d.access.Load()
	ctx, cancel := context.WithTimeout(ctx, now.timeout)
	defer cancel()
	reach, err := d.reach(s)
	if err != nil {
		return nil, err
	}
	l, err := backend.Open(ctx, reach, cred, database, params)
	if err != nil {
		return nil, err
	}
	return backend.New(l, now.maxStatements), nil
}
