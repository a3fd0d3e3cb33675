package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// idleMemory is the memory one idle client costs a proxy, in bytes.
type idleMemory struct {
	system  string
	login   float64 // after logging in
	query   float64 // after one query each
	process float64 // the whole process at the end
	parts   string  // what a Go process makes of it
}

// measureIdle measures each proxy in a process of its own, so that no earlier load has
// left memory in it.
func measureIdle(ctx context.Context, l *lab, r *report) error {
	for _, name := range l.options.systems {
		if name == direct {
			continue
		}
		s, err := l.start(ctx, name)
		if err != nil {
			return err
		}
		m, err := s.idle(ctx, l.options.idleClients)
		s.stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.fault("%d idle clients, %s: %v", l.options.idleClients, name, err)
			continue
		}
		progress("%-9s %.1f KiB per idle client, %.1f KiB after a query each %s", name, m.login/1024, m.query/1024, m.parts)
		r.idle = append(r.idle, m)
	}
	return nil
}

func (s *system) idle(ctx context.Context, n int) (m idleMemory, err error) {
	m.system = s.name
	var conns []*pgconn.PgConn
	defer func() { closeAll(ctx, conns) }()
	// The first clients make the process load what it loads once.
	if conns, err = s.connectMany(ctx, 20); err == nil {
		err = queryAll(ctx, conns)
	}
	if err != nil {
		return m, err
	}
	closeAll(ctx, conns)
	empty, err := settled(ctx, s.pid())
	if err != nil {
		return m, err
	}
	before := s.heap(ctx)
	if conns, err = s.connectMany(ctx, n); err != nil {
		return m, err
	}
	login, err := settled(ctx, s.pid())
	if err != nil {
		return m, err
	}
	if err := queryAll(ctx, conns); err != nil {
		return m, err
	}
	if m.process, err = settled(ctx, s.pid()); err != nil {
		return m, err
	}
	m.login, m.query = (login-empty)/float64(n), (m.process-empty)/float64(n)
	m.parts = heapParts(before, s.heap(ctx), n)
	return m, nil
}

// inParallel is how many clients log in or query at a time.
const inParallel = 8

func (s *system) connectMany(ctx context.Context, n int) ([]*pgconn.PgConn, error) {
	conns := make([]*pgconn.PgConn, n)
	var g errgroup.Group
	g.SetLimit(inParallel)
	for i := range conns {
		g.Go(func() (err error) {
			if conns[i], err = s.connect(ctx); err != nil {
				return fmt.Errorf("client %d: %w", i+1, err)
			}
			return nil
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(conns, func(c *pgconn.PgConn) bool { return c == nil }), err
}

func queryAll(ctx context.Context, conns []*pgconn.PgConn) error {
	var g errgroup.Group
	g.SetLimit(inParallel)
	for i, c := range conns {
		g.Go(func() error {
			sql := fmt.Sprintf("select abalance from pgbench_accounts where aid = %d", i+1)
			_, err := c.Exec(ctx, sql).ReadAll()
			return err
		})
	}
	return g.Wait()
}

func closeAll(ctx context.Context, conns []*pgconn.PgConn) {
	for _, c := range conns {
		_ = c.Close(ctx) // nothing depends on it
	}
}

// heapMetrics tell where the memory of a Go process is.
var heapMetrics = []string{"go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes"}

// heap is nil for a process that does not tell.
func (s *system) heap(ctx context.Context) []float64 {
	if s.http == "" {
		return nil
	}
	values, err := s.metrics(ctx, heapMetrics...)
	if err != nil {
		progress("%s: %v", s.name, err)
		return nil
	}
	return values
}

// heapParts shows the growth of the heap metrics per client.
func heapParts(before, after []float64, n int) string {
	if len(before) == 0 || len(after) != len(before) {
		return ""
	}
	var parts []string
	for i, name := range []string{"heap", "stacks"} {
		parts = append(parts, fmt.Sprintf("%s %.1f KiB", name, (after[i]-before[i])/float64(n)/1024))
	}
	return "(" + strings.Join(parts, ", ") + ")"
}
