package probe

import (
	"context"
	"fmt"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Sampler asks servers for their LSNs, by one connection to each. It implements
// cluster.Sampler.
type Sampler struct {
	open    Open
	flavour Flavour

	keeper[*logReader]
}

// NewSampler makes a Sampler of servers of a flavour.
func NewSampler(open Open, flavour Flavour) *Sampler {
	return &Sampler{open: open, flavour: flavour}
}

// logReader is a connection, with what it takes to understand the LSNs it returns.
type logReader struct {
	*backend.Backend
	page, segment uint64 // bytes of a page and of a segment of the log
	delay         uint64 // ms: wal_writer_delay when it was opened
	started       string // its server's, as cluster.State.Started
	aurora        bool
}

// Written implements cluster.Sampler.
func (sm *Sampler) Written(ctx context.Context, s *cluster.Server) (w cluster.Written, err error) {
	// The flush location is asked first, so that it is not beyond the insert location.
	at, r, err := sm.ask(ctx, s, "SELECT pg_catalog.pg_current_wal_flush_lsn(), pg_catalog.pg_current_wal_insert_lsn()")
	if err != nil {
		return w, err
	}
	if r.aurora {
		return cluster.Written{Inserted: at[0], Flushed: at[0]}, nil
	}
	w.Flushed, w.Inserted = r.end(at[0]), r.end(at[1])
	w.Delay = time.Duration(3*r.delay)*time.Millisecond + delayMargin
	return w, nil
}

// delayMargin is for a WAL writer that does not get to run at once.
const delayMargin = 200 * time.Millisecond

// Replayed implements cluster.Sampler.
func (sm *Sampler) Replayed(ctx context.Context, s *cluster.Server) (cluster.Replayed, error) {
	at, r, err := sm.ask(ctx, s, "SELECT pg_catalog.pg_last_wal_replay_lsn(), NULL")
	if err != nil {
		return cluster.Replayed{}, err
	}
	if r.aurora {
		return cluster.Replayed{LSN: at[1], Started: r.started}, nil
	}
	return cluster.Replayed{LSN: at[0], Started: r.started}, nil
}

// Sizes of a page's header and of that of a segment's first page: see xlog_internal.h.
const (
	pageHeader    = 24
	segmentHeader = 40
)

// end returns where a standby is that has replayed all before an insert LSN. That may
// be behind the header of the next page; the last record ended before it.
func (r *logReader) end(at lsn.LSN) lsn.LSN {
	switch {
	case uint64(at)%r.segment == segmentHeader:
		return at - segmentHeader
	case uint64(at)%r.page == pageHeader:
		return at - pageHeader
	}
	return at
}

// ask runs a query that returns one row of two LSNs, the second of which may be NULL. An instance
// of Aurora is asked what is durable and what can be read instead.
func (sm *Sampler) ask(ctx context.Context, s *cluster.Server, query string) (at [2]lsn.LSN, r *logReader, err error) {
	r, era, ok := sm.take(s)
	if !ok {
		if r, err = sm.connect(ctx, s); err != nil {
			return at, nil, err
		}
	}
	if r.aurora {
		var p position
		if p, err = askPosition(ctx, r.Backend); err != nil {
			r.Close()
			return at, nil, err
		}
		sm.keep(s, r, era)
		return [2]lsn.LSN{p.durable, p.readable}, r, nil
	}
	err = r.Query(ctx, query, func(v [][]byte) error {
		for i, text := range v[:len(at)] {
			if text == nil && i > 0 {
				continue
			}
			var err error
			if at[i], err = lsn.Parse(string(text)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.Close()
		return at, nil, err
	}
	sm.keep(s, r, era)
	return at, r, nil
}

// connect opens a connection and asks for the sizes of its server's log.
func (sm *Sampler) connect(ctx context.Context, s *cluster.Server) (*logReader, error) {
	b, err := sm.open.call(ctx, s)
	if err != nil {
		return nil, err
	}
	r := &logReader{Backend: b}
	err = b.Query(ctx, `SELECT pg_catalog.current_setting('wal_block_size'),
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
  (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_writer_delay'), `+backend.Started+", "+isAurora, func(v [][]byte) error {
		r.started, r.aurora = string(v[3]), sm.flavour == Aurora || string(v[4]) == "t"
		_, err := fmt.Sscan(string(v[0])+" "+string(v[1])+" "+string(v[2]), &r.page, &r.segment, &r.delay)
		return err
	})
	if err == nil && (r.page == 0 || r.segment == 0) {
		err = fmt.Errorf("%s: the sizes of its log are not known", s.Address)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return r, nil
}
