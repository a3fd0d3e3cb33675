// Package proxy is the service: it listens, lets clients log in, and knows their
// sessions, to end them and to pass cancel requests on. What a session does is package
// client's; what sessions share is immutable or in package upstream.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/pool/probe"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/shadow"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// Network is how the service reaches its clients and servers. What is nil is package net's.
type Network struct {
	Listen func(network, address string) (net.Listener, error)
	Dial   backend.Dial
}

// Server accepts clients and owns everything they share.
type Server struct {
	network  Network
	log      *zap.Logger
	metrics  *metrics.Metrics
	audit    *audit.Auditor
	registry *prepared.Registry

	terms   atomic.Pointer[terms]            // in force; Reload puts others in force
	service atomic.Pointer[upstream.Service] // of the sessions: that of terms

	upstream *upstream.Directory
	// Shadow is where statements would run, while routing.shadow keeps all on the primary.
	Shadow *shadow.Report

	ctx        context.Context // of everything in the background and of all sessions
	stop       context.CancelFunc
	background sync.WaitGroup
	sessions   sync.WaitGroup
	lastID     atomic.Uint64
	draining   atomic.Bool

	reloading sync.Mutex // held by Reload

	mu        sync.Mutex         // protects the fields below
	members   map[uint32]*member // by process number, as clients know it
	clients   map[string]int     // sessions by user
	listeners []net.Listener
}

// New makes a Server of a complete, valid configuration. It serves nothing until Start.
func New(cfg config.Config, log *zap.Logger, reg prometheus.Registerer) (*Server, error) {
	return NewOver(Network{}, cfg, log, reg)
}

// NewOver does what New does, over a network of the caller's.
func NewOver(network Network, cfg config.Config, log *zap.Logger, reg prometheus.Registerer) (*Server, error) {
	s := &Server{
		log: log, network: network,
		members: map[uint32]*member{}, clients: map[string]int{},
	}
	if network.Listen == nil {
		s.network.Listen = net.Listen
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.metrics = metrics.New(s.sources())
	s.audit = audit.New(cfg.Tenant, log)
	t, err := s.termsOf(cfg)
	if err != nil {
		return nil, err
	}
	s.registry, s.Shadow = new(prepared.Registry), shadow.New()
	s.upstream = upstream.New(s.ctx, s.options(cfg))
	s.adopt(t)
	for name, c := range cfg.Clusters {
		if err := s.upstream.AddCluster(name, c, s.watch); err != nil {
			return nil, err
		}
	}
	if reg != nil {
		for _, c := range []prometheus.Collector{s.metrics, s.audit.Collector(s.upstream.Protections)} {
			if err := reg.Register(c); err != nil {
				return nil, fmt.Errorf("register metrics: %w", err)
			}
		}
	}
	return s, nil
}

// watch makes what asks the servers of a cluster for their state and their LSNs.
func (s *Server) watch(a *upstream.Account) (cluster.Prober, cluster.Sampler) {
	open := func(ctx context.Context, sv *cluster.Server) (*backend.Backend, error) { return a.Open(ctx, sv, "") }
	r := s.terms.Load().cfg.Routing
	return probe.NewProber(open, r.SlowAfter, 10*r.MonitorInterval), probe.NewSampler(open)
}

// lookUp is auth.query: asked of the primary of the database's cluster, or of a replica
// while there is none.
func (s *Server) lookUp(ctx context.Context, database, user string) (secret string, found bool, err error) {
	cfg := &s.terms.Load().cfg
	eff, ok := cfg.Resolve(user, database)
	if !ok {
		return "", false, nil
	}
	cl := s.upstream.Clusters()[eff.Cluster]
	err = cl.Account.Ask(ctx, cl.Cluster, func(b *backend.Backend) error {
		secret, found = "", false
		return b.QueryParam(ctx, cfg.Auth.Query, user, func(v [][]byte) error {
			if len(v) >= 2 && v[1] != nil {
				secret, found = string(v[1]), true
			}
			return nil
		})
	})
	return secret, found, err
}

// Start opens the listeners and serves until Shutdown or Close.
func (s *Server) Start() error {
	for _, address := range s.terms.Load().cfg.Listen {
		l, err := s.listenOn(address)
		if err != nil {
			s.closeListeners()
			return err
		}
		s.mu.Lock()
		s.listeners = append(s.listeners, l)
		s.mu.Unlock()
	}
	for _, c := range s.upstream.Clusters() {
		s.background.Go(func() { c.Run(s.ctx) })
		s.background.Go(func() { c.Track(s.ctx) })
	}
	s.background.Go(s.tend)
	s.background.Go(s.watchClients)
	for _, l := range s.listeners {
		s.log.Info("listening", zap.Stringer("address", l.Addr()))
		s.background.Go(func() { s.accept(l) })
	}
	return nil
}

// tend lets all pools close what is old and open what they should keep, has idle connections
// verified, and the audit log what is due, and gives back memory.
func (s *Server) tend() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var memory memory
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-ticker.C:
			memory.tend(now)
			s.audit.Flush(now, false)
			s.upstream.Maintain(now)
		}
	}
}

// Draining reports whether the service is ending.
func (s *Server) Draining() bool { return s.draining.Load() }

// Ready reports whether statements can be served, and if not, why.
func (s *Server) Ready() error {
	if s.draining.Load() {
		return errors.New("shutting down")
	}
	for name, c := range s.upstream.Clusters() {
		t := c.Topology()
		if t.Primary == nil && len(t.Replicas) == 0 && t.Known {
			return fmt.Errorf("cluster %s: no server is up", name)
		}
	}
	return nil
}
