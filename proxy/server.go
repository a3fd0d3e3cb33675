// Package proxy is one client's life: it accepts a connection, proves who is
// there, and then answers its batches one after the other (see answer.go), each by
// a server the router's decision asks for. A client's goroutine owns everything
// in its session; what clients share is immutable or in package upstream.
package proxy

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/pool/probe"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/proxy/auth"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/metrics"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// Server accepts clients and owns everything they share.
type Server struct {
	cfg      config.Config
	log      *zap.Logger
	metrics  *metrics.Metrics
	audit    *audit.Auditor
	tls      *auth.TLS
	verifier *auth.Verifier
	registry *prepared.Registry
	// assertion is what a connection's next session makes sure of; nil for nothing.
	assertion *batch.Assertion

	upstream     *upstream.Directory
	userClients  sync.Map // user → *atomic.Int64, of users with max_clients
	primaryReads bool

	ctx        context.Context // of everything in the background and of all sessions
	stop       context.CancelFunc
	background sync.WaitGroup
	sessions   sync.WaitGroup
	lastID     atomic.Uint64
	draining   atomic.Bool

	mu        sync.Mutex // protects the fields below
	clients   map[uint32]*client
	listeners []net.Listener
}

// New makes a Server of a complete, valid configuration. It serves nothing until Start.
func New(cfg config.Config, log *zap.Logger, reg prometheus.Registerer) (*Server, error) {
	s := &Server{
		cfg: cfg, log: log,
		registry:     prepared.NewRegistry(registrySize),
		assertion:    batch.NewAssertion(slices.Concat(cfg.Tenant.Settings, cfg.Settings.Assert)),
		clients:      map[uint32]*client{},
		primaryReads: cfg.Routing.PrimaryReads == "always",
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.metrics = metrics.New(s.sources())
	s.audit = audit.New(cfg.Tenant, log)
	s.upstream = upstream.New(s.ctx, upstream.Options{
		Pool: cfg.Pool, Routing: cfg.Routing, Rules: cfg.RulesFor, Audit: s.audit, Log: log, CloseHeld: s.closeHeld,
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

// registrySize bounds the prepared statements that have one identity over all clients.
const registrySize = 50000

// watch makes what asks the servers of a cluster for their state and their LSNs.
func (s *Server) watch(a *upstream.Account) (cluster.Prober, cluster.Sampler) {
	open := func(ctx context.Context, sv *cluster.Server) (*backend.Backend, error) { return a.Open(ctx, sv, "") }
	r := s.cfg.Routing
	return probe.NewProber(open, r.SlowAfter, 10*r.MonitorInterval), probe.NewSampler(open)
}

// lookUp is auth.query: asked of the primary of the database's cluster, or of a replica
// while there is none.
func (s *Server) lookUp(ctx context.Context, database, user string) (secret string, found bool, err error) {
	eff, ok := s.cfg.Resolve(user, database)
	if !ok {
		return "", false, nil
	}
	cl := s.upstream.Clusters()[eff.Cluster]
	server, err := upstream.AnyServer(ctx, cl.Cluster)
	if err != nil {
		return "", false, err
	}
	b, err := cl.Account.Open(ctx, server, "")
	if err != nil {
		return "", false, err
	}
	defer b.Close()
	err = b.QueryParam(ctx, s.cfg.Auth.Query, user, func(v [][]byte) error {
		if len(v) >= 2 && v[1] != nil {
			secret, found = string(v[1]), true
		}
		return nil
	})
	return secret, found, err
}

// Start opens the listeners and serves until Shutdown or Close.
func (s *Server) Start() error {
	for _, address := range s.cfg.Listen {
		l, err := listen(address)
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
	for _, l := range s.listeners {
		s.log.Info("listening", zap.Stringer("address", l.Addr()))
		s.background.Go(func() { s.accept(l) })
	}
	return nil
}

// Addrs are the addresses listened on.
func (s *Server) Addrs() (addrs []net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// listen opens a TCP address, or a socket named as PostgreSQL names its own in a
// directory. A socket file nobody answers at is left over, and replaced.
func listen(address string) (net.Listener, error) {
	network, target, err := config.SplitAddress(address, config.ListenPort)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if conn, err := net.Dial(network, target); err == nil {
			_ = conn.Close()
		} else if info, err := os.Lstat(target); err == nil && info.Mode()&os.ModeSocket != 0 {
			_ = os.Remove(target)
		}
	}
	l, err := net.Listen(network, target)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	if network == "unix" {
		if err := os.Chmod(filepath.Clean(target), 0o777); err != nil {
			_ = l.Close()
			return nil, err
		}
	}
	return l, nil
}

func (s *Server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: clients wait in the backlog.
			s.log.Warn("a client could not be accepted", zap.Error(err))
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-s.ctx.Done():
				return
			}
		}
		s.sessions.Go(func() { s.welcomeClient(conn) })
	}
}

// tend lets all pools close what is old and open what they should keep.
func (s *Server) tend() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-ticker.C:
			s.audit.Flush(now, false)
			s.upstream.Maintain(now)
		}
	}
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// Shutdown ends the service: no new clients, idle sessions end now, others when
// they are idle or ctx ends. It returns when everything is closed.
func (s *Server) Shutdown(ctx context.Context) {
	s.draining.Store(true)
	s.closeListeners()
	s.awaitSessions(ctx, s.endIdle)
	s.Close()
}

