// Package admin is what operators and machines ask the proxy over HTTP: metrics
// for Prometheus, whether it is alive and ready, and the status page.
package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/proxy/baselines"
)

// Options are what a Server is made with.
type Options struct {
	Address string
	// Listen opens the address; nil is net.Listen.
	Listen   func(network, target string) (net.Listener, error)
	Gatherer prometheus.Gatherer
	// Ready says why statements cannot be served; nil if they can.
	Ready func() error
	// Alive says why the process does not work any more; nil if it does. It may itself be nil.
	Alive func() error
	// Reload reads the configuration again, and says what is wrong with it. It is served to
	// this host only.
	Reload func() error
	// Shadow writes the report of where statements would run. It is served to this host only.
	Shadow func(io.Writer) error
	// Insights writes what statements cost, and what was found. It is served to this host only.
	Insights func(io.Writer) error
	// Baselines are periods of what was counted. They are served to this host only.
	Baselines *baselines.Keeper
	// Page is shown to people: to who is identified by Web, or else on this host only. It may be nil.
	Page http.Handler
	// Web is a file of exporter-toolkit's, with TLS and users, for all paths; empty for neither.
	Web string
	// Log is told what is wrong with requests; nil for nobody.
	Log *zap.Logger
	// Profiles serves /debug/pprof/ as well.
	Profiles bool
}

// Server answers over HTTP until Close.
type Server struct {
	http     *http.Server
	listener net.Listener
	done     chan struct{}

	mu   sync.Mutex            // protects busy
	busy map[net.Conn]struct{} // connections with a request under way, or none yet
}

// Start listens and serves in the background.
func Start(o Options) (*Server, error) {
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if err := CheckWeb(o.Web); err != nil {
		return nil, err
	}
	l, err := o.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for http on %s: %w", o.Address, err)
	}
	s := &Server{
		http: &http.Server{
			Handler: handler(o), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
			ErrorLog: log.New(complaints{o.Log}, "", 0),
		},
		listener: l, done: make(chan struct{}), busy: map[net.Conn]struct{}{},
	}
	s.http.ConnState = s.note
	go s.serve(o.Web)
	return s, nil
}

// complaints are the lines that net/http has to say.
type complaints struct{ log *zap.Logger }

func (c complaints) Write(line []byte) (int, error) {
	c.log.Warn("http", zap.ByteString("error", bytes.TrimSpace(line)))
	return len(line), nil
}

// faults are what is wrong with metrics.
type faults struct{ log *zap.Logger }

// Println implements promhttp.Logger.
func (f faults) Println(said ...any) {
	f.log.Warn("metrics are not shown, or not all of them", zap.String("error", strings.TrimSpace(fmt.Sprintln(said...))))
}

func (s *Server) serve(web string) {
	defer close(s.done)
	_ = s.serveWeb(web)
	_ = s.listener.Close()
}

// Addr is the address listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close ends it, letting requests under way finish until ctx ends.
func (s *Server) Close(ctx context.Context) {
	_ = s.listener.Close()
	<-s.done
	s.http.SetKeepAlivesEnabled(false)
	s.awaitRequests(ctx) // Shutdown would drop what it finds just read
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
}

// note notes what a connection is about.
func (s *Server) note(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew || state == http.StateActive {
		s.busy[conn] = struct{}{}
	} else {
		delete(s.busy, conn)
	}
}

// awaitRequests waits until no request is under way, or ctx ends.
func (s *Server) awaitRequests(ctx context.Context) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		n := len(s.busy)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog: faults{o.Log}, ErrorHandling: promhttp.ContinueOnError, // what is in order is shown
	}))
	if o.Alive == nil {
		o.Alive = func() error { return nil }
	}
	mux.HandleFunc("GET /healthz", tell(o.Alive))
	mux.HandleFunc("GET /readyz", tell(o.Ready))
	if o.Reload != nil {
		mux.HandleFunc("POST /reload", local(func(w http.ResponseWriter, _ *http.Request) {
			if err := o.Reload(); err != nil {
				http.Error(w, err.Error(), http.StatusUnprocessableEntity)
				return
			}
			fmt.Fprintln(w, "ok")
		}))
	}
	for path, write := range map[string]func(io.Writer) error{"/shadow": o.Shadow, "/insights": o.Insights} {
		if write == nil {
			continue
		}
		mux.HandleFunc("GET "+path, local(func(w http.ResponseWriter, _ *http.Request) {
			var answer bytes.Buffer
			if err := write(&answer); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = answer.WriteTo(w) // the client is gone
		}))
	}
	handleBaselines(mux, o.Baselines)
	if o.Page != nil {
		for _, path := range []string{"/{$}", "/statement.html", "/page.css", "/shared.js", "/page.js", "/statement.js", "/icon.svg", "/events", "/statement"} {
			mux.Handle("GET "+path, private(o.Web, o.Page))
		}
	}
	if o.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// tell answers 200, or 503 with what is wrong.
func tell(wrong func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := wrong(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}
