package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// scheduled lists the tests of a schedule in their order.
func scheduled(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if tests, ok := strings.CutPrefix(line, "test:"); ok {
			names = append(names, strings.Fields(tests)...)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no test in %s", path)
	}
	return names, nil
}

// ran divides the tests into those that printed something and those that did not.
func ran(names []string, dir string) (did, didNot []string) {
	for _, name := range names {
		if info, err := os.Stat(result(dir, name)); err == nil && info.Size() > 0 {
			did = append(did, name)
		} else {
			didNot = append(didNot, name)
		}
	}
	return did, didNot
}

func result(dir, name string) string { return filepath.Join(dir, "results", name+".out") }

// show counts the files that are identical and prints how the others differ.
func show(names []string, direct, through string) (identical int) {
	for _, name := range names {
		want, missing := os.ReadFile(result(direct, name))
		got, err := os.ReadFile(result(through, name))
		if missing == nil && err == nil && bytes.Equal(want, got) {
			identical++
			continue
		}
		fmt.Printf("--- %s differs:\n", name)
		diff := exec.Command("diff", "-U3", result(direct, name), result(through, name))
		diff.Stdout, diff.Stderr = os.Stdout, os.Stdout
		_ = diff.Run() // its status says that they differ
	}
	return identical
}
