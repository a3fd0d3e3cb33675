package pgtest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// binaries is one installation of PostgreSQL's server programs.
type binaries struct {
	dir   string
	full  string // such as 15.18
	major string // such as 15
}

func (b binaries) path(program string) string { return filepath.Join(b.dir, program) }

// CacheDir is where server binaries of further versions and template data
// directories are kept: $PGWEIR_CACHE, /var/cache/pgweir for root (whose own cache
// directory the servers' user may not enter), or pgweir in the user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv("PGWEIR_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return "/var/cache/pgweir", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache directory: %w; set PGWEIR_CACHE", err)
	}
	return filepath.Join(dir, "pgweir"), nil
}

// Versions lists the supported major versions that can be started here, oldest first.
func Versions(ctx context.Context) []string {
	var majors []string
	for _, dir := range candidates() {
		if b, err := inspect(ctx, dir); err == nil && suitable(b, "") && !slices.Contains(majors, b.major) {
			majors = append(majors, b.major)
		}
	}
	slices.SortFunc(majors, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	return majors
}

// oldest is the oldest major version pgweir supports.
const oldest = 15

// findBinaries returns the first installation of the wanted major version, or the
// first of any supported one.
func findBinaries(ctx context.Context, major string) (binaries, error) {
	if major == "" {
		major = os.Getenv("PGWEIR_PG_VERSION")
	}
	for _, dir := range candidates() {
		if b, err := inspect(ctx, dir); err == nil && suitable(b, major) {
			return b, nil
		}
	}
	if major == "" {
		return binaries{}, fmt.Errorf("no PostgreSQL server programs of version 15 or later found: run \"make deps\", or set PGWEIR_PG_BIN to the directory that holds postgres and initdb")
	}
	return binaries{}, fmt.Errorf("no PostgreSQL %s server programs found: run \"make deps\", or set PGWEIR_PG_BIN to the directory that holds its postgres and initdb", major)
}

func suitable(b binaries, major string) bool {
	if major == "" {
		return number(b.major) >= oldest
	}
	return b.major == major
}

// candidates are the directories that may hold server programs, best first.
func candidates() []string {
	var dirs []string
	if dir := os.Getenv("PGWEIR_PG_BIN"); dir != "" {
		dirs = append(dirs, dir)
	}
	dirs = append(dirs, newestFirst("/usr/lib/postgresql/*/bin")...)
	if p, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	if cache, err := CacheDir(); err == nil {
		dirs = append(dirs, newestFirst(filepath.Join(cache, "postgresql", "*", "bin"))...)
	}
	return dirs
}

// newestFirst sorts the matches of …/VERSION/bin.
func newestFirst(pattern string) []string {
	dirs, _ := filepath.Glob(pattern) // the patterns are well formed
	slices.SortFunc(dirs, func(a, b string) int {
		return cmp.Compare(number(filepath.Base(filepath.Dir(b))), number(filepath.Base(filepath.Dir(a))))
	})
	return dirs
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // what is no number sorts last
	return n
}

// inspect checks that dir holds what a Cluster needs and asks for the version.
func inspect(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	if _, err := os.Stat(b.path("initdb")); err != nil {
		return b, err
	}
	out, err := exec.CommandContext(ctx, b.path("postgres"), "--version").Output()
	if err != nil {
		return b, fmt.Errorf("%s --version: %w", b.path("postgres"), err)
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
	fields := strings.Fields(string(out))
	if len(fields) < 3 {
		return b, fmt.Errorf("%s --version: unexpected answer %q", b.path("postgres"), out)
	}
	b.full = fields[2]
	b.major, _, _ = strings.Cut(b.full, ".")
	return b, nil
}
