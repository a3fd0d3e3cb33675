// Package serve puts the parts of the service together: the proxy, and metrics
// and health over HTTP. It is what the command line and tests start.
package serve

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy"
	"github.com/pgweir/pgweir/proxy/admin"
)

// Running is a service that was started.
type Running struct {
	Proxy *proxy.Server
	http  *admin.Server
	cfg   config.Config
}

// Options are what a configuration does not say.
type Options struct {
	Profiles bool // serve /debug/pprof/ over HTTP
}

// Start starts a service; ctx bounds only the start. cfg must be complete, as config.Load returns it.
func Start(ctx context.Context, cfg config.Config, log *zap.Logger, o Options) (*Running, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p, err := proxy.New(cfg, log, reg)
	if err != nil {
		return nil, err
	}
	r := &Running{Proxy: p, cfg: cfg}
	if cfg.HTTP != "" {
		r.http, err = admin.Start(admin.Options{Address: cfg.HTTP, Gatherer: reg, Ready: p.Ready, Profiles: o.Profiles})
		if err != nil {
			p.Close()
			return nil, err
		}
	}
	if err := p.Start(); err != nil {
		if r.http != nil {
			r.http.Close(ctx)
		}
		p.Close()
		return nil, err
	}
	return r, nil
}

// Stop ends the service: sessions may finish their transactions until ctx ends or
// shutdown_timeout has passed.
func (r *Running) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ShutdownTimeout)
	defer cancel()
	r.Proxy.Shutdown(ctx)
	if r.http != nil {
		r.http.Close(ctx)
	}
	return nil
}
