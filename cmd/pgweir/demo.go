package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/demo"
	"github.com/pgweir/pgweir/internal/logs"
	"github.com/pgweir/pgweir/internal/serve"
)

// startProxy starts the proxy inside this process for the demo.
var startProxy demo.StartFunc = func(ctx context.Context, cfg config.Config) (*demo.Proxy, error) {
	log := logs.Open(cfg.Log, os.Stderr)
	running, err := serve.Start(ctx, cfg, log.Logger, serve.Options{LogDropped: log.Dropped})
	if err != nil {
		log.Close(flushPatience)
		return nil, err
	}
	b := running.Proxy.Baselines
	return &demo.Proxy{
		Stop: func(ctx context.Context) error {
			defer log.Close(flushPatience)
			return running.Stop(ctx)
		},
		Insights: &demo.Insights{Write: running.Proxy.WriteInsights, Take: b.Take, Baseline: b.Write},
	}, nil
}

func demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a primary, two replicas and pgweir, and take a tour",
		Long: `Starts a real primary and two streaming replicas in a scratch directory, loads a
small multi-tenant database, starts pgweir in front of them and runs a tour of
statements, each shown with the server it ran on and the reason. It stays up until
Ctrl-C; then, and also if it is killed, everything it started is gone.

PostgreSQL's server programs must be installed; "make demo" sees to it.`,
		Example: "  pgweir demo\n  pgweir demo --once --listen 127.0.0.1:7432",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, restore := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer restore()
			// A second signal ends the process at once; the watchdog then cleans up.
			defer context.AfterFunc(ctx, restore)()
			o.Out, o.Start = cmd.OutOrStdout(), startProxy
			return demo.Run(ctx, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:6432", "where pgweir listens, `host:port`")
	f.StringVar(&o.HTTP, "http", "127.0.0.1:9930", "where metrics are served, `host:port`; empty turns them off")
	f.IntVar(&o.Rows, "rows", 20000, "`number` of deliveries to make up")
	f.BoolVar(&o.Once, "once", false, "end after the tour")
	return cmd
}
