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
	mu   sync.Mutex // protects the fields below; held while the Hub is made, and taken after the hubs'
	made *notify.Hub
	idle time.Time // since when it has no listener; zero if it has
	gone bool      // it is not among the hubs any more
}

// Hub is the connection by which sessions of the database listen on a server, made if need
// be. It logs in as p's users do, whoever listens: to listen takes no privilege.
func (p *Pools) Hub(ctx context.Context, s *cluster.Server) (*notify.Hub, error) {
	h := p.Database.directory.hubs.lock(hubKey{p.Database, s})
	defer h.mu.Unlock()
	if h.idle = (time.Time{}); h.made != nil && !h.made.Lost() {
		return h.made, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.Database.account.access.Load().timeout)
	defer cancel()
	b, err := p.Database.account.dial(ctx, s.Address, p.Credentials(), p.Database.name, internal)
	if err != nil {
		return nil, err
	}
	h.made, err = notify.Start(ctx, b)
	return h.made, err
}

// lock returns the hub of a key, locked.
func (hs *hubs) lock(key hubKey) *hub {
	for {
		hs.mu.Lock()
		if hs.of == nil {
			hs.of = map[hubKey]*hub{}
		}
		h := hs.of[key]
		if h == nil {
			h = &hub{}
			hs.of[key] = h
		}
		hs.mu.Unlock()
		h.mu.Lock()
		if !h.gone {
			return h
		}
		h.mu.Unlock()
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
		if !h.mu.TryLock() {
			continue
		}
		if which(key, h) {
			if h.made != nil {
				h.made.Close()
			}
			h.gone = true
			delete(hs.of, key)
		}
		h.mu.Unlock()
	}
}
