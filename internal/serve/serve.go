// Package serve puts the parts of the service together: the proxy, and metrics
// and health over HTTP. It is what the command line and tests start.
package serve

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/systemd"
	"github.com/pgweir/pgweir/proxy"
	"github.com/pgweir/pgweir/proxy/admin"
)

// Running is a service that was started.
type Running struct {
	Proxy *proxy.Server
	http  *admin.Server
	cfg   config.Config
	log   *zap.Logger
	kin   *kin
}

// Options are what a configuration does not say.
type Options struct {
	Profiles bool // serve /debug/pprof/ over HTTP
}

// Start starts a service; ctx bounds only the start. cfg must be complete, as config.Load returns it. If
// another process serves by the same configuration, it is taken over from once this one is ready.
func Start(ctx context.Context, cfg config.Config, log *zap.Logger, o Options) (_ *Running, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r := &Running{cfg: cfg, log: log, kin: newKin()}
	defer func() {
		if err != nil {
			r.giveUp(ctx)
		}
	}()
	if err := r.inherit(ctx); err != nil {
		return nil, err
	}
	network := proxy.Network{Listen: r.kin.sockets.Listen, Cancel: r.kin.cancel}
	if r.Proxy, err = proxy.NewOver(network, cfg, log, reg); err != nil {
		return nil, err
	}
	if err := r.meet(); err != nil {
		return nil, err
	}
	if err := r.Proxy.Open(); err != nil {
		return nil, err
	}
	if err := r.awaitReady(ctx); err != nil {
		return nil, err
	}
	if cfg.HTTP != "" {
		r.http, err = admin.Start(admin.Options{
			Address: cfg.HTTP, Listen: r.kin.sockets.Listen, Gatherer: reg, Ready: r.Proxy.Ready, Alive: r.Proxy.Alive, Profiles: o.Profiles,
		})
		if err != nil {
			return nil, err
		}
	}
	r.kin.sockets.CloseRest()
	r.Proxy.Accept()
	return r, r.succeed(ctx)
}

// giveUp ends what was started.
func (r *Running) giveUp(ctx context.Context) {
	r.kin.end()
	if r.http != nil {
		r.http.Close(ctx)
	}
	if r.Proxy != nil {
		r.Proxy.Close()
	}
	r.kin.sockets.CloseRest()
}

// Stop ends the service: it is said that it is not ready; after drain_delay nobody is let in
// any more, and sessions may finish their transactions until ctx ends or shutdown_timeout
// has passed.
func (r *Running) Stop(ctx context.Context) error {
	r.Proxy.Announce()
	if !r.kin.retired() {
		systemd.Stopping()
		select {
		case <-time.After(r.cfg.DrainDelay):
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ShutdownTimeout)
	defer cancel()
	r.Proxy.Shutdown(ctx)
	r.kin.end()
	if r.http != nil {
		r.http.Close(ctx)
	}
	return nil
}
