// Package proxy is the service: it listens, lets clients log in, and knows their
// sessions, to end them and to pass cancel requests on. What a session does is package
// client's; what sessions share is immutable or in package upstream.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
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
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/peers"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// Network is how the service reaches its clients and servers. What is nil is package net's.
type Network struct {
	Listen func(network, address string) (net.Listener, error)
	Dial   backend.Dial
}

// Server accepts clients and owns everything they share.
type Server struct {
	cfg      config.Config
	listen   func(network, address string) (net.Listener, error)
	log      *zap.Logger
	metrics  *metrics.Metrics
	audit    *audit.Auditor
	tls      *auth.TLS
	verifier *auth.Verifier
	service  upstream.Service // of the sessions

	upstream    *upstream.Directory
	peers       *peers.Peers
	userClients sync.Map // user → *atomic.Int64, of users with max_clients

	ctx        context.Context // of everything in the background and of all sessions
	stop       context.CancelFunc
	background sync.WaitGroup
	sessions   sync.WaitGroup
	lastID     atomic.Uint64
	draining   atomic.Bool

	mu        sync.Mutex         // protects the fields below
	members   map[uint32]*member // by process number, as clients know it
	listeners []net.Listener
}

// New makes a Server of a complete, valid configuration. It serves nothing until Start.
func New(cfg config.Config, log *zap.Logger, reg prometheus.Registerer) (*Server, error) {
	return NewOver(Network{}, cfg, log, reg)
}

// NewOver does what New does, over a network of the caller's.
func NewOver(network Network, cfg config.Config, log *zap.Logger, reg prometheus.Registerer) (*Server, error) {
	s := &Server{
		cfg: cfg, log: log, listen: network.Listen,
		members: map[uint32]*member{}, peers: peers.New(cfg.Peers, peers.Dial(network.Dial)),
	}
	if s.listen == nil {
		s.listen = net.Listen
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.metrics = metrics.New(s.sources())
	s.audit = audit.New(cfg.Tenant, log)
	s.service = upstream.Service{
		Config: cfg, Log: log, Metrics: s.metrics, Audit: s.audit, Registry: new(prepared.Registry),
		Assertion: batch.NewAssertion(slices.Concat(cfg.Tenant.Settings, cfg.Settings.Assert)),
		Draining:  &s.draining, PrimaryReads: cfg.Routing.PrimaryReads == "always",
	}
	s.upstream = upstream.New(s.ctx, upstream.Options{
		Pool: cfg.Pool, Routing: cfg.Routing, Settings: cfg.Settings, Tenants: cfg.Tenant.Settings, Rules: cfg.RulesFor, Audit: s.audit, Log: log, CloseHeld: s.closeHeld,
		LoginsChanged: func() { s.verifier.Forget() },
		Dial:          network.Dial,
	})
	var err error
	if s.tls, err = auth.LoadTLS(cfg.TLS); err != nil {
		return nil, err
	}
	if s.verifier, err = auth.New(cfg.Auth, cfg.Users, s.tls, s.lookUp); err != nil {
		return nil, err
	}
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
func (s *Server) watch(a *upstream.Account, c config.Cluster) (cluster.Prober, cluster.Sampler) {
	open := func(ctx context.Context, sv *cluster.Server) (*backend.Backend, error) { return a.Open(ctx, sv, "") }
	r := s.cfg.Routing
	flavour := probe.Flavour(c.Flavour)
	return probe.NewProber(open, flavour, r.SlowAfter, 10*r.MonitorInterval), probe.NewSampler(open, flavour)
}

// lookUp is auth.query: asked of the primary of the database's cluster, or of a replica
// while there is none.
func (s *Server) lookUp(ctx context.Context, database, user string) (secret string, found bool, err error) {
	eff, ok := s.cfg.Resolve(user, database)
	if !ok {
		return "", false, nil
	}
	cl := s.upstream.Clusters()[eff.Cluster]
	err = cl.Account.Ask(ctx, cl.Cluster, func(b *backend.Backend) error {
		secret, found = "", false
		return b.QueryParam(ctx, s.cfg.Auth.Query, user, func(v [][]byte) error {
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
	for _, address := range s.cfg.Listen {
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
		s.background.Go(func() { c.Discover(s.ctx) })
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