// awaitSessions nudges the sessions until all have ended or ctx has. It does so
// again and again, because one may be just about to become idle.
func (s *Server) awaitSessions(ctx context.Context, nudge func()) {
	done := make(chan struct{})
	go func() { s.sessions.Wait(); close(done) }()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		nudge()
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Close ends everything now and returns when it has ended.
func (s *Server) Close() {
	s.draining.Store(true)
	s.closeListeners()
	cancel := s.cancelRunning()
	s.stop()
	s.abortAll()
	cancel()
	s.awaitSessions(context.Background(), s.abortAll)
	s.upstream.Close()
	s.background.Wait()
	s.audit.Flush(time.Now(), true)
}

// endIdle wakes the sessions that are idle outside a transaction; they end.
func (s *Server) endIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		if c.idle.CompareAndSwap(true, false) {
			c.front.Wake()
		}
	}
}

// cancelTimeout bounds the cancel requests of a forced end.
const cancelTimeout = 2 * time.Second

// cancelRunning prepares to cancel what runs on the servers now, which would run to its
// end there with nobody to answer to. The requests are sent by send, after the sessions
// have been told why they end.
func (s *Server) cancelRunning() (send func()) {
	var requests []func(context.Context) error
	s.mu.Lock()
	for _, c := range s.clients {
		if request := c.interrupt.beginCancel(); request != nil {
			requests = append(requests, request)
		}
	}
	s.mu.Unlock()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		var g errgroup.Group
		g.SetLimit(64)
		for _, request := range requests {
			g.Go(func() error { return request(ctx) })
		}
		if err := g.Wait(); err != nil {
			s.log.Warn("a running statement could not be canceled", zap.Error(err))
		}
	}
}

// closeHeld closes the connections to a server that sessions hold: what runs on them
// fails, and so does what comes next in their transactions. The pools are told before,
// so that none is used again.
func (s *Server) closeHeld(server *cluster.Server) (n int) {
	var conns []*wire.Conn
	s.mu.Lock()
	for _, c := range s.clients {
		if b := c.interrupt.on(server); b != nil {
			conns = append(conns, b.Conn)
		}
	}
	s.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
	return len(conns)
}

// abortAll ends all sessions wherever they are.
func (s *Server) abortAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		c.abort()
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

// clientError is what a client is told of err.
func (s *Server) clientError(err error) *wire.Error {
	return toClient(err, s.cfg)
}

// cancelKey is what a client must show to cancel its statement.
type cancelKey struct {
	pid    uint32
	secret []byte
}

// register gives a client its number and secret.
func (s *Server) register(c *client, secretSize int) error {
	secret := make([]byte, secretSize)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		pid := binary.BigEndian.Uint32(b[:]) & 0x7fffffff
		if _, taken := s.clients[pid]; pid != 0 && !taken {
			c.who.key = cancelKey{pid, secret}
			s.clients[pid] = c
			return nil
		}
	}
}

func (s *Server) unregister(c *client) {
	s.mu.Lock()
	delete(s.clients, c.who.key.pid)
	s.mu.Unlock()
}

// remoteHost is the client's address without the port, for limits and logs.
func remoteHost(conn net.Conn) string {
	a := conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(a); err == nil {
		return host
	}
	return strings.TrimSpace(a)
}
