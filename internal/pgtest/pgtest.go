// Package pgtest runs a real PostgreSQL primary with streaming replicas, for
// tests, benchmarks and the demo.
//
// A Cluster lives in one scratch directory. Every server is a child process
// listening on a free loopback port and on a Unix-domain socket in
// Cluster.SocketDir. PostgreSQL refuses to run as root, so under root its
// processes run as the user postgres (or nobody). A small watchdog process
// stops the servers and removes the scratch directory when the process that
// started them is gone, however it ended; SIGKILL included.
//
// Starting is quick because no server runs initdb: a template data directory
// is made once for each PostgreSQL version, kept in the user's cache directory
// and copied. All servers of a Cluster, and by default all Clusters, therefore
// share a system identifier; Options.Fresh gives a Cluster one of its own.
//
// The servers run with fsync off: what they acknowledged survives the kill of
// any process, but not the loss of the machine.
//
// The package starts no goroutine that outlives a call, so goroutine leak
// checks need no exceptions for it.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// Superuser is the role that owns every cluster. Over the Unix-domain socket it
// is always let in without a password, whatever Options.HBA says.
const Superuser = "postgres"

// Options says what to start. The zero value is one primary without replicas.
type Options struct {
	// Replicas is the number of streaming replicas.
	Replicas int
	// Version is the major version to run, such as "18". Empty takes
	// $PGWEIR_PG_VERSION, or else the newest one of the system.
	Version string
	// Dir is the directory the scratch directory is made in. Empty is a file system
	// in memory if there is one with 4 GiB free and TMPDIR is not set, or else the
	// directory for temporary files; name a directory for large databases.
	Dir string
	// TLS gives every server a certificate for 127.0.0.1 and localhost, signed by
	// an authority of the cluster's own; see Cluster.CA and Cluster.ClientCert.
	TLS bool
	// HBA replaces the lines of pg_hba.conf; nil trusts every loopback connection.
	HBA []string
	// Conf adds settings to postgresql.conf of every server and wins over the defaults.
	Conf map[string]string
	// Sync makes a commit wait for one replica.
	Sync bool
	// Fresh gives the cluster a system identifier of its own, which costs an initdb.
	Fresh bool
	// Progress, if set, is told of each step; one call at a time.
	Progress func(step string)
}

// Cluster is a running primary and its replicas. Its methods may be called
// concurrently.
type Cluster struct {
	// Dir is the scratch directory. Files put there are removed with it.
	Dir string
	// SocketDir holds the Unix-domain sockets of all servers.
	SocketDir string
	// Primary and Replicas are the servers by the role they were started in;
	// promotions do not change them.
	Primary  *Server
	Replicas []*Server

	opts  Options
	bins  binaries
	user  account
	guard *watchdog
	ca    *authority

	telling sync.Mutex // one call of opts.Progress at a time

	mu     sync.Mutex // protects the fields below
	closed bool
	dbs    int
}

// Start starts a cluster and returns when every replica streams. The context
// bounds the start only. The caller must Close the cluster; if the process ends
// without doing so the watchdog does. Under "go test -short" it is an error: that
// run shall need no server (SkipShort).
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if short() {
		return nil, errors.New("a server is asked for under -short: call pgtest.SkipShort first")
	}
	bins, err := findBinaries(ctx, o.Version)
	if err != nil {
		return nil, err
	}
	user, err := currentAccount()
	if err != nil {
		return nil, err
	}
	dir, err := makeScratch(o.Dir, user)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, SocketDir: filepath.Join(dir, "run"), opts: o, bins: bins, user: user}
	if c.guard, err = startWatchdog(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL %s: %w", bins.full, err), c.Close())
	}
	return c, nil
}

func (c *Cluster) progress(format string, args ...any) {
	if c.opts.Progress != nil {
		c.telling.Lock()
		defer c.telling.Unlock()
		c.opts.Progress(fmt.Sprintf(format, args...))
	}
}

