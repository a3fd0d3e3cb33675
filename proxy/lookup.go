package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/setup"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// secret is auth.query: asked of the primary of the database's cluster, or of a replica
// while there is none.
func (l *lookups) secret(ctx context.Context, database, user string) (auth.Found, error) {
	t := l.s.terms.Load()
	eff, ok := t.cfg.Resolve(user, database)
	if names := t.cfg.ClusterNames(); t.cfg.Console.Is(database) && len(names) == 1 {
		eff, ok = config.Effective{Cluster: names[0], AuthQuery: t.cfg.Auth.Query}, true
	}
	if !ok || eff.AuthQuery == "" {
		return auth.Found{}, nil
	}
	return l.ask(ctx, t, lookup{eff.Cluster, eff.AuthQuery}, user)
}

// Explain says what a client has to prove to be let in. encryption is its TLS, nil without.
func (s *Server) Explain(ctx context.Context, c auth.Client, encryption *tls.ConnectionState) (auth.Finding, error) {
	return s.terms.Load().verifier.Explain(ctx, c, encryption)
}

// rolesQuery: the roles that a user is a member of, directly or not, and itself.
const rolesQuery = `WITH RECURSIVE m(oid) AS (
    SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) $1
  UNION
    SELECT a.roleid FROM pg_catalog.pg_auth_members a JOIN m ON a.member OPERATOR(pg_catalog.=) m.oid)
SELECT r.rolname FROM pg_catalog.pg_roles r JOIN m ON r.oid OPERATOR(pg_catalog.=) m.oid`

// roles are those of a user on the cluster of a database.
func (l *lookups) roles(ctx context.Context, database, user string) (names []string, err error) {
	eff, ok := l.s.terms.Load().cfg.Resolve(user, database)
	if !ok {
		return nil, nil
	}
	cl := l.s.upstream.Clusters()[eff.Cluster]
	err = cl.Account.Ask(ctx, cl.Cluster, func(b *backend.Backend) error {
		names = nil
		return backend.QueryApart(ctx, b, rolesQuery, user, func(v [][]byte) error {
			names = append(names, string(v[0]))
			return nil
		})
	})
	if noName(err) {
		return nil, nil
	}
	return names, err
}

// ask looks the secret of a user up. A refusal of the query is held to be the account's only if the account
// cannot look up its own either: clients choose names, and may choose one that the query fails for.
func (l *lookups) ask(ctx context.Context, under *terms, k lookup, user string) (auth.Found, error) {
	found, err := l.askServers(ctx, k, user)
	own, of := accountOf(under.cfg, k.cluster).User, err
	if user != own && errors.As(err, new(*backend.ServerError)) && refusesAll(refusalCode(err)) {
		_, of = l.askServers(ctx, k, own)
	}
	l.note(k, under, of)
	if noName(err) {
		return auth.Found{}, nil
	}
	return found, err
}

func (l *lookups) askServers(ctx context.Context, k lookup, user string) (found auth.Found, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.s.ctx, cancel)() // it outlives the client that asked, not the service
	cl := l.s.upstream.Clusters()[k.cluster]
	err = cl.Account.Ask(ctx, cl.Cluster, func(b *backend.Backend) error {
		found = auth.Found{}
		return backend.QueryApart(ctx, b, k.query, user, func(v [][]byte) error {
			if len(v) < 2 {
				return fmt.Errorf("auth.query returns %d column; it must return the name and the secret", len(v))
			}
			switch {
			case v[1] != nil:
				found = auth.Found{Secret: string(v[1])}
			case len(v) > 2 && v[2] != nil:
				found = auth.Found{Secret: string(v[2]), NoLogin: true}
			}
			return nil
		})
	})
	return found, err
}

// lookup is a query for secrets on a cluster.
type lookup struct{ cluster, query string }

// lookups is what became of the latest look-up of each kind. Safe for concurrent use, but for userFile.
type lookups struct {
	s        *Server
	userFile string // what was told of the user file last

	mu     sync.Mutex // protects the field below
	latest map[lookup]verdict
}

// verdict is what a server said to the service account.
type verdict struct {
	refused error     // nil: it may
	told    time.Time // when a refusal was logged
}

// tellRefusal is how often it is logged that secrets cannot be looked up.
const tellRefusal = time.Minute

