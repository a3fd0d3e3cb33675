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

// takeProfiles saves a CPU profile of pgweir under each script and mode, with the
// functions that cost most, by themselves and with all they call, as text beside it.
func takeProfiles(ctx context.Context, l *lab, r *report) error {
	if err := os.MkdirAll(profileDir, 0o755); err != nil {
		return err
	}
	for _, s := range l.systems {
		if s.name != pgweir {
			continue
		}
		for _, w := range l.options.matrixOf([]int{l.options.profiled}) {
			if err := l.profile(ctx, s, w); err != nil {
				return err
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
	var text []byte
	for _, order := range []string{"-flat", "-cum"} {
		top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", order, "-nodecount=60", file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("go tool pprof: %w\n%s", err, top)
		}
		text = append(append(text, top...), '\n')
	}
	progress("saved %s", file)
	return os.WriteFile(strings.TrimSuffix(file, ".pprof")+".txt", text, 0o644)
}
