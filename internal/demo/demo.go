// Package demo shows pgweir at work: a real primary with two replicas in a scratch
// directory, a small multi-tenant database, the proxy in front of them, and a tour
// of statements of which each is printed with the server it ran on and why.
//
// Everything the demo starts ends with it. If the process is killed, pgtest's
// watchdog stops the servers and removes the scratch directory.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// What the demo calls its database and roles. App does not bypass row-level
// security; Service is the proxy's own account.
const (
	Database = "fleet"
	App      = "fleet_app"
	Service  = "pgweir"
)

//go:embed fleet.sql
var fleet string

// StartFunc starts a proxy, and returns when it accepts clients.
type StartFunc func(ctx context.Context, cfg config.Config) (*Proxy, error)

// Proxy is one that runs until Stop is called, whose context bounds the wait for running
// transactions.
type Proxy struct {
	Stop     func(context.Context) error
	Insights *Insights // nil: the tour does not show them
}

// Options is what the command line may choose.
type Options struct {
	Listen string // where the proxy listens, host:port
	HTTP   string // where metrics are served, host:port; empty turns them off
	Rows   int    // number of deliveries to make up
	Once   bool   // end after the tour
	Out    io.Writer
	Start  StartFunc
}

// stopTimeout is how long the proxy may take to stop.
const stopTimeout = 10 * time.Second

// Run runs the demo until ctx ends, or until the tour is over with Options.Once. The
// end of ctx is no error.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	p := newPrinter(o.Out)
	cluster, err := startCluster(ctx, p)
	if err != nil {
		return orEnd(ctx, err)
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()

	if err := load(ctx, cluster, o.Rows); err != nil {
		return orEnd(ctx, fmt.Errorf("load the fleet: %w", err))
	}
	p.step("loaded the database %s: 4 organizations, 100 couriers and vehicles, %d deliveries", Database, o.Rows)

	cfg, path, err := writeConfig(cluster, o)
	if err != nil {
		return err
	}
	proxy, err := o.Start(ctx, cfg)
	if err != nil {
		return orEnd(ctx, fmt.Errorf("start pgweir: %w", err))
	}
	defer func() { err = errors.Join(err, stopProxy(ctx, proxy.Stop)) }()
	p.step("pgweir listens on %s, configured by %s", o.Listen, path)

	if err := runTour(ctx, cluster, o.Listen, proxy.Insights, p); err != nil {
		return orEnd(ctx, fmt.Errorf("tour: %w", err))
	}
	if o.Once {
		return nil
	}
	p.farewell(o, path)
	<-ctx.Done()
	p.step("stopping")
	return nil
}

// orEnd turns an error that is only the end of ctx into a quiet end.
func orEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func stopProxy(ctx context.Context, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := stop(ctx); err != nil {
		return fmt.Errorf("stop pgweir: %w", err)
	}
	return nil
}

// check finds what would fail only after the servers were started.
func (o Options) check() error {
	if o.Rows < 1 {
		return fmt.Errorf("--rows %d: at least one row is needed", o.Rows)
	}
	if err := free("--listen", o.Listen); err != nil {
		return err
	}
	if o.HTTP == "" {
		return nil
	}
	return free("--http", o.HTTP)
}

// free tells whether an address can be listened on.
func free(flag, address string) error {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use: stop what listens there, or choose another address with %s", address, flag)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", flag, address, err)
	}
	return l.Close()
}

func startCluster(ctx context.Context, p *printer) (*pgtest.Cluster, error) {
	p.step("starting a primary and two replicas")
	return pgtest.Start(ctx, pgtest.Options{Replicas: 2, Progress: func(s string) { p.step("%s", s) }})
}

func load(ctx context.Context, c *pgtest.Cluster, rows int) error {
	err := c.Exec(ctx, fmt.Sprintf("create role %s login nosuperuser nobypassrls; create role %s login in role pg_monitor", App, Service))
	if err != nil {
		return err
	}
	if err := c.Exec(ctx, "create database "+Database); err != nil {
		return err
	}
	sql := strings.ReplaceAll(fleet, "$rows", strconv.Itoa(rows))
	if err := c.Primary.Exec(ctx, Database, sql); err != nil {
		return err
	}
	return c.WaitReplay(ctx)
}

const configText = `# The configuration of the running demo. It trusts every client, which is right
# for a test machine only.
listen: %s
http: %q
servers: [%s]
service: {user: %s, database: %s}
auth: {method: trust}
tenant: {settings: [app.current_org_id]}
insight: {enabled: true, plans: {enabled: true, interval: 30s}}
log: {level: warn}
`

// writeConfig writes the file an operator would write and reads it as pgweir would.
func writeConfig(c *pgtest.Cluster, o Options) (config.Config, string, error) {
	var servers []string
	for _, s := range c.Servers() {
		servers = append(servers, s.Addr())
	}
	text := fmt.Sprintf(configText, o.Listen, o.HTTP, strings.Join(servers, ", "), Service, Database)
	path := filepath.Join(c.Dir, "pgweir.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return config.Config{}, "", err
	}
	cfg, err := config.Load(path)
	return cfg, path, err
}
