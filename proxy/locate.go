package proxy

import (
	"context"
	"fmt"
	"sync"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// locate is the tracker's look at the servers' places in the log: a connection to
// each, kept.
type locate struct {
	account *account

	mu    sync.Mutex // protects conns; an entry is taken out while it is used
	conns map[*cluster.Server]*logReader
}

// logReader is a connection with what the places it tells mean.
type logReader struct {
	*backend.Backend
	page, segment uint64 // bytes of a page and of a segment of the log
}

// Inserted implements cluster.Sampler.
func (l *locate) Inserted(ctx context.Context, s *cluster.Server) (cluster.LSN, error) {
	lsn, r, err := l.ask(ctx, s, "SELECT pg_catalog.pg_current_wal_insert_lsn()")
	if err != nil {
		return 0, err
	}
	return r.end(lsn), nil
}

// Replayed implements cluster.Sampler.
func (l *locate) Replayed(ctx context.Context, s *cluster.Server) (cluster.LSN, error) {
	lsn, _, err := l.ask(ctx, s, "SELECT pg_catalog.pg_last_wal_replay_lsn()")
	return lsn, err
}

// Sizes of a page's header and of that of a segment's first page: see xlog_internal.h.
const (
	pageHeader    = 24
	segmentHeader = 40
)

// end is where a standby is that has replayed all before an insert location. That
// may be behind the header of the next page; the last record ended before it.
func (r *logReader) end(lsn cluster.LSN) cluster.LSN {
	switch {
	case uint64(lsn)%r.segment == segmentHeader:
		return lsn - segmentHeader
	case uint64(lsn)%r.page == pageHeader:
		return lsn - pageHeader
	}
	return lsn
}

func (l *locate) ask(ctx context.Context, s *cluster.Server, query string) (lsn cluster.LSN, r *logReader, err error) {
	l.mu.Lock()
	r = l.conns[s]
	delete(l.conns, s)
	l.mu.Unlock()
	if r == nil {
		if r, err = l.open(ctx, s); err != nil {
			return 0, nil, err
		}
	}
	err = r.Query(ctx, query, func(v [][]byte) error {
		n, ok := router.ParseLSN(string(v[0])) // NULL is none
		if lsn = cluster.LSN(n); !ok {
			return fmt.Errorf("%q is no place in the write-ahead log", v[0])
		}
		return nil
	})
	if err != nil {
		r.Close()
		return 0, nil, err
	}
	l.mu.Lock()
	l.conns[s] = r
	l.mu.Unlock()
	return lsn, r, nil
}

func (l *locate) open(ctx context.Context, s *cluster.Server) (*logReader, error) {
	b, err := l.account.open(ctx, s, "")
	if err != nil {
		return nil, err
	}
	r := &logReader{Backend: b}
	err = b.Query(ctx, `SELECT pg_catalog.current_setting('wal_block_size'),
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))`, func(v [][]byte) error {
		_, err := fmt.Sscan(string(v[0])+" "+string(v[1]), &r.page, &r.segment)
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

func formatLSN(lsn cluster.LSN) string { return fmt.Sprintf("%X/%X", uint32(lsn>>32), uint32(lsn)) }
