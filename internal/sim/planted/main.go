// Command planted plants known faults into the proxy, one at a time, and says how long the
// simulation takes to find each. A fault is a patch in internal/sim/testdata/planted. The
// work tree is not touched: the patched files are laid over it (go build -overlay).
//
//	go run ./internal/sim/planted [-time 60s] [name …]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	limit := flag.Duration("time", time.Minute, "how long each fault is looked for")
	dir := flag.String("patches", "internal/sim/testdata/planted", "where the patches are")
	flag.Parse()
	if err := run(*dir, *limit, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(1)
	}
}

func run(dir string, limit time.Duration, only []string) error {
	patches, err := fs.Glob(os.DirFS(dir), "*.patch")
	if err != nil {
		return err
	}
	found, all := 0, 0
	for _, p := range patches {
		name := strings.TrimSuffix(p, ".patch")
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		all++
		fmt.Printf("%-44s ", name)
		came, err := look(filepath.Join(dir, p), limit)
		if err != nil {
			fmt.Println("cannot be planted:", err)
			continue
		}
		if came.found {
			found++
		}
		fmt.Println(came)
	}
	fmt.Printf("%d of %d found\n", found, all)
	return nil
}

// outcome is what came of looking for one fault.
type outcome struct {
	found     bool
	histories string
	took      time.Duration
	how       string
}

func (o outcome) String() string {
	if !o.found {
		return fmt.Sprintf("not found in %s histories, %v", o.histories, o.took.Round(time.Second))
	}
	return fmt.Sprintf("%6s histories %6.1fs  %s", o.histories, o.took.Seconds(), o.how)
}

var (
	counted = regexp.MustCompile(`(\d+) histories of`)
	touched = regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)`)
	first   = regexp.MustCompile(`seed \d+: ([^\n]*)`)
)

// look builds the simulation with a patch and plays it until it fails or the time is up.
func look(patch string, limit time.Duration) (o outcome, err error) {
	tmp, err := os.MkdirTemp("", "planted")
	if err != nil {
		return o, err
	}
	defer os.RemoveAll(tmp)
	overlay, err := lay(patch, tmp)
	if err != nil {
		return o, err
	}
	binary := filepath.Join(tmp, "sim.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, "./internal/sim").CombinedOutput(); err != nil {
		return o, fmt.Errorf("build: %w\n%s", err, out)
	}
	began := time.Now()
	cmd := exec.Command(binary, "-test.v", "-test.run", "^TestSimulation$", "-sim.seed", "1", "-sim.time", limit.String(), "-sim.whole")
	cmd.Dir = "internal/sim"
	out, failed := cmd.CombinedOutput()
	o.found, o.took, o.histories = failed != nil, time.Since(began), "?"
	if m := counted.FindSubmatch(out); m != nil {
		o.histories = string(m[1])
	}
	if m := first.FindSubmatch(out); m != nil {
		o.how = string(m[1])
	} else if at := strings.Index(string(out), "panic:"); at >= 0 {
		o.how, _, _ = strings.Cut(string(out[at:]), "\n")
	}
	return o, nil
}

// lay patches copies of the files a patch names, and returns the file that lays them over
// the tree.
func lay(patch, tmp string) (overlay string, err error) {
	text, err := os.ReadFile(patch)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, m := range touched.FindAllSubmatch(text, -1) {
		path := string(m[1])
		source, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		replace[path] = filepath.Join(tmp, path)
		if err := os.MkdirAll(filepath.Dir(replace[path]), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(replace[path], source, 0o600); err != nil {
			return "", err
		}
	}
	cmd := exec.Command("git", "apply", "-")
	cmd.Dir = tmp
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("git apply: %w\n%s", err, out)
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(tmp, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}
