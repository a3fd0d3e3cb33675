package proxy

import (
	"context"
	"fmt"
	"sync"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// probe is the monitor's look at the servers: one connection to each, kept.
type probe struct {
	account *account

	mu    sync.Mutex // protects conns; a server's entry is used by one goroutine at a time
	conns map[*cluster.Server]*backend.Backend
}

// locate is the tracker's look at the servers' places in the log: a connection to
// each, kept. It is used by one goroutine.
type locate struct {
	account *account
	conns   map[*cluster.Server]*backend.Backend
}

// Inserted implements cluster.Sampler.
func (l *locate) Inserted(ctx context.Context, s *cluster.Server) (cluster.LSN, error) {
	return l.ask(ctx, s, "SELECT pg_catalog.pg_current_wal_insert_lsn()")
}

// Replayed implements cluster.Sampler.
func (l *locate) Replayed(ctx context.Context, s *cluster.Server) (cluster.LSN, error) {
	return l.ask(ctx, s, "SELECT pg_catalog.pg_last_wal_replay_lsn()")
}

func (l *locate) ask(ctx context.Context, s *cluster.Server, query string) (lsn cluster.LSN, err error) {
	b := l.conns[s]
	if b == nil {
		if b, err = l.account.open(ctx, s, ""); err != nil {
			return 0, err
		}
		l.conns[s] = b
	}
	err = b.Query(ctx, query, func(v [][]byte) error {
		var high, low uint32
		_, err := fmt.Sscanf(string(v[0]), "%X/%X", &high, &low)
		lsn = cluster.LSN(high)<<32 | cluster.LSN(low)
		return err
	})
	if err != nil {
		b.Close()
		delete(l.conns, s)
	}
	return lsn, err
}

// Close implements cluster.Sampler.
func (l *locate) Close() {
	for _, b := range l.conns {
		b.Close()
	}
	l.conns = nil
}

const probeQuery = `SELECT pg_catalog.pg_is_in_recovery(), c.timeline_id, s.system_identifier,
	pg_catalog.current_setting('server_version_num')
FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_system() s`

// Probe implements cluster.Prober.
func (p *probe) Probe(ctx context.Context, s *cluster.Server) (found cluster.Probe, err error) {
	p.mu.Lock()
	b := p.conns[s]
	delete(p.conns, s)
	p.mu.Unlock()
	if b != nil && !b.Alive() {
		b.Close()
		b = nil
	}
	if b == nil {
		if b, err = p.account.open(ctx, s, ""); err != nil {
			return found, err
		}
	}
	err = b.Query(ctx, probeQuery, func(v [][]byte) error {
		found.InRecovery = string(v[0]) == "t"
		found.SystemID = string(v[2])
		_, err := fmt.Sscan(string(v[1])+" "+string(v[3]), &found.Timeline, &found.Version)
		return err
	})
	if err != nil {
		b.Close()
		return found, err
	}
	p.mu.Lock()
	p.conns[s] = b
	p.mu.Unlock()
	return found, nil
}

// Close implements cluster.Prober.
func (p *probe) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.conns {
		b.Close()
	}
	p.conns = nil
}
