package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/serve"
)

// direct is the way to the primary without pgweir; the other ways are pool modes.
const direct = "direct"

// runTimeout bounds one run of the suite.
const runTimeout = 20 * time.Minute

// run runs the suite one way, on a new cluster.
func run(ctx context.Context, o options, way string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("not done within %v", runTimeout))
	defer cancel()
	cluster, err := pgtest.Start(ctx, pgtest.Options{Replicas: o.replicas, Version: o.version})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	addr := cluster.Primary.Addr()
	if way != direct {
		running, err := startPgweir(ctx, o, cluster, way)
		if err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = running.Stop(ctx)
		}()
		addr = running.Proxy.Addrs()[0].String()
	}
	began := time.Now()
	if err := pgRegress(ctx, o, way, addr); err != nil {
		return err
	}
	fmt.Printf("%s: %v\n", way, time.Since(began).Round(time.Second))
	return nil
}

// pgRegress runs PostgreSQL's driver of its suite.
func pgRegress(ctx context.Context, o options, way, addr string) error {
	dir := o.output(way)
	results := filepath.Join(dir, "results")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(results, 0o755), os.Chmod(results, 0o777)); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(o.suite, "pg_regress"), "--host="+host, "--port="+port, "--user="+pgtest.Superuser,
		"--bindir="+filepath.Join(o.suite, "bin"), "--dlpath="+filepath.Join(o.suite, "lib"), "--inputdir="+filepath.Join(o.suite, "tests"),
		"--outputdir="+dir, "--max-concurrent-tests=20", "--schedule="+o.schedulePath())
	log, err := os.Create(filepath.Join(dir, "pg_regress.out"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Run()
	// Status 1 is that files differ from what PostgreSQL's authors expect.
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) && failed.ExitCode() == 1 && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return errors.Join(context.Cause(ctx), fmt.Errorf("pg_regress: %w, see %s", err, log.Name()))
	}
	return nil
}

// startPgweir starts pgweir in front of a cluster. The suite's connections come twenty at
// a time; each may be tied to a server connection of its own.
func startPgweir(ctx context.Context, o options, cluster *pgtest.Cluster, mode string) (*serve.Running, error) {
	cfg := config.Default()
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cfg.Listen = config.Addresses{addr}
	cfg.HTTP = ""
	cfg.Auth.Method = "trust"
	cfg.Service.User = pgtest.Superuser
	cfg.Pool.Mode = mode
	cfg.Pool.Size = 60
	for _, s := range cluster.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	level, err := zapcore.ParseLevel(o.log)
	if err != nil {
		return nil, err
	}
	log := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.Lock(os.Stderr), level))
	return serve.Start(ctx, cfg.Complete(), log, serve.Options{})
}

// freeAddress is a loopback address nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), l.Close()
}
