package upstream

import (
	"context"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// A server lets a role in or not when it logs in. Clients share connections that have logged
// in before, so a server is asked whether it would let in each of them.

// admissionKept is how long it is relied on that a server let somebody in.
const admissionKept = time.Second

// admissionWait is how long a server may take to tell whether it would let a client in.
const admissionWait = 2 * time.Second

// admitted is that a server would have let the user in.
type admitted struct {
	at    time.Time // when it was asked
	after uint64    // changes of the cluster's logins that were seen
}

// Admit asks a server whether it would let a client in now, and returns its refusal.
// byPassword is that the client showed who it is by a password. Nobody is refused because
// no server answers: what the client asks for then is answered or not by what is left.
func (p *Pools) Admit(ctx context.Context, byPassword bool) error {
	now := admitted{time.Now(), p.Database.account.logins.Load()}
	if last := p.admitted.Load(); last != nil && last.after == now.after && now.at.Sub(last.at) < admissionKept {
		return nil
	}
	found, err := p.askAdmission(ctx, now)
	if err != nil {
		p.Database.log.Debug("it is not known whether the servers let a client in", zap.String("user", p.Key.User),
			zap.String("database", p.Key.Database), zap.Error(err))
		return nil
	}
	if err := found.Refusal(byPassword); err != nil {
		return err
	}
	return nil
}

// askAdmission asks once for all who come meanwhile.
func (p *Pools) askAdmission(ctx context.Context, now admitted) (backend.Admission, error) {
	flight := p.asking.DoChan(strconv.FormatUint(now.after, 10), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), admissionWait)
		defer cancel()
		var found backend.Admission
		err := p.askForLogin(ctx, func(b *backend.Backend) (err error) {
			found, err = backend.AskAdmission(ctx, b, p.Config.ServerUser, p.Config.Database)
			return err
		})
		if err == nil && found.Refusal(true) == nil {
			p.admitted.Store(&now)
		}
		return found, err
	})
	select {
	case r := <-flight:
		return r.Val.(backend.Admission), r.Err
	case <-ctx.Done():
		return backend.Admission{}, ctx.Err()
	}
}

// askForLogin asks over an idle connection of the primary, or else over the account's.
func (p *Pools) askForLogin(ctx context.Context, ask func(*backend.Backend) error) error {
	if primary := p.Cluster.Topology().Primary; primary != nil {
		pl := p.Of(primary)
		if b := takeIdle(pl); b != nil {
			if ask(b) == nil {
				pl.Release(b)
				return nil
			}
			pl.Discard(b)
		}
	}
	return p.Database.account.Ask(ctx, p.Cluster, ask)
}

// LoginsChanged says that who may log in to the cluster, and by what, may have changed.
func (a *Account) LoginsChanged() {
	a.logins.Add(1)
	a.loginsChanged()
}

// Ask has something asked of the primary, or of a replica while there is none, over a
// connection that is kept for who asks next.
func (a *Account) Ask(ctx context.Context, cl *cluster.Cluster, ask func(*backend.Backend) error) error {
	server, err := AnyServer(ctx, cl)
	if err != nil {
		return err
	}
	b, era := a.asker.take(server)
	if b != nil {
		if err = ask(b); a.asker.keepUnless(server, b, era, err) || ctx.Err() != nil {
			return err
		} // else it may have been cut off long ago
	}
	if b, err = a.Open(ctx, server, ""); err != nil {
		return err
	}
	err = ask(b)
	a.asker.keepUnless(server, b, era, err)
	return err
}

// asker keeps one connection to ask over. Safe for concurrent use: it is taken out while it
// is used.
type asker struct {
	mu   sync.Mutex // protects the fields below
	kept *backend.Backend
	on   *cluster.Server
	era  uint64 // calls of Close
}

// take returns the connection kept to a server, nil if there is none. era is to be given to
// keepUnless, with that connection or one opened in place of it.
func (k *asker) take(s *cluster.Server) (b *backend.Backend, era uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.on == s {
		b, k.kept = k.kept, nil
	}
	return b, k.era
}

// keepUnless keeps a connection in place of the one that is kept, unless err says that it is
// broken, and reports whether it is not. It is closed if Close was called since its era.
func (k *asker) keepUnless(s *cluster.Server, b *backend.Backend, era uint64, err error) bool {
	if err != nil && CutOff(err) {
		b.Close()
		return false
	}
	k.mu.Lock()
	if k.era == era {
		b, k.kept, k.on = k.kept, b, s
	}
	k.mu.Unlock()
	if b != nil {
		b.Close()
	}
	return true
}

// Close closes the connection that is kept, and has one in use closed after it.
func (k *asker) Close() {
	k.mu.Lock()
	b := k.kept
	k.kept, k.on = nil, nil
	k.era++
	k.mu.Unlock()
	if b != nil {
		b.Close()
	}
}
