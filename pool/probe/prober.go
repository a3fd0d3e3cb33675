package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Prober asks servers for their state, by one connection to each. It implements
// cluster.Prober.
type Prober struct {
	open    Open
	flavour Flavour
	aurora  sync.Map      // the servers that are found to be Aurora's: they would log what they refuse
	answer  time.Duration // what a kept connection may take to answer
	renew   time.Duration // how long a kept connection stands for its server

	keeper[*kept]
}

// kept is a connection to probe by. It stands for its server for a while only: it lives
// on in a server that takes no new ones, or when a name leads elsewhere.
type kept struct {
	*backend.Backend
	until   time.Time
	dialect dialect
	why     error // it is silent
}

// NewProber makes a Prober of servers of a flavour. A connection that takes longer than answer to answer is given
// up for a new one, and so is one older than renew.
func NewProber(open Open, flavour Flavour, answer, renew time.Duration) *Prober {
	return &Prober{open: open, flavour: flavour, answer: answer, renew: renew}
}

// stateQuery asks for a server's state. After a promotion the checkpoint's timeline is
// that of before until the next one: a primary's is in the name of its log file. A
// standby's is what it receives, which needs pg_read_all_stats to be seen, or what
// its data were last written by.
const stateQuery = `SELECT pg_catalog.pg_is_in_recovery(),
	CASE WHEN pg_catalog.pg_is_in_recovery()
		THEN greatest(c.timeline_id, r.min_recovery_end_timeline, (SELECT w.received_tli FROM pg_catalog.pg_stat_wal_receiver w))
		ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::pg_catalog.bit(32)::int END,
	s.system_identifier, pg_catalog.current_setting('server_version_num'),
	` + backend.Started + `,
	CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END,
	` + isAurora + `
FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r, pg_catalog.pg_control_system() s`

// Probe implements cluster.Prober.
func (p *Prober) Probe(ctx context.Context, s *cluster.Server, anew bool) (cluster.Probe, error) {
	k, era, _ := p.take(s)
	if k != nil && (anew || !k.Alive()) {
		k.Close()
		k = nil
	}
	if k != nil {
		found, err := p.ask(ctx, s, k, era)
		switch {
		case err != nil: // it may have been cut off: only a new one can tell
		case time.Now().Before(k.until):
			return found, nil
		default:
			return p.renewed(ctx, s, k, found, era)
		}
	}
	b, err := p.open.call(ctx, s)
	if err != nil {
		return cluster.Probe{}, err
	}
	return p.askAnew(ctx, s, b, era)
}

// renewed asks over a new connection in place of k, which has stood for its server long enough and
// has just told found. That holds where a login comes to nothing that proves otherwise, as in a
// server whose slots are all in use: it is there, and its clients must not be taken to be lost.
func (p *Prober) renewed(ctx context.Context, s *cluster.Server, k *kept, found cluster.Probe, era uint64) (cluster.Probe, error) {
	soon, cancel := context.WithTimeout(ctx, p.answer*3/4) // before the server counts as slow
	defer cancel()
	b, err := p.open.call(soon, s)
	switch {
	case err == nil:
		p.keeper.Forget(s)
		return p.askAnew(ctx, s, b, era)
	case !cluster.Inconclusive(err):
		p.keeper.Forget(s)
		return cluster.Probe{}, err
	case backend.FullBy(err) == backend.FullServer:
		k.until = time.Now().Add(p.renew)
	}
	return found, nil
}

// askAnew asks over a connection that was just opened.
func (p *Prober) askAnew(ctx context.Context, s *cluster.Server, b *backend.Backend, era uint64) (cluster.Probe, error) {
	found, err := p.ask(ctx, s, &kept{Backend: b, until: time.Now().Add(p.renew), dialect: p.dialect(s)}, era)
	found.Anew = true
	return found, err
}

// ask asks over a connection of an era, which is kept if it answers and closed if not.
func (p *Prober) ask(ctx context.Context, s *cluster.Server, k *kept, era uint64) (found cluster.Probe, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.answer)
	defer cancel()
	if found, err = k.ask(ctx); err != nil {
		k.Close()
		return found, err
	}
	if k.dialect == aurora {
		p.aurora.Store(s, true)
	}
	p.keep(s, k, era)
	return found, nil
}

// Forget implements cluster.Prober.
func (p *Prober) Forget(s *cluster.Server) {
	p.aurora.Delete(s)
	p.keeper.Forget(s)
}

// ask asks in the server's dialect, which it finds out first.
func (k *kept) ask(ctx context.Context) (found cluster.Probe, err error) {
	if k.dialect == unasked || k.dialect == postgres {
		found, err = k.askPostgres(ctx)
		if k.dialect == unasked && refuses(err) {
			k.why = err
			k.dialect, err = findDialect(ctx, k.Backend)
		}
	}
	if err != nil {
		return found, err
	}
	switch k.dialect {
	case aurora:
		return askAurora(ctx, k.Backend)
	case silent:
		return askSilent(ctx, k.Backend, k.why)
	case unasked, postgres:
	}
	return found, nil
}

func (k *kept) askPostgres(ctx context.Context) (found cluster.Probe, err error) {
	dialect := postgres
	err = k.Query(ctx, stateQuery, func(v [][]byte) error {
		if string(v[6]) == "t" {
			dialect = aurora
		}
		found.InRecovery = string(v[0]) == "t"
		found.SystemID, found.Started = string(v[2]), string(v[4])
		if _, err := fmt.Sscan(string(v[1])+" "+string(v[3]), &found.Timeline, &found.Version); err != nil {
			return err
		}
		if v[5] != nil { // NULL before it has replayed anything
			found.LSN, err = lsn.Parse(string(v[5]))
		}
		return err
	})
	if err == nil {
		k.dialect = dialect
	}
	return found, err
}
