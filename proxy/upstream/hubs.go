package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/notify"
)

// hubLinger is how long a Hub may have no listener before its connection is closed.
const hubLinger = 10 * time.Second

// hubs are the Hubs of all databases. The zero value is ready.
type hubs struct {
	mu sync.Mutex // protects of
	of map[hubKey]*hub
}

type hubKey struct {
	database *Database
	server   *cluster.Server
}

// hub is a Hub that is there or being made.
type hub struct {
	busy chan struct{} // full while somebody reads or changes the fields below, or makes the Hub: that takes round trips
	made *notify.Hub
	idle time.Time // since when it has no listener; zero if it has
	gone bool      // it is not among the hubs any more
}

// Hub is the connection by which sessions of the database listen on a server, made if need
// be. It logs in as p's users do, whoever listens: to listen takes no privilege.
func (p *Pools) Hub(ctx context.Context, s *cluster.Server) (*notify.Hub, error) {
	h, err := p.Database.directory.hubs.lock(ctx, hubKey{p.Database, s})
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	if h.idle = (time.Time{}); h.made != nil && !h.made.Lost() {
		return h.made, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.Database.account.access.Load().timeout)
	defer cancel()
	b, err := p.Database.account.dialOwn(ctx, s, p.Credentials(), p.Database.name)
	if err != nil {
		return nil, err
	}
	h.made, err = notify.Start(ctx, b)
	return h.made, err
}

func (h *hub) unlock() { <-h.busy }

// lock returns the hub of a key, which is the caller's up to unlock. The error is that of ctx.
func (hs *hubs) lock(ctx context.Context, key hubKey) (*hub, error) {
	for {
		hs.mu.Lock()
		if hs.of == nil {
			hs.of = map[hubKey]*hub{}
		}
		h := hs.of[key]
		if h == nil {
			h = &hub{busy: make(chan struct{}, 1)}
			hs.of[key] = h
		}
		hs.mu.Unlock()
		select {
		case h.busy <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !h.gone {
			return h, nil
		}
		h.unlock()
	}
}

// maintain closes Hubs that have no listener, and those on servers that are no primary any
// more: what is committed elsewhere they do not hear.
func (hs *hubs) maintain(now time.Time) {
	hs.closeIf(func(key hubKey, h *hub) bool {
		st := key.database.cluster.Topology().State(key.server)
		switch {
		case h.made == nil || h.made.Lost(), !st.Status.Usable(), st.Role == cluster.RoleReplica:
			return true
		case h.made.Listeners() > 0:
			h.idle = time.Time{}
		case h.idle.IsZero():
			h.idle = now
		}
		return !h.idle.IsZero() && now.Sub(h.idle) > hubLinger
	})
}

// closeIf closes Hubs, but for those that are being made: for these it is called again.
func (hs *hubs) closeIf(which func(hubKey, *hub) bool) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for key, h := range hs.of {
		select {
		case h.busy <- struct{}{}:
		default:
			continue
		}
		if which(key, h) {
			if h.made != nil {
				h.made.Close()
			}
			h.gone = true
			delete(hs.of, key)
		}
		h.unlock()
	}
}
