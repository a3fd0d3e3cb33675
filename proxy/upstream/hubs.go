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
	mu   sync.Mutex // protects the fields below; held while one is made
	of   map[hubKey]*notify.Hub
	idle map[hubKey]time.Time // since when it has no listener
}

type hubKey struct {
	database *Database
	server   *cluster.Server
}

// Hub is the connection by which sessions of the database listen on a server, made if need
// be. It logs in as p's users do, whoever listens: to listen takes no privilege.
func (p *Pools) Hub(ctx context.Context, s *cluster.Server) (*notify.Hub, error) {
	hs, key := &p.Database.directory.hubs, hubKey{p.Database, s}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h := hs.of[key]; h != nil && !h.Lost() {
		delete(hs.idle, key)
		return h, nil
	}
	b, err := p.Database.account.dial(ctx, s.Address, p.Credentials(), p.Database.name, internal)
	if err != nil {
		return nil, err
	}
	h, err := notify.Start(ctx, b)
	if err != nil {
		return nil, err
	}
	if hs.of == nil {
		hs.of, hs.idle = map[hubKey]*notify.Hub{}, map[hubKey]time.Time{}
	}
	hs.of[key] = h
	return h, nil
}

// maintain closes Hubs that have no listener.
func (hs *hubs) maintain(now time.Time) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for key, h := range hs.of {
		switch since, idle := hs.idle[key]; {
		case h.Lost():
			hs.closeLocked(key)
		case h.Listeners() > 0:
			delete(hs.idle, key)
		case !idle:
			hs.idle[key] = now
		case now.Sub(since) > hubLinger:
			hs.closeLocked(key)
		}
	}
}

// close closes the Hubs of a database, or of all for nil.
func (hs *hubs) close(d *Database) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for key := range hs.of {
		if d == nil || key.database == d {
			hs.closeLocked(key)
		}
	}
}

func (hs *hubs) closeLocked(key hubKey) {
	hs.of[key].Close()
	delete(hs.of, key)
	delete(hs.idle, key)
}