func (c *Cluster) build(ctx context.Context) error {
	if err := c.user.mkdir(c.SocketDir, 0o755); err != nil {
		return err
	}
	if c.opts.TLS {
		ca, err := newAuthority(filepath.Join(c.Dir, "tls"))
		if err != nil {
			return err
		}
		c.ca = ca
	}
	c.progress("preparing data directories (PostgreSQL %s)", c.bins.full)
	template, err := c.template(ctx)
	if err != nil {
		return err
	}
	c.Primary = c.newServer("primary")
	for i := range c.opts.Replicas {
		c.Replicas = append(c.Replicas, c.newServer("replica"+strconv.Itoa(i+1)))
	}
	if err := c.copies(ctx, template); err != nil {
		return err
	}
	if err := c.Primary.first(ctx, nil); err != nil {
		return err
	}
	c.progress("primary is up on %s", c.Primary.Addr())
	return c.startReplicas(ctx)
}

// copies fills the data directories of all servers from one stopped data directory:
// a replica that starts where the primary does needs no base backup.
func (c *Cluster) copies(ctx context.Context, template string) error {
	g, _ := errgroup.WithContext(ctx)
	for _, s := range c.Servers() {
		g.Go(func() error { return c.user.copyTree(template, s.DataDir) })
	}
	return g.Wait()
}

func (c *Cluster) startReplicas(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, r := range c.Replicas {
		g.Go(func() error {
			if err := r.first(gctx, c.Primary); err != nil {
				return err
			}
			if err := c.Primary.waitStreaming(gctx, r.Name); err != nil {
				return fmt.Errorf("%s does not stream: %w\n%s", r.Name, err, r.LogTail(20))
			}
			c.progress("%s streams on %s", r.Name, r.Addr())
			return nil
		})
	}
	return g.Wait()
}

// Servers returns the primary and the replicas.
func (c *Cluster) Servers() []*Server {
	return append([]*Server{c.Primary}, c.Replicas...)
}

// Close stops every server at once and removes the scratch directory. It may be
// called more than once.
func (c *Cluster) Close() error {
	c.mu.Lock()
	done := c.closed
	c.closed = true
	c.mu.Unlock()
	if done {
		return nil
	}
	var g errgroup.Group
	if c.Primary != nil {
		for _, s := range c.Servers() {
			g.Go(func() error { return s.Stop(Immediate) })
		}
	}
	// The watchdog does the rest, so that there is one way in which things end.
	return errors.Join(g.Wait(), c.guard.finish())
}

// Exec runs SQL, possibly several statements, on the primary as the superuser in
// the database postgres.
func (c *Cluster) Exec(ctx context.Context, sql string) error {
	return c.Primary.Exec(ctx, "postgres", sql)
}

// WaitReplay returns when every replica has replayed all that was committed on the
// primary before the call. It writes a small record to the primary's log to know
// where that is. A replica that is stopped or paused makes it wait for the
// context's end.
func (c *Cluster) WaitReplay(ctx context.Context) error {
	return c.WaitReplayOn(ctx, c.Replicas...)
}

// WaitReplayOn is WaitReplay for some of the replicas.
func (c *Cluster) WaitReplayOn(ctx context.Context, replicas ...*Server) error {
	// A transactional message ends in a commit record, which flushes all before it.
	lsn := ""
	err := c.Primary.onKept(ctx, func(conn *pgx.Conn) (err error) {
		lsn, err = value(ctx, conn, "select pg_logical_emit_message(true, 'pgtest', '')")
		return err
	})
	if err != nil {
		return fmt.Errorf("mark the primary's log: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, r := range replicas {
		g.Go(func() error {
			err := r.onKept(gctx, func(conn *pgx.Conn) error {
				return askUntil(gctx, conn, "select pg_last_wal_replay_lsn() >= $1::pg_lsn", lsn)
			})
			if err != nil {
				return fmt.Errorf("wait for %s to replay %s: %w", r.Name, lsn, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// poll is how often states are asked that PostgreSQL does not tell of itself.
const poll = 5 * time.Millisecond

// until calls f every few milliseconds until it is done, fails or ctx ends.
func until(ctx context.Context, f func() (bool, error)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
