package serve

import (
	"context"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy"
	"github.com/pgweir/pgweir/proxy/console"
)

// obeyed are the orders of the admin console that are carried out here.
func (r *Running) obeyed(o Options) proxy.Orders {
	return proxy.Orders{
		Version: o.Version, Reload: r.Reload,
		Apply: func(cfg config.Config) error {
			_, err := r.Proxy.Reload(cfg)
			if err == nil && o.Applied != nil {
				o.Applied(cfg)
			}
			return err
		},
		Shutdown: func(how console.Shutdown) {
			select {
			case r.orders <- how:
			default: // one is being obeyed
			}
		},
	}
}

// obey ends the service as an administrator says, up to what Stop does. One who lets clients stay may
// still think better of it.
func (r *Running) obey(ctx context.Context, how console.Shutdown) {
	if how == console.ShutdownWithClients {
		r.log.Info("stopping: no client is let in any more, and those that are there may stay")
		r.Proxy.Announce()
		r.Proxy.Retire()
		ctx, end := context.WithCancel(ctx)
		defer end()
		left := make(chan struct{})
		go func() { r.Proxy.AwaitClients(ctx); close(left) }()
		select {
		case how = <-r.orders:
			end()
			<-left
		case <-left:
			return
		}
	}
	r.atOnce = how == console.ShutdownNow
	r.log.Info("stopping", zap.Bool("at_once", r.atOnce), zap.Duration("shutdown_timeout", r.Proxy.Config().ShutdownTimeout))
}
