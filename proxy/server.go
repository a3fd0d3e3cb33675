// Package proxy is the service: it listens, lets clients log in, and knows their
// sessions, to end them and to pass cancel requests on. What a session does is package
// client's; what sessions share is immutable or in package upstream.
package proxy

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/sockets"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/pool/probe"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/baselines"
	"github.com/pgweir/pgweir/proxy/explain"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/shadow"
	"github.com/pgweir/pgweir/proxy/tracing"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// Network is how the service reaches its clients and servers. Without Listen and Dial it
// opens sockets of its own.
type Network struct {
	Listen func(network, target string) (net.Listener, error)
	Dial   backend.Dial
	// Cancel passes a cancel request to other processes, and reports whether its key was of
	// a session there. It may be nil.
	Cancel func(ctx context.Context, request []byte) (met bool)
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

	upstream    *upstream.Directory
	lookups     lookups
	userClients struct {
		sync.Mutex                // protects of
		of         map[string]int // sessions, by user
	}
	reports

	ctx        context.Context // of everything in the background and of all sessions
	stop       context.CancelFunc
	background sync.WaitGroup
	sessions   sync.WaitGroup
	phase

	reloading sync.Mutex // held by Reload, and for the end

	members   members
	consoles  consoles
	listeners struct {
		sync.Mutex // protects all
		all        []net.Listener
	}
}

// reports are what is counted of statements.
type reports struct {
	// Shadow is where statements would run, while routing.shadow keeps all on the primary.
	Shadow  *shadow.Report
	insight *insight.Book    // what they cost; nil if that is not counted
	explain *explain.Sampler // has servers tell their plans; nil if none is asked
	tracer  *tracing.Tracer  // makes spans of them; nil if it does not
	// Baselines are periods of what they cost.
	Baselines *baselines.Keeper
}

// New makes a Server of a complete, valid configuration. It serves nothing until Start.
func New(cfg config.Config, log *zap.Logger, reg prometheus.Registerer) (*Server, error) {
	return NewOver(Network{}, cfg, log, reg)
}

// NewOver does what New does, over a network of the caller's.
func NewOver(network Network, cfg config.Config, log *zap.Logger, reg prometheus.Registerer) (*Server, error) {
	s := &Server{
		log: log, network: network,
		members: members{all: map[uint32]*member{}}, consoles: newConsoles(),
	}
	s.userClients.of = map[string]int{}
	s.lookups.s, s.lookups.latest = s, map[lookup]verdict{}
	if s.network.Listen == nil {
		s.network.Listen = sockets.New().Listen
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.metrics = metrics.New(s.sources())
	s.audit = audit.New(cfg.Tenant, log)
	s.insight = newBook(cfg.Insight)
	s.explain = newSampler(cfg.Insight.Plans, s.insight, log, func() []*upstream.Database { return s.upstream.Databases() })
	var err error
	if s.Baselines, err = newKeeper(s, cfg.Insight); err != nil {
		return nil, err
	}
	t, err := s.termsOf(cfg)
	if err != nil {
		return nil, err
	}
	if s.tracer, err = tracing.New(s.ctx, cfg.Tracing, log); err != nil {
		return nil, err
	}
	s.registry, s.Shadow = new(prepared.Registry), shadow.New()
	s.upstream = upstream.New(s.ctx, s.options(cfg))
	s.adopt(t)
	s.lookups.userFile = strings.Join(t.verifier.UserFileFaults(), "\n") // told as a warning of the configuration
	for name, c := range cfg.Clusters {
		if err := s.upstream.AddCluster(name, c, s.watch); err != nil {
			return nil, err
		}
	}
	if reg != nil {
		for _, c := range []prometheus.Collector{s.metrics, s.audit.Collector(s.upstream.Protections), insight.Collector(s.insight), tracing.Collector(s.tracer)} {
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
	r := s.terms.Load().cfg.Routing
	flavour := probe.Flavour(c.Flavour)
	return probe.NewProber(open, flavour, r.SlowAfter, 10*r.MonitorInterval), probe.NewSampler(open, flavour)
}

// Start does what Open and then Accept do.
func (s *Server) Start() error {
	if err := s.Open(); err != nil {
		return err
	}
	s.Accept()
	return nil
}

// Open opens the listeners, and begins to know the servers.
func (s *Server) Open() error {
	for _, address := range s.terms.Load().cfg.Listen {
		l, err := s.listenOn(address)
		if err != nil {
			s.Retire()
			return err
		}
		s.listeners.Lock()
		s.listeners.all = append(s.listeners.all, l)
		s.listeners.Unlock()
	}
	for _, c := range s.upstream.Clusters() {
		s.background.Go(func() { c.Run(s.ctx) })
		s.background.Go(func() { c.Track(s.ctx) })
		s.background.Go(func() { c.Discover(s.ctx) })
	}
	s.warm(&s.terms.Load().cfg)
	s.Baselines.Start()
	s.background.Go(s.tend)
	s.background.Go(s.watchClients)
	s.background.Go(func() { s.explain.Run(s.ctx) })
	s.background.Go(func() { s.lookups.try(s.terms.Load()) })
	return nil
}

// Accept begins to serve clients, until Shutdown or Close.
func (s *Server) Accept() {
	for _, l := range s.listeners.all {
		s.log.Info("listening", zap.Stringer("address", l.Addr()))
		s.accepting.Go(func() { s.accept(l) })
	}
}

// warm makes the pools whose connections are opened before their first client comes.
func (s *Server) warm(cfg *config.Config) {
	for name, d := range cfg.Databases {
		for _, user := range d.Warm {
			up, _, err := s.upstream.Enter(upstream.Key{User: user, Database: name}, func() (config.Effective, backend.Credentials, error) {
				eff, ok := cfg.Resolve(user, name)
				if !ok {
					return eff, backend.Credentials{}, noDatabase(name)
				}
				return eff, backend.Credentials{User: eff.ServerUser, Password: cmp.Or(eff.ServerPassword, cfg.Users[user].Password)}, nil
			})
			if err == nil {
				up.Leave()
			}
		}
	}
}

// tend lets all pools close what is old and open what they should keep, has idle connections
// verified, and the audit log what is due.
func (s *Server) tend() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		s.phase.tended.Store(time.Now().UnixNano())
		select {
		case <-s.ctx.Done():
			return
		case now := <-ticker.C:
			s.audit.Flush(now, false)
			s.upstream.Maintain(now)
			s.lookups.tellUserFile()
			s.consoles.averages.tend(now, s.upstream.Traffic)
		}
	}
}
