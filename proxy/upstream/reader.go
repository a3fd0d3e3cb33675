package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// keepReader is how long the connection that the catalog was read over is kept for the next
// time: one DDL statement seldom comes alone. It is much less than the 5 s for which DROP
// DATABASE waits for others to leave.
const keepReader = time.Second

// reader keeps the connection that a database's catalog is read over. One goroutine reads;
// the connection is closed by another when it was kept too long.
type reader struct {
	mu    sync.Mutex // protects the fields below
	b     *backend.Backend
	of    *cluster.Server
	timer *time.Timer // closes b
}

// take returns the connection to a server if it is kept, which it is no more then.
func (r *reader) take(s *cluster.Server) *backend.Backend {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.b
	if b == nil {
		return nil
	}
	r.timer.Stop()
	r.b = nil
	if r.of != s || !b.Alive() {
		b.Close()
		return nil
	}
	return b
}

func (r *reader) keep(s *cluster.Server, b *backend.Backend) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b, r.of, r.timer = b, s, time.AfterFunc(keepReader, r.close)
}

// close closes the connection if it is kept.
func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.b != nil {
		r.timer.Stop()
		r.b.Close()
		r.b = nil
	}
}

// read does what is to be done over a connection to a server, on the one kept or, if there is
// none or it fails, a new one.
func (d *Database) read(ctx context.Context, s *cluster.Server, do func(*backend.Backend) error) error {
	if b := d.catalog.reader.take(s); b != nil {
		if err := do(b); err == nil {
			d.catalog.reader.keep(s, b)
			return nil
		}
		b.Close()
	}
	b, err := d.account.Open(ctx, s, d.name)
	if err != nil {
		return err
	}
	if err := do(b); err != nil {
		b.Close()
		return err
	}
	d.catalog.reader.keep(s, b)
	return nil
}
