package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// locate is the tracker's look at the servers' places in the log: a connection to
// each, kept.
type locate struct {
	account *upstream.Account

	mu    sync.Mutex // protects conns; an entry is taken out while it is used
	conns map[*cluster.Server]*logReader
}

// logReader is a connection with what the places it tells mean.
type logReader struct {
	*backend.Backend
	page, segment uint64 // bytes of a page and of a segment of the log
	delay         uint64 // ms: wal_writer_delay when it was opened
}

// Written implements cluster.Sampler.
func (l *locate) Written(ctx context.Context, s *cluster.Server) (w cluster.Written, err error) {
	// The flush location is asked first, so that it is not beyond the insert location.
	at, r, err := l.ask(ctx, s, "SELECT pg_catalog.pg_current_wal_flush_lsn(), pg_catalog.pg_current_wal_insert_lsn()")
	if err != nil {
		return w, err
	}
	w.Flushed, w.Inserted = r.end(at[0]), r.end(at[1])
	w.Delay = time.Duration(3*r.delay)*time.Millisecond + delayMargin
	return w, nil
}

// delayMargin is for a WAL writer that does not get to run at once.
const delayMargin = 200 * time.Millisecond

// Replayed implements cluster.Sampler.
func (l *locate) Replayed(ctx context.Context, s *cluster.Server) (lsn.LSN, error) {
	at, _, err := l.ask(ctx, s, "SELECT pg_catalog.pg_last_wal_replay_lsn(), NULL")
	return at[0], err
}

// Sizes of a page's header and of that of a segment's first page: see xlog_internal.h.
const (
	pageHeader    = 24
	segmentHeader = 40
)

// end is where a standby is that has replayed all before an insert location. That
// may be behind the header of the next page; the last record ended before it.
func (r *logReader) end(at lsn.LSN) lsn.LSN {
	switch {
	case uint64(at)%r.segment == segmentHeader:
		return at - segmentHeader
	case uint64(at)%r.page == pageHeader:
		return at - pageHeader
	}
	return at
}

func (l *locate) ask(ctx context.Context, s *cluster.Server, query string) (at [2]lsn.LSN, r *logReader, err error) {
	l.mu.Lock()
	r = l.conns[s]
	delete(l.conns, s)
	l.mu.Unlock()
	if r == nil {
		if r, err = l.open(ctx, s); err != nil {
			return at, nil, err
		}
	}
	err = r.Query(ctx, query, func(v [][]byte) error {
		for i, place := range v[:len(at)] {
			var err error
			if at[i], err = lsn.Parse(string(place)); err != nil && i == 0 { // NULL is none
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.Close()
		return at, nil, err
	}
	l.mu.Lock()
	l.conns[s] = r
	l.mu.Unlock()
	return at, r, nil
}

func (l *locate) open(ctx context.Context, s *cluster.Server) (*logReader, error) {
	b, err := l.account.Open(ctx, s, "")
	if err != nil {
		return nil, err
	}
	r := &logReader{Backend: b}
	err = b.Query(ctx, `SELECT pg_catalog.current_setting('wal_block_size'),
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
  (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_writer_delay')`, func(v [][]byte) error {
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

// Close implements cluster.Sampler.
func (l *locate) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.conns {
		r.Close()
	}
	l.conns = nil
}
