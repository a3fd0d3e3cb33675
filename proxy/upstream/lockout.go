package upstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
)

// A session of PostgreSQL goes on whatever becomes of its role's password. Here it goes on as long
// as there are connections that logged in before, or some client that logged in since showed what
// opens new ones. After that it can do nothing any more.

// tellLockOut is how often it is logged that sessions of a user and database end.
const tellLockOut = time.Minute

// Unserved is the error of a batch that got no connection to a server, err being why.
func (p *Pools) Unserved(s *cluster.Server, err error) error {
	switch {
	case LockedOut(err):
		return p.lockOut(s, err)
	case Unreachable(err):
		return fmt.Errorf("%w: %w", cluster.ErrNoPrimary, err)
	}
	return err
}

// lockOut is the end of a session whose login a server refuses, which err says. It is not the
// SQLSTATE of a login: what the client is to do is to connect again, and then a server is asked.
func (p *Pools) lockOut(s *cluster.Server, err error) *wire.Error {
	p.mu.Lock()
	clear(p.replies)
	p.mu.Unlock()
	if now, last := time.Now(), p.toldLockOut.Load(); last == nil || now.Sub(*last) >= tellLockOut {
		if p.toldLockOut.CompareAndSwap(last, &now) {
			p.Database.log.Warn("sessions end: their server connections are gone, and the server does not let their role in again",
				zap.String("user", p.Key.User), zap.String("database", p.Key.Database), zap.String("role", p.Config.ServerUser),
				zap.String("server", s.Address), zap.Error(err))
		}
	}
	e := wire.Fatalf("57P01", "terminating connection: the server does not let role \"%s\" in any more", p.Config.ServerUser)
	e.Detail = err.Error()
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		e.Detail = refused.Message
	}
	return e.WithHint("Its password or its privileges were changed since the session began. Log in again.")
}
