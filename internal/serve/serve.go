// Package serve puts the parts of the service together: the proxy, and metrics
// and health over HTTP. It is what the command line and tests start.
package serve

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy"
	"github.com/pgweir/pgweir/proxy/admin"
	"github.com/pgweir/pgweir/proxy/reload"
)

// Running is a service that was started.
type Running struct {
	Proxy            *proxy.Server
	http             *admin.Server
	stop             func() // ends what is done
	done             sync.WaitGroup
	*reload.Reloader // reads the configuration again
}

// Options are what a configuration does not say.
type Options struct {
	Profiles bool // serve /debug/pprof/ over HTTP
	// Load reads the configuration again; nil where there is nothing to be read again.
	Load func() (config.Config, error)
	// File is where it is read from, to be watched; empty for nothing.
	File string
	// Applied is called with every configuration that was read again and is in force.
	Applied func(config.Config)
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
	r := &Running{Proxy: p, Reloader: reload.New(reload.Options{Load: o.Load, Apply: p.Reload, Applied: o.Applied, Running: cfg, Log: log})}
	reg.MustRegister(r.Reloader)
	if cfg.HTTP != "" {
		r.http, err = admin.Start(admin.Options{Address: cfg.HTTP, Gatherer: reg, Ready: p.Ready, Reload: r.Reload, Shadow: p.Shadow.WriteJSON, Profiles: o.Profiles})
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
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	if o.File != "" {
		r.done.Go(func() { r.Watch(watching, o.File) })
	}
	return r, nil
}

// Stop ends the service: sessions may finish their transactions until ctx ends or
// shutdown_timeout has passed.
func (r *Running) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Proxy.Config().ShutdownTimeout)
	defer cancel()
	r.stop()
	r.done.Wait()
	r.Proxy.Shutdown(ctx)
	if r.http != nil {
		r.http.Close(ctx)
	}
	return nil
}
