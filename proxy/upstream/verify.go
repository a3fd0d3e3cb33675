package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// What connections carry is predicted; now and then an idle one is asked what it really
// carries. A difference is a hole in the prediction: it closes the connection, and is an
// alarm.

// verifyTimeout bounds one verification.
const verifyTimeout = 5 * time.Second

// verifyIdle has one idle connection of a pool asked, if there is one that was not for as
// long as the configuration says.
func (dir *Directory) verifyIdle(p *Pools, s *cluster.Server, now time.Time) {
	if dir.o.Load().Settings.Verify <= 0 {
		return
	}
	pl := p.Of(s)
	b := pl.TakeIdle(now.Add(-dir.o.Load().Settings.Verify))
	if b == nil {
		return
	}
	dir.background.Go(func() { dir.verifyOne(p, pl, s, b) })
}

// verifyOne asks a connection taken out of its pool, and gives it back or closes it.
func (dir *Directory) verifyOne(p *Pools, pl *pool.Pool, server *cluster.Server, b *backend.Backend) {
	if err := dir.verify(server, p.Key, b); err != nil {
		pl.Discard(b)
		return
	}
	pl.Release(b)
}

// verify asks a connection what it carries. The error is that it is something else than
// was believed, or that it did not answer.
func (dir *Directory) verify(server *cluster.Server, key Key, b *backend.Backend) error {
	if dir.ctx.Err() != nil {
		return nil // all of them are closed
	}
	ctx, cancel := context.WithTimeout(dir.ctx, verifyTimeout)
	defer cancel()
	differences, err := b.Verify(ctx, dir.o.Load().declared)
	if err != nil { // gone, or under a statement timeout of its session, which says nothing
		return fmt.Errorf("%w: %w", backend.ErrEnded, err)
	}
	dir.verified.Add(1)
	if len(differences) == 0 {
		return nil
	}
	dir.differing.Add(1)
	dir.o.Load().Log.Error("server connection carries what nobody foresaw; it is closed: what ran on it is not what the catalog says, or a fault of the proxy",
		zap.String("server", server.Address), zap.Uint32("pid", b.PID()), zap.String("user", key.User), zap.String("database", key.Database),
		zap.Strings("differences", differences), zap.Strings("ran", b.Trail()), zap.Uint64("session", b.LastUser()))
	return fmt.Errorf("%w: %s", errDiffers, strings.Join(differences, ", "))
}

var errDiffers = errors.New("it carries what nobody foresaw")

// Verified returns how many connections were asked what they carry, and how many carried
// something else than was believed.
func (dir *Directory) Verified() (asked, differing uint64) {
	return dir.verified.Load(), dir.differing.Load()
}

// declaredNames are the settings that every connection is asked for.
func declaredNames(o *Options) setting.Names {
	return setting.Names{}.With(o.Tenants).With(o.Settings.Assert).With(o.Settings.Track)
}
