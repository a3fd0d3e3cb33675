package proxy

import (
	"context"
	"sync/atomic"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// account is how the proxy itself logs in to one cluster: with the service
// account, or with the login of the latest client.
type account struct {
	s        *Server
	tls      *backend.TLS
	service  config.Service
	borrowed atomic.Pointer[login]
}

// login is a client's, as lent to the proxy.
type login struct {
	cred     backend.Credentials
	database string
	proven   bool // a server let it in
}

// lend offers a client's login, which the proxy takes if it has no account of its
// own. One that a server has let in is not given up for one that none has yet.
func (a *account) lend(l login) {
	if a.service.User != "" {
		return
	}
	if now := a.borrowed.Load(); now == nil || l.proven || !now.proven {
		a.borrowed.Store(&l)
	}
}

// open logs in to a server; an empty database is the account's own.
func (a *account) open(ctx context.Context, s *cluster.Server, database string) (_ *backend.Backend, err error) {
	cred := backend.Credentials{User: a.service.User, Password: a.service.Password}
	own := a.service.Database
	if own == "" {
		own = "postgres"
	}
	if a.service.User == "" {
		l := a.borrowed.Load()
		if l == nil {
			return nil, cluster.ErrNoLogin
		}
		cred, own = l.cred, l.database
		defer func() {
			if err != nil && !unreachable(err) && l.proven && (database == "" || database == own) {
				// A changed password, perhaps, or a dropped database: another client's
				// login is as good.
				a.borrowed.CompareAndSwap(l, a.another(l))
			}
		}()
	}
	if database == "" {
		database = own
	}
	return a.s.dial(ctx, s.Address, a.tls, cred, database, "pgweir")
}

// another is the login of some other user or database that has clients, to be tried
// in place of one that a server refused; without any, that one again, until a client
// comes with a better one.
func (a *account) another(refused *login) *login {
	for _, o := range a.s.origins.all() {
		l := login{*o.cred.Load(), o.db.name, true}
		if o.db.account == a && o.clients.Load() > 0 && o.welcomed() &&
			(l.database != refused.database || !l.cred.Equal(refused.cred)) {
			return &l
		}
	}
	return &login{cred: refused.cred, database: refused.database}
}

// refuses asks the servers whether they let a client in, where the proxy has no
// account of its own to learn anything of them with. It returns their refusal.
func (a *account) refuses(ctx context.Context, t *cluster.Topology, cred backend.Credentials, database string) error {
	if a.service.User != "" || t.Primary != nil {
		return nil
	}
	for _, st := range t.States {
		b, err := a.s.dial(ctx, st.Server.Address, a.tls, cred, database, "pgweir")
		if err == nil {
			b.Close()
			return nil
		}
		if !unreachable(err) {
			return err
		}
	}
	return nil
}

// dial opens one server connection.
func (s *Server) dial(ctx context.Context, address string, tls *backend.TLS, cred backend.Credentials, database, application string) (*backend.Backend, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Pool.ConnectTimeout)
	defer cancel()
	addr, err := backend.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	var params map[string]string
	if application != "" {
		params = map[string]string{"application_name": application}
	}
	l, err := backend.Open(ctx, backend.Options{Address: addr, TLS: tls}, cred, database, params)
	if err != nil {
		return nil, err
	}
	return backend.New(l, s.cfg.Pool.MaxStatements), nil
}
