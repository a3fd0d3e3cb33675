package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/serve"
)

// serveFunc runs the proxy until ctx ends and then at most cfg.ShutdownTimeout
// longer. It is a variable so that tests can look at what surrounds it.
var serveFunc = runService

// runService starts the service and stops it when ctx ends.
func runService(ctx context.Context, cfg config.Config, log *zap.Logger, o serve.Options) error {
	shareProcessors(log)
	running, err := serve.Start(ctx, cfg, log, o)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return running.Stop(context.WithoutCancel(ctx))
}

// shareProcessors leaves half of the processors to others, unless GOMAXPROCS says
// how many to use: a relay waits for the kernel most of its time, and waking a
// second thread costs more than it brings as long as the first is not busy.
func shareProcessors(log *zap.Logger) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0)/2, 1))
	}
	log.Info("processors", zap.Int("used", runtime.GOMAXPROCS(0)), zap.Int("present", runtime.NumCPU()))
}

func serveCommand() *cobra.Command {
	var path string
	var o serve.Options
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy in the foreground and log to standard error.

It uses half of the processors; set GOMAXPROCS to use another number.

SIGTERM and SIGINT stop it: no new client is let in, running transactions may
end within shutdown_timeout. A second signal stops it at once.`,
		Example: `  pgweir serve --config pgweir.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			log := newLogger(cfg.Log, zapcore.AddSync(cmd.ErrOrStderr()))
			return serveUntilSignal(cmd.Context(), cfg, log, o)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&o.Profiles, "pprof", false, "serve /debug/pprof/ beside the metrics")
	return cmd
}

// serveUntilSignal runs serveFunc until it returns or a signal stops it.
func serveUntilSignal(parent context.Context, cfg config.Config, log *zap.Logger, o serve.Options) error {
	for _, w := range cfg.Warnings() {
		log.Warn("configuration: " + w.String())
	}
	ctx, restore := signal.NotifyContext(parent, syscall.SIGTERM, syscall.SIGINT)
	defer restore()
	// From the first signal on a second one does what it does to any process.
	unhook := context.AfterFunc(ctx, func() {
		restore()
		log.Info("stopping; a second signal stops at once", zap.Duration("shutdown_timeout", cfg.ShutdownTimeout))
	})
	defer unhook()
	if err := serveFunc(ctx, cfg, log, o); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
