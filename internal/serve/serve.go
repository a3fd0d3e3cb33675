// Package serve puts the parts of the service together: the proxy, and metrics
// and health over HTTP. It is what the command line and tests start.
package serve

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/systemd"
	"github.com/pgweir/pgweir/proxy"
	"github.com/pgweir/pgweir/proxy/admin"
	"github.com/pgweir/pgweir/proxy/console"
	"github.com/pgweir/pgweir/proxy/page"
	"github.com/pgweir/pgweir/proxy/reload"
)

// Running is a service that was started.
type Running struct {
	Proxy *proxy.Server
	http  *admin.Server
	page  *page.Page    // nil without http
	cfg   config.Config // that it started with
	log   *zap.Logger
	kin   *kin
	// orders are of an administrator, to end; at once is one that was obeyed.
	orders chan console.Shutdown
	atOnce bool
	// Reloader reads the configuration again.
	*reload.Reloader
	watching struct { // of files
		ctx  context.Context
		stop func()
		done sync.WaitGroup
	}
}

// Options are what a configuration does not say.
type Options struct {
	Profiles bool   // serve /debug/pprof/ over HTTP
	Version  string // of the program, for its metrics and the console
	// Load reads the configuration again; nil where there is nothing to be read again.
	Load func() (config.Config, error)
	// File is where it is read from, to be watched; empty for nothing.
	File string
	// LogDropped is how many lines of the log have been lost; nil where that is not known.
	LogDropped func() uint64
	// Applied is called with every configuration that was read again and is in force.
	Applied func(config.Config)
}

// Start starts a service; ctx bounds only the start. cfg must be complete, as config.Load returns it. If
// another process serves by the same configuration, it is taken over from once this one is ready.
func Start(ctx context.Context, cfg config.Config, log *zap.Logger, o Options) (_ *Running, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	events := page.NewEvents()
	if cfg.HTTP != "" {
		log = log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, events) }))
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(o.Version), logDropped(o.LogDropped))
	r := &Running{cfg: cfg, log: log, kin: newKin(), orders: make(chan console.Shutdown, 1)}
	r.watching.ctx, r.watching.stop = context.WithCancel(context.WithoutCancel(ctx))
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
	r.Reloader = reload.New(reload.Options{Load: o.Load, Apply: r.Proxy.Reload, Applied: o.Applied, Running: cfg, Log: log})
	reg.MustRegister(r.Reloader)
	r.Proxy.Obey(r.obeyed(o))
	if cfg.HTTP != "" {
		r.page = page.Start(page.Options{Service: proxy.PageOf(r.Proxy), Events: events, Version: o.Version})
		r.http, err = admin.Start(admin.Options{
			Address: cfg.HTTP, Listen: r.kin.sockets.Listen, Gatherer: reg, Ready: r.Proxy.Ready, Alive: r.Proxy.Alive,
			Reload: r.Reload, Shadow: r.Proxy.Shadow.WriteJSON, Insights: r.Proxy.WriteInsights, Baselines: r.Proxy.Baselines, Profiles: o.Profiles,
			Page: r.page, Web: cfg.HTTPWebConfig, Log: log,
		})
		if err != nil {
			return nil, err
		}
	}
	r.kin.sockets.CloseRest()
	r.Proxy.Accept()
	if err := r.succeed(ctx); err != nil {
		return nil, err
	}
	if o.File != "" {
		r.watching.done.Go(func() { r.Watch(r.watching.ctx, o.File) })
	}
	return r, nil
}

// buildInfo is the usual metric of what runs.
func buildInfo(version string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pgweir_build_info", Help: "Always 1; the labels say which program runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	info.Set(1)
	return info
}

// logDropped is the metric of lines of the log that were lost.
func logDropped(count func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pgweir_log_lines_dropped_total", Help: "Lines of the log that were dropped because nobody read them in time, or they could not be written.",
	}, func() float64 {
		if count == nil {
			return 0
		}
		return float64(count())
	})
}

// giveUp ends what was started.
func (r *Running) giveUp(ctx context.Context) {
	r.watching.stop()
	r.kin.end()
	r.closeHTTP(ctx)
	if r.Proxy != nil {
		r.Proxy.Close()
	}
	r.kin.sockets.CloseRest()
}

// Stop ends the service: it is said that it is not ready; after drain_delay nobody is let in
// any more, and sessions may finish their transactions until ctx ends or shutdown_timeout
// has passed.
func (r *Running) Stop(ctx context.Context) error {
	began := time.Now()
	r.Proxy.Announce()
	if !r.kin.retired() && !r.atOnce {
		systemd.Stopping()
		select {
		case <-time.After(r.Proxy.Config().DrainDelay):
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.Proxy.Config().ShutdownTimeout)
	defer cancel()
	if r.atOnce {
		cancel()
	}
	r.watching.stop()
	r.watching.done.Wait()
	cutOff := r.Proxy.Shutdown(ctx)
	r.log.Info("stopped", zap.String("event", "drained"), zap.Duration("took", time.Since(began)), zap.Int("cut_off", cutOff))
	r.kin.end()
	r.closeHTTP(ctx)
	return nil
}

// closeHTTP ends what is served over HTTP, letting requests under way finish until ctx ends; those who look at
// the status page come again.
func (r *Running) closeHTTP(ctx context.Context) {
	if r.page != nil {
		r.page.Close()
	}
	if r.http != nil {
		r.http.Close(ctx)
	}
}