// note takes in what became of a look-up that began under some terms. One that no server answered,
// or that failed for another reason than the account and the query, says nothing of these; and one
// under other terms nothing of what is asked now.
func (l *lookups) note(k lookup, under *terms, err error) {
	if err != nil && !refusesAll(refusalCode(err)) {
		return
	}
	now := time.Now()
	l.mu.Lock()
	if l.s.terms.Load() != under {
		l.mu.Unlock()
		return
	}
	before := l.latest[k]
	next := verdict{err, before.told}
	tell := err != nil && (before.refused == nil || now.Sub(before.told) >= tellRefusal)
	if tell {
		next.told = now
	}
	l.latest[k] = next
	l.mu.Unlock()
	if tell {
		advice, sql := setup.Cure(refusalCode(err), accountOf(under.cfg, k.cluster), k.query)
		l.s.log.Error("passwords cannot be looked up", zap.String("cluster", k.cluster), zap.NamedError("because", err),
			zap.String("cure", advice), zap.String("sql", strings.Join(sql, " ")))
	} else if err == nil && before.refused != nil {
		l.s.log.Info("passwords can be looked up", zap.String("cluster", k.cluster))
	}
}

// refusalCode is the SQLSTATE by which a server refused something, empty if it is the
// server that fails.
func refusalCode(err error) string {
	var answer *backend.ServerError
	var login *pgconn.PgError
	switch {
	case upstream.Unreachable(err), errors.As(err, &answer) && upstream.Ending(answer.Frame):
		return ""
	case errors.As(err, &answer):
		return answer.Code()
	case errors.As(err, &login):
		return login.Code
	}
	return ""
}

// refusesAll reports whether a refusal may be of every look-up, rather than of one name, of one
// moment (57014, 53300) or of what a function says of its own accord (P0001).
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func refusesAll(code string) bool {
	if code == "55000" { // a database that lets nobody in, a materialized view that was never filled
		return true
	}
	switch code[:min(2, len(code))] {
	case "0A", "28", "3D", "3F", "42": // not supported, the login, no database, no schema, the query and what it uses
		return true
	}
	return false
}

// noName reports whether a server refused a name because it is none in the encoding that the
// server has: so nobody is called that.
func noName(err error) bool {
	switch refusalCode(err) {
	case "22021", "22P05": // character_not_in_repertoire, untranslatable_character
		return true
	}
	return false
}

// accountOf is the service account of a cluster.
func accountOf(c config.Config, cluster string) setup.Account {
	service := c.Clusters[cluster].Service
	return setup.Account{User: service.User, Database: service.Database}
}

// try finds out, before a client comes, whether secrets can be looked up, and again every few
// seconds as long as that is not known or they cannot, while the terms are in force.
func (l *lookups) try(t *terms) {
	var tries sync.WaitGroup
	for name, c := range t.cfg.Clusters {
		for _, query := range t.cfg.AuthQueries(name) {
			tries.Go(func() { l.tryOne(t, lookup{name, query}, c.Service.User) })
		}
	}
	tries.Wait()
}

// follow keeps the refusals of look-ups that c has. Whether others can be made is to be found out
// again: the account may be another.
func (l *lookups) follow(c *config.Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.latest, func(k lookup, v verdict) bool {
		return v.refused == nil || !slices.Contains(c.AuthQueries(k.cluster), k.query)
	})
}

// tryInterval is how long after a refusal a look-up is tried again, at most.
const tryInterval = 5 * time.Second

func (l *lookups) tryOne(t *terms, k lookup, user string) {
	for l.s.terms.Load() == t {
		if !l.work(k) {
			ctx, cancel := context.WithTimeout(l.s.ctx, t.cfg.Auth.Timeout)
			_, _ = l.ask(ctx, t, k, user) // notes what became of it
			cancel()
		}
		select {
		case <-l.s.ctx.Done():
			return
		case <-time.After(tryInterval):
		}
	}
}

// work reports whether the latest look-up that says something of it was answered.
func (l *lookups) work(k lookup) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, known := l.latest[k]
	return known && v.refused == nil
}

// nobodyLogsIn says why no client can log in, as far as that is known.
func (l *lookups) nobodyLogsIn() error {
	if l.s.terms.Load().verifier.KnowsSomebody() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, v := range l.latest {
		if v.refused == nil {
			continue
		}
		advice, _ := setup.Cure(refusalCode(v.refused), accountOf(l.s.terms.Load().cfg, k.cluster), k.query)
		return fmt.Errorf("cluster %s: nobody can log in: passwords cannot be looked up: %w\n%s", k.cluster, v.refused, advice)
	}
	return nil
}

// tellUserFile logs what is wrong with the user file, once.
func (l *lookups) tellUserFile() {
	faults := l.s.terms.Load().verifier.UserFileFaults()
	told := strings.Join(faults, "\n")
	if told == l.userFile {
		return
	}
	l.userFile = told
	for _, fault := range faults {
		l.s.log.Warn("user file", zap.String("fault", fault))
	}
}
