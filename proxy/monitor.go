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
