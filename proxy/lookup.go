package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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

// lookUp is auth.query: asked of the primary of the database's cluster, or of a replica
// while there is none.
func (s *Server) lookUp(ctx context.Context, database, user string) (secret string, found bool, err error) {
	eff, ok := s.cfg.Resolve(user, database)
	if !ok || eff.AuthQuery == "" {
		return "", false, nil
	}
	return s.lookUpOn(ctx, eff.Cluster, eff.AuthQuery, user)
}

// Explain says what a client has to prove to be let in. encryption is its TLS, nil without.
func (s *Server) Explain(ctx context.Context, c auth.Client, encryption *tls.ConnectionState) (auth.Finding, error) {
	return s.verifier.Explain(ctx, c, encryption)
}

// rolesQuery: the roles that a user is a member of, directly or not, and itself.
const rolesQuery = `WITH RECURSIVE m(oid) AS (
    SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) $1
  UNION
    SELECT a.roleid FROM pg_catalog.pg_auth_members a JOIN m ON a.member OPERATOR(pg_catalog.=) m.oid)
SELECT r.rolname FROM pg_catalog.pg_roles r JOIN m ON r.oid OPERATOR(pg_catalog.=) m.oid`

// roles are those of a user on the cluster of a database.
func (s *Server) roles(ctx context.Context, database, user string) (names []string, err error) {
	eff, ok := s.cfg.Resolve(user, database)
	if !ok {
		return nil, nil
	}
	cl := s.upstream.Clusters()[eff.Cluster]
	err = cl.Account.Ask(ctx, cl.Cluster, func(b *backend.Backend) error {
		names = nil
		return b.QueryParam(ctx, rolesQuery, user, func(v [][]byte) error {
			names = append(names, string(v[0]))
			return nil
		})
	})
	return names, err
}

func (s *Server) lookUpOn(ctx context.Context, cluster, query, user string) (secret string, found bool, err error) {
	cl := s.upstream.Clusters()[cluster]
	err = cl.Account.Ask(ctx, cl.Cluster, func(b *backend.Backend) error {
		secret, found = "", false
		return b.QueryParam(ctx, query, user, func(v [][]byte) error {
			if len(v) < 2 {
				return fmt.Errorf("auth.query returns %d column; it must return the name and the secret", len(v))
			}
			if v[1] != nil {
				secret, found = string(v[1]), true
			}
			return nil
		})
	})
	s.lookups.note(lookup{cluster, query}, err, s)
	return secret, found, err
}

// lookup is a query for secrets on a cluster.
type lookup struct{ cluster, query string }

// lookups is what became of the latest look-up of each kind. Safe for concurrent use, but for userFile.
type lookups struct {
	userFile string // what was told of the user file last

	mu      sync.Mutex // protects the field below
	refused map[lookup]refusal
}

// refusal is what a server said to the service account.
type refusal struct {
	err  error
	told time.Time // when it was logged
}

// tellRefusal is how often it is logged that secrets cannot be looked up.
const tellRefusal = time.Minute

// note takes in what became of a look-up. One that no server answered says nothing of the account.
func (l *lookups) note(k lookup, err error, s *Server) {
	if err != nil && refusalCode(err) == "" {
		return
	}
	now := time.Now()
	l.mu.Lock()
	before, known := l.refused[k]
	tell := err != nil && (!known || now.Sub(before.told) >= tellRefusal)
	switch {
	case err == nil:
		delete(l.refused, k)
	case tell:
		l.refused[k] = refusal{err, now}
	default:
		l.refused[k] = refusal{err, before.told}
	}
	l.mu.Unlock()
	if tell {
		advice, sql := setup.Cure(refusalCode(err), accountOf(s.cfg, k.cluster), k.query)
		s.log.Error("passwords cannot be looked up", zap.String("cluster", k.cluster), zap.NamedError("because", err),
			zap.String("cure", advice), zap.String("sql", strings.Join(sql, " ")))
	} else if err == nil && known {
		s.log.Info("passwords can be looked up", zap.String("cluster", k.cluster))
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

// accountOf is the service account of a cluster.
func accountOf(c config.Config, cluster string) setup.Account {
	service := c.Clusters[cluster].Service
	return setup.Account{User: service.User, Database: service.Database}
}

// tryLookups finds out, before a client comes, whether secrets can be looked up, and again
// every few seconds while they cannot.
func (s *Server) tryLookups() {
	var tries sync.WaitGroup
	for name, c := range s.cfg.Clusters {
		for _, query := range s.cfg.AuthQueries(name) {
			tries.Go(func() { s.tryLookup(lookup{name, query}, c.Service.User) })
		}
	}
	tries.Wait()
}

// tryInterval is how long after a refusal a look-up is tried again.
const tryInterval = 5 * time.Second

func (s *Server) tryLookup(k lookup, user string) {
	for {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Auth.Timeout)
		_, _, err := s.lookUpOn(ctx, k.cluster, k.query, user)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(tryInterval):
		}
	}
}

// nobodyLogsIn says why no client can log in, as far as that is known.
func (s *Server) nobodyLogsIn() error {
	if s.verifier.KnowsSomebody() {
		return nil
	}
	s.lookups.mu.Lock()
	defer s.lookups.mu.Unlock()
	for k, r := range s.lookups.refused {
		advice, _ := setup.Cure(refusalCode(r.err), accountOf(s.cfg, k.cluster), k.query)
		return fmt.Errorf("cluster %s: nobody can log in: passwords cannot be looked up: %w\n%s", k.cluster, r.err, advice)
	}
	return nil
}

// tellUserFile logs what is wrong with the user file, once.
func (s *Server) tellUserFile() {
	faults := s.verifier.UserFileFaults()
	told := strings.Join(faults, "\n")
	if told == s.lookups.userFile {
		return
	}
	s.lookups.userFile = told
	for _, fault := range faults {
		s.log.Warn("user file", zap.String("fault", fault))
	}
}
