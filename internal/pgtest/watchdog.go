package pgtest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

//go:embed watchdog.sh
var watchdogScript string

// watchdog is the process that ends a cluster when this process is gone. It reads
// from a pipe whose other end only this process holds, so the kernel tells it.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// watchdogs keeps every pipe reachable: the garbage collector closes files nobody
// refers to, and with it would go the servers of a cluster that was not closed.
var watchdogs sync.Map

func startWatchdog(dir string) (*watchdog, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// Its output goes nowhere: a caller that waits for the end of this process's
	// output must not wait for the watchdog too.
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "pgweir-watchdog", dir)
	cmd.Dir = "/"
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	g := &watchdog{cmd: cmd, pipe: w}
	watchdogs.Store(g, nil)
	return g, nil
}

// finish lets the watchdog do its work now and waits for it.
func (g *watchdog) finish() error {
	defer watchdogs.Delete(g)
	if err := g.pipe.Close(); err != nil {
		return err
	}
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}
