// Package admin is what operators and machines ask the proxy over HTTP: metrics
// for Prometheus, and whether it is alive and ready.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are what a Server is made with.
type Options struct {
	Address  string
	Gatherer prometheus.Gatherer
	// Ready says why statements cannot be served; nil if they can.
	Ready func() error
	// Reload reads the configuration again, and says what is wrong with it. It is served to
	// this host only.
	Reload func() error
	// Shadow writes the report of where statements would run. It is served to this host only.
	Shadow func(io.Writer) error
	// Profiles serves /debug/pprof/ as well.
	Profiles bool
}

// Server answers over HTTP until Close.
type Server struct {
	http *http.Server
	addr net.Addr
	done chan struct{}
}

// Start listens and serves in the background.
func Start(o Options) (*Server, error) {
	l, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for http on %s: %w", o.Address, err)
	}
	s := &Server{
		http: &http.Server{Handler: handler(o), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute},
		addr: l.Addr(), done: make(chan struct{}),
	}
	go s.serve(l)
	return s, nil
}

func (s *Server) serve(l net.Listener) {
	defer close(s.done)
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		_ = l.Close()
	}
}

// Addr is the address listened on.
func (s *Server) Addr() net.Addr { return s.addr }

// Close ends it, letting requests under way finish until ctx ends.
func (s *Server) Close(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.done
}

func handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	if o.Reload != nil {
		mux.HandleFunc("POST /reload", local(func(w http.ResponseWriter, _ *http.Request) {
			if err := o.Reload(); err != nil {
				http.Error(w, err.Error(), http.StatusUnprocessableEntity)
				return
			}
			fmt.Fprintln(w, "ok")
		}))
	}
	if o.Shadow != nil {
		mux.HandleFunc("GET /shadow", local(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = o.Shadow(w) // the client is gone
		}))
	}
	if o.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}
