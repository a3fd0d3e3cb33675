package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/serve"
)

// program is the path this process was started by, which may hold a newer one meanwhile, or lead to
// it.
var program = func() string {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return os.Args[0]
	}
	return path
}()

// upgradeOnSignal starts a successor at SIGUSR2, until ctx ends.
func upgradeOnSignal(ctx context.Context, running *serve.Running, cfg config.Config, log *zap.Logger) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return
		case <-running.Succeeded():
			<-ctx.Done() // the signal is for the successor
			return
		case <-signals:
		}
		if err := startSuccessor(ctx, running, cfg, log); err != nil {
			log.Error("no successor was started; this process goes on", zap.Error(err))
		}
	}
}

// startSuccessor starts this program again. It takes over by itself.
func startSuccessor(ctx context.Context, running *serve.Running, cfg config.Config, log *zap.Logger) error {
	switch {
	case cfg.Upgrade.Socket == "":
		return errors.New("upgrade.socket is not set, by which it would take over")
	case cfg.ReusePort:
		return errors.New("with reuse_port processes stay beside each other: start one, and end the other")
	case os.Getpid() == 1:
		return errors.New("the end of this process, the first of its container, ends all: replace the container")
	}
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdout, os.Stderr, successorEnvironment(os.Environ())
	if err := cmd.Start(); err != nil {
		return err
	}
	running.Succeeding(cmd.Process.Pid)
	log.Info("started a successor", zap.String("program", program), zap.Int("pid", cmd.Process.Pid))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		log.Error("the successor has ended; it says why above", zap.Error(err))
	case <-running.Succeeded():
	case <-ctx.Done():
	}
	return nil
}

// successorEnvironment is this process's environment without what service managers say to it
// alone.
func successorEnvironment(env []string) (out []string) {
	for _, v := range env {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES":
		default:
			out = append(out, v)
		}
	}
	return out
}
