package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/logs"
	"github.com/pgweir/pgweir/internal/serve"
	"github.com/pgweir/pgweir/internal/systemd"
	"github.com/pgweir/pgweir/proxy/admin"
)

// flushPatience is how long the end of the process may be put off by who reads its log.
const flushPatience = 2 * time.Second

// serveFunc runs the proxy until ctx ends and then at most cfg.ShutdownTimeout
// longer, or until now ends. It is a variable so that tests can look at what surrounds it.
var serveFunc = runService

// runService starts the service and stops it when ctx ends, at once when now does. It also ends
// once another process has taken over and its clients have left.
func runService(ctx, now context.Context, cfg config.Config, log *zap.Logger, o serve.Options) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	shareProcessors(log)
	running, err := serve.Start(ctx, cfg, log, o)
	if err != nil {
		return err
	}
	systemd.Ready()
	var background sync.WaitGroup
	defer background.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	background.Go(func() { systemd.Watchdog(ctx, running.Proxy.Alive) })
	background.Go(func() { serve.GiveBackMemory(ctx) })
	background.Go(func() { upgradeOnSignal(ctx, running, cfg, log) })
	background.Go(func() { reloadOnSignal(ctx, running, hangups) })
	running.Wait(ctx)
	return running.Stop(now)
}

// reloadOnSignal reads the configuration again at SIGHUP, until ctx ends or another process has taken
// over, whose the signal is then.
func reloadOnSignal(ctx context.Context, running *serve.Running, hangups <-chan os.Signal) {
	for {
		select {
		case <-hangups:
			if running.Retired() {
				return
			}
			systemd.Reloading()
			_ = running.Reload() // it says in the log what is wrong
			systemd.Ready()
		case <-running.Succeeded():
			return
		case <-ctx.Done():
			return
		}
	}
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

SIGHUP has it read its configuration again, as pgweir reload does.

SIGTERM and SIGINT stop it: /readyz says so; after drain_delay no new client is
let in, idle ones are told, and running transactions may end within
shutdown_timeout. A second signal stops it at once.

With upgrade.socket a process started beside another takes over from it once it is
ready: no client notices. SIGUSR2 has this process start its successor, from the
same path and with the same arguments.`,
		Example: `  pgweir serve --config pgweir.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadOpen(path)
			if err != nil {
				return err
			}
			signal.Ignore(syscall.SIGPIPE) // it would end the process once who reads the log is gone
			log := logs.Open(cfg.Log, cmd.ErrOrStderr())
			defer log.Close(flushPatience)
			info, _ := debug.ReadBuildInfo()
			o.Version = buildVersion(info)
			o.File, o.Load = path, func() (config.Config, error) { return loadOpen(path) }
			o.Applied, o.LogDropped = func(cfg config.Config) { log.Follow(cfg.Log) }, log.Dropped
			if err := serveUntilSignal(cmd.Context(), cfg, log.Logger, o); err != nil {
				_, _ = fmt.Fprintf(log, "pgweir: %s\n", err) // behind the log, and as patient
				return errReported
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&o.Profiles, "pprof", false, "serve /debug/pprof/ beside the metrics")
	return cmd
}

// loadOpen is loadConfig of what somebody can log in under, and HTTP be served by.
func loadOpen(path string) (config.Config, error) {
	cfg, err := loadConfig(path)
	if err != nil {
		return cfg, err
	}
	if fault, closed := cfg.Closed(); closed {
		return cfg, fmt.Errorf("%s: %s", path, fault)
	}
	return cfg, admin.CheckWeb(cfg.HTTPWebConfig)
}

// serveUntilSignal runs serveFunc until it returns or a signal stops it.
func serveUntilSignal(parent context.Context, cfg config.Config, log *zap.Logger, o serve.Options) error {
	for _, w := range cfg.Warnings() {
		log.Warn("configuration: " + w.String())
	}
	ctx, stop := context.WithCancel(parent)
	defer stop()
	now, stopNow := context.WithCancel(context.WithoutCancel(parent))
	defer stopNow()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	ended := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		heed(signals, ended, cfg, log, stop, stopNow)
	}()
	defer func() { close(ended); <-done }()
	if err := serveFunc(ctx, now, cfg, log, o); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// heed stops the service at the first signal, at once at the second. A third one does
// what it does to any process.
func heed(signals chan os.Signal, ended <-chan struct{}, cfg config.Config, log *zap.Logger, stop, stopNow func()) {
	defer signal.Stop(signals)
	select {
	case <-signals:
		log.Info("stopping; a second signal stops at once", zap.String("event", "draining"), zap.Duration("shutdown_timeout", cfg.ShutdownTimeout))
		stop()
	case <-ended:
		return
	}
	select {
	case <-signals:
		log.Warn("stopping at once: running statements are canceled")
		stopNow()
	case <-ended:
	}
}
