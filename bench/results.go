package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// largeResult is a query whose answer is about 1 MB.
type largeResult struct {
	name string
	sql  string
}

var largeResults = []largeResult{
	{"10,000 rows of 100 bytes", "select repeat('x', 100) from generate_series(1, 10000)"},
	{"1 row of 1 MB", "select repeat('x', 1048576)"},
}

// resultClients are the numbers of clients that fetch large results.
var resultClients = []int{1, 8}

// bulk is one large result with what every system made of it.
type bulk struct {
	largeResult
	clients int
	speed   map[string][]float64 // MB/s, by system, one a round
	cpu     map[string][]float64 // microseconds of the proxy's CPU per MB
}

func (b *bulk) add(system string, t transferred) {
	speed, cpu := t.mb/t.seconds, t.growth/t.mb
	b.speed[system] = append(b.speed[system], speed)
	b.cpu[system] = append(b.cpu[system], cpu)
	progress("%s, %s: %-9s %6.0f MB/s  cpu %5.0f µs/MB", b.name, countClients(b.clients), system, speed, cpu)
}

// measureResults fetches large results, the systems in turns.
func measureResults(ctx context.Context, l *lab, r *report) error {
	for _, q := range largeResults {
		for _, n := range resultClients {
			b := &bulk{q, n, map[string][]float64{}, map[string][]float64{}}
			r.bulks = append(r.bulks, b)
			for round := range l.options.rounds {
				for _, s := range rotate(l.systems, round) {
					t, err := s.transfer(ctx, q.sql, n, l.options.resultTime(), s.cpu())
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					if err != nil {
						t = transferred{math.NaN(), math.NaN(), math.NaN()}
						r.fault("%s, %s, %s, round %d: %v", q.name, countClients(n), s.name, round+1, err)
					}
					b.add(s.name, t)
				}
			}
		}
	}
	return nil
}

// resultTime is half of what a round of pgbench takes.
func (o options) resultTime() time.Duration { return time.Duration(o.seconds) * time.Second / 2 }

// transferred is what some clients fetched and what it cost.
type transferred struct {
	mb      float64 // 10⁶ bytes on the wire
	seconds float64
	growth  float64 // of the probe's counter
}

// transfer lets some clients fetch the query's result again and again, and reads p
// before and after.
func (s *system) transfer(ctx context.Context, sql string, clients int, d time.Duration, p probe) (t transferred, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d+30*time.Second, errors.New("large results did not end"))
	defer cancel()
	var fetchers []*fetcher
	for range clients {
		f, err := newFetcher(ctx, s, sql)
		if err != nil {
			return t, err
		}
		defer f.conn.Close()
		if _, err := f.fetch(); err != nil { // so that nothing is new when the clock starts
			return t, err
		}
		fetchers = append(fetchers, f)
	}
	before, err := p(ctx)
	if err != nil {
		return t, err
	}
	began := time.Now()
	bytes, err := fetchAll(fetchers, began.Add(d))
	if err != nil {
		return t, err
	}
	t.seconds, t.mb = time.Since(began).Seconds(), float64(bytes)/1e6
	after, err := p(ctx)
	t.growth = after - before
	return t, err
}

// fetchAll lets all fetch until the end and returns how many bytes came.
func fetchAll(fetchers []*fetcher, end time.Time) (int64, error) {
	var total atomic.Int64
	var g errgroup.Group
	for _, f := range fetchers {
		g.Go(func() error {
			n, err := f.fetchUntil(end)
			total.Add(n)
			return err
		})
	}
	err := g.Wait()
	return total.Load(), err
}

// fetcher is a client that only counts bytes, so that little of the machine is its own.
type fetcher struct {
	conn  net.Conn
	r     *bufio.Reader
	query []byte
}

func newFetcher(ctx context.Context, s *system, sql string) (*fetcher, error) {
	pg, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := pg.Hijack()
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := raw.Conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	query := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(sql)+1))
	query = append(append(query, sql...), 0)
	return &fetcher{raw.Conn, bufio.NewReaderSize(raw.Conn, 256<<10), query}, nil
}

func (f *fetcher) fetchUntil(end time.Time) (int64, error) {
	total := int64(0)
	for time.Now().Before(end) {
		n, err := f.fetch()
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// fetch runs the query once and returns the size of the answer.
func (f *fetcher) fetch() (int64, error) {
	if _, err := f.conn.Write(f.query); err != nil {
		return 0, err
	}
	return drain(f.r)
}

// drain reads one answer, to ReadyForQuery, and returns its size. An ErrorResponse
// or an answer without rows is an error.
func drain(r *bufio.Reader) (int64, error) {
	var total int64
	var rows int
	for {
		header, err := r.Peek(5)
		if err != nil {
			return total, fmt.Errorf("read a frame: %w", err)
		}
		kind, size := header[0], int64(binary.BigEndian.Uint32(header[1:]))+1
		switch kind {
		case 'E':
			text := make([]byte, min(size, 1000))
			_, err := io.ReadFull(r, text)
			return total, errors.Join(fmt.Errorf("the server answers %q", text[5:]), err)
		case 'D':
			rows++
		}
		if _, err := r.Discard(int(size)); err != nil {
			return total, fmt.Errorf("read a frame: %w", err)
		}
		total += size
		if kind == 'Z' {
			if rows == 0 {
				return total, errors.New("the answer holds no rows")
			}
			return total, nil
		}
	}
}
