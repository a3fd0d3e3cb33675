package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	profileDir     = "bench/profiles"
	profileSeconds = 8
)

// takeProfiles saves a CPU profile of pgweir under each script and mode, with its
// top as text beside it.
func takeProfiles(ctx context.Context, l *lab, r *report) error {
	if err := os.MkdirAll(profileDir, 0o755); err != nil {
		return err
	}
	for _, s := range l.systems {
		if s.name != pgweir {
			continue
		}
		for _, script := range l.options.loads {
			for _, mode := range l.options.modes {
				if err := l.profile(ctx, s, load{script, mode, l.options.profiled}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (l *lab) profile(ctx context.Context, s *system, w load) error {
	loaded := make(chan error, 1)
	go func() {
		_, err := l.pgbenchLog(ctx, s.addr, w, profileSeconds+2)
		loaded <- err
	}()
	path := fmt.Sprintf("/debug/pprof/profile?seconds=%d", profileSeconds)
	data, err := s.fetch(ctx, path, 2*profileSeconds*time.Second)
	if err = errors.Join(err, <-loaded); err != nil {
		return fmt.Errorf("%v: %w", w, err)
	}
	file := filepath.Join(profileDir, fmt.Sprintf("%s-%s-%d.pprof", w.script, w.mode, w.clients))
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=60", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go tool pprof: %w\n%s", err, top)
	}
	progress("saved %s", file)
	return os.WriteFile(strings.TrimSuffix(file, ".pprof")+".txt", top, 0o644)
}
