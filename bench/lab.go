package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/internal/pgtest"
)

const (
	role     = "bench"
	database = "bench"
	// maxConnections of each server must hold the direct clients of one load beside
	// the pools of the proxies.
	maxConnections = 400
)

// serverConf is set on all PostgreSQL servers beside pgtest's defaults.
var serverConf = map[string]string{
	"max_connections": strconv.Itoa(maxConnections),
	"shared_buffers":  "256MB",
	"max_wal_size":    "2GB",
	"autovacuum":      "off",
}

// lab is everything a run has started. It belongs to one goroutine.
type lab struct {
	options     options
	cluster     *pgtest.Cluster
	dir         string // working directory of all processes, inside the cluster's
	pgbenchPath string
	versions    []string
	systems     []*system // by options.systems
}

// newLab starts servers and proxies. The caller must close it. Should this process be
// killed the cluster's watchdog ends the proxies too, because they work in its directory.
func newLab(ctx context.Context, o options) (*lab, error) {
	l := &lab{options: o}
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) open(ctx context.Context) (err error) {
	if l.pgbenchPath, err = findPgbench(); err != nil {
		return err
	}
	if l.cluster, err = pgtest.Start(ctx, pgtest.Options{
		Replicas: 2, Dir: memoryDir(), Conf: serverConf, Progress: func(step string) { progress("%s", step) },
	}); err != nil {
		return err
	}
	l.dir = filepath.Join(l.cluster.Dir, "bench")
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		return err
	}
	for _, scripts := range []map[string]string{blockScripts, mixScripts, tenantScripts, insightScripts} {
		for name, text := range scripts {
			if err := os.WriteFile(filepath.Join(l.dir, name+".sql"), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	v, err := l.cluster.Primary.Value(ctx, "postgres", "show server_version")
	if err != nil {
		return err
	}
	l.versions = append(l.versions, "PostgreSQL "+v)
	for _, name := range l.options.systems {
		s, err := l.start(ctx, name)
		if err != nil {
			return err
		}
		l.systems = append(l.systems, s)
		l.versions = append(l.versions, s.version)
	}
	l.versions = slices.DeleteFunc(l.versions, func(v string) bool { return v == "" })
	return nil
}

// close ends all processes and removes all files.
func (l *lab) close() error {
	for _, s := range l.systems {
		s.stop()
	}
	if l.cluster == nil {
		return nil
	}
	return l.cluster.Close()
}

// prepare fills the database.
func (l *lab) prepare(ctx context.Context) error {
	progress("pgbench -i, scale %d", l.options.scale)
	for _, sql := range []string{"create role " + role + " login", "create database " + database + " owner " + role} {
		if err := l.cluster.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	p := l.cluster.Primary
	cmd := exec.CommandContext(ctx, l.pgbenchPath, "-i", "-q", "-s", strconv.Itoa(l.options.scale),
		"-h", p.Host, "-p", strconv.Itoa(p.Port), "-U", role, database)
	cmd.Dir = l.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w\n%s", err, out)
	}
	if err := l.cluster.Exec(ctx, "checkpoint"); err != nil {
		return err
	}
	return l.cluster.WaitReplay(ctx)
}

// findPgbench prefers the program itself to Debian's wrapper, which costs a tenth of a second.
func findPgbench() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if err == nil && len(found) > 0 {
		slices.SortFunc(found, func(a, b string) int { return majorOf(a) - majorOf(b) })
		return found[len(found)-1], nil
	}
	path, err := exec.LookPath("pgbench")
	if err != nil {
		return "", fmt.Errorf("no pgbench found: install the package postgresql or postgresql-contrib")
	}
	return path, nil
}

// majorOf reads 15 from /usr/lib/postgresql/15/bin/pgbench.
func majorOf(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // anything else sorts first
	return n
}

// memoryDir is a directory in memory, so that neither the servers nor pgbench's logs
// wait for a disk; empty where there is none that holds it all.
func memoryDir() string {
	const dir, enough = "/dev/shm", 8 << 30
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < enough {
		return ""
	}
	return dir
}

// freeAddr finds a loopback address nothing listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// buildPgweir builds the tree's pgweir.
func (l *lab) buildPgweir(ctx context.Context) (string, error) {
	path := filepath.Join(l.dir, "pgweir")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	progress("building pgweir")
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/pgweir/pgweir/cmd/pgweir")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pgweir: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return path, nil
}
