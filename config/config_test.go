package config

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fmt"
	"github.com/google/go-cmp/cmp"
	"syscall"
)

var update = flag.Bool("update", false, "rewrite expected faults and the generated table of docs/configuration.md")

// environment is what the test files may refer to.
func environment(name string) (string, bool) {
	v, ok := map[string]string{
		"PORT": "7000", "DBPORT": "5440", "EMPTY": "", "SECRET": "s3cret", "REPORTING_PASSWORD_BEFORE": "c",
		"PGWEIR_PASSWORD": "a", "REPORTING_PASSWORD": "b",
	}[name]
	return v, ok
}

func parseFile(t *testing.T, path string) (Config, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(path, data, environment)
}

// TestFaults compares what Parse says of each file with the file beside it.
func TestFaults(t *testing.T) {
	files, _ := filepath.Glob("testdata/faults/*.yaml")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := parseFile(t, file)
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("error %v is no Faults", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".want"
			got := faults.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLoadOnly: some keys are read from a file whatever is wrong with others.
func TestLoadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pgweir.yaml")
	for text, want := range map[string]string{
		"http: a:1\nhttp_web_config: web.yml\nwrong: 1\nservice: {password: '${NOT_SET}'}\n": "",
		"":                     "",
		"http: [1]\n":          "line 1: http: want a text",
		"http: a\nhttp: b\n":   "line 2: http: given twice",
		"http\n":               "line 1: want keys and values",
		"http: a\n\tb: c\n":    "not YAML",
		"http: '${NOT_SET}'\n": "NOT_SET is not set",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadOnly(path, "http", "http_web_config")
		switch {
		case want != "":
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: error %v, want %s", text, err, want)
			}
		case err != nil:
			t.Errorf("%q: %v", text, err)
		case text == "" && c.HTTP != Default().HTTP, text != "" && (c.HTTP != "a:1" || c.HTTPWebConfig != filepath.Join(filepath.Dir(path), "web.yml")):
			t.Errorf("%q: %+v", text, c.Web)
		}
	}
}

// TestLoadWithoutSecrets: who logs in nowhere needs no variable and no file of a secret, but those
// of other keys.
func TestLoadWithoutSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pgweir.yaml")
	text := "servers: [a]\nservice: {user: u, password: '${NOT_SET}'}\nusers: {app: {password: {file: none}, old_passwords: ['${NOT_SET_EITHER}']}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadWithoutSecrets(path); err != nil {
		t.Error(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "NOT_SET is not set") || !strings.Contains(err.Error(), "none: no such file") {
		t.Errorf("with secrets: %v", err)
	}
	if err := os.WriteFile(path, []byte(text+"pool: {size: '${SIZE}'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadWithoutSecrets(path); err == nil || !strings.Contains(err.Error(), "pool.size: environment variable SIZE is not set") {
		t.Errorf("a variable of another key: %v", err)
	}
}

func TestSmallestFile(t *testing.T) {
	got, err := parseFile(t, "testdata/good/smallest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Auth.Method = "trust"
	want.Servers = []Server{{Address: "127.0.0.1:5432", Weight: 1}, {Address: "127.0.0.1:5433", Weight: 1}, {Address: "127.0.0.1:5434", Weight: 1}}
	if diff := cmp.Diff(want.Complete(), got); diff != "" {
		t.Error(diff)
	}
	if got.Clusters["default"].TLS.Mode != "prefer" || len(got.Clusters["default"].Servers) != 3 {
		t.Errorf("the short form came to %+v", got.Clusters)
	}
	if w := got.Warnings(); len(w) != 0 {
		t.Errorf("warnings %v", w)
	}
}

func TestServersOnly(t *testing.T) {
	c, err := parseFile(t, "testdata/good/servers_only.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []Server{{Address: "db1:5432", Weight: 1}, {Address: "/run/postgresql:5432", Weight: 3}, {Address: "[::1]:5433", Weight: 1}}
	if diff := cmp.Diff(want, c.Clusters["default"].Servers); diff != "" {
		t.Error(diff)
	}
	if w := c.Warnings(); len(w) != 1 || w[0].Path != "auth" {
		t.Errorf("warnings %v, want one that nobody can log in", w)
	}
}

func TestEnvironment(t *testing.T) {
	c, err := parseFile(t, "testdata/good/environment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cluster := c.Clusters["default"]
	for _, pair := range [][2]string{
		{c.Listen[0], ":7000"},
		{cluster.Servers[0].Address, "db1:5440"},
		{cluster.Servers[1].Address, "db2:5432"},
		{cluster.Service.Password, "s3cret$x$1"},
		{cluster.Service.Database, "postgres"},
		{c.Users["app"].Password, "from a file"},
		{c.Users["${NOT_IN_KEYS}"].Password, "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"},
		{c.Routing.Rules[0].Pattern, "^x$"},
		{c.Auth.Query, DefaultAuthQuery},
	} {
		if pair[0] != pair[1] {
			t.Errorf("got %q, want %q", pair[0], pair[1])
		}
	}
	if c.Pool.Size != 7 {
		t.Errorf("pool.size %d, want the variable's default", c.Pool.Size)
	}
}

func TestClusters(t *testing.T) {
	c, err := parseFile(t, "testdata/good/clusters.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Addresses{"127.0.0.1:6432", "/run/pgweir:6432"}, c.Listen); diff != "" {
		t.Error(diff)
	}
	if c.Routing.PlanCache != 64<<20 || !cmp.Equal(c.Pool, Default().Pool) {
		t.Errorf("plan cache %d, pool %+v", c.Routing.PlanCache, c.Pool)
	}
	if got := c.Clusters["us"]; got.TLS.Mode != "verify-full" || got.Service.Database != "ops" {
		t.Errorf("cluster us is %+v", got)
	}
	if diff := cmp.Diff(c, c.Complete()); diff != "" {
		t.Errorf("completing twice changed it: %s", diff)
	}
}

func TestLoad(t *testing.T) {
	if _, err := Load("testdata/good/smallest.yaml"); err != nil {
		t.Error(err)
	}
	if _, err := Load("testdata/no_such_file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	var faults Faults
	if _, err := Load("testdata/faults/empty.yaml"); !errors.As(err, &faults) {
		t.Errorf("error %v", err)
	}
}

func TestWarnings(t *testing.T) {
	c := Default()
	c.Servers = []Server{{Address: "db1", Weight: 1}}
	c.Listen = Addresses{"0.0.0.0:6432", "[::1]:6432", "/run/x:6432"}
	c.Auth.Method = "trust"
	c = c.Complete()
	got := c.Warnings()
	if len(got) != 2 || got[0].Path != "listen[0]" || got[1].Path != "servers" {
		t.Errorf("warnings %v", got)
	}
	c.Auth = Auth{Method: "password", AllowPlainPassword: true, UserFile: "testdata/faults/users.txt"}
	if err := os.Chmod("testdata/faults/users.txt", 0o644); err != nil {
		t.Fatal(err)
	}
	got = c.Warnings()
	if len(got) != 4 || got[0].Path != "listen[0]" || !strings.Contains(got[1].Text, "line 3 lets nobody in") || !strings.Contains(got[2].Text, "every user") {
		t.Errorf("warnings %v", got)
	}
}

func TestSplitAddress(t *testing.T) {
	for _, tc := range []struct{ in, network, target string }{
		{"db1", "tcp", "db1:5432"},
		{"db1:1", "tcp", "db1:1"},
		{":6432", "tcp", ":6432"},
		{"[::1]", "tcp", "[::1]:5432"},
		{"::1", "tcp", "[::1]:5432"},
		{"[fe80::1%eth0]:7", "tcp", "[fe80::1%eth0]:7"},
		{"/run/pg", "unix", "/run/pg/.s.PGSQL.5432"},
		{"/run/pg/:6000", "unix", "/run/pg/.s.PGSQL.6000"},
	} {
		network, target, err := SplitAddress(tc.in, ServerPort)
		if err != nil || network != tc.network || target != tc.target {
			t.Errorf("%q: %s %s %v, want %s %s", tc.in, network, target, err, tc.network, tc.target)
		}
	}
}

func TestSizesAndDurations(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "17": 17, "64KiB": 64 << 10, "3 MB": 3 << 20, "1GiB": 1 << 30, "5B": 5} {
		if got, ok := parseBytes(text); !ok || got != want {
			t.Errorf("%q is %d %v, want %d", text, got, ok, want)
		}
		if got, ok := parseBytes(formatBytes(want)); !ok || got != want {
			t.Errorf("%d does not survive as %q", want, formatBytes(want))
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1TiB", "9999999999GiB", "1.5MiB"} {
		if got, ok := parseBytes(text); ok {
			t.Errorf("%q is %d", text, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "0", time.Hour: "1h", 90 * time.Minute: "1h30m", time.Minute: "1m", 10 * time.Second: "10s", 61 * time.Second: "1m1s", 100 * time.Millisecond: "100ms"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%d is %q, want %q", d, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.yaml")
	for _, file := range append(files, "../docs/pgweir.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("testdata/good/fuzz.yaml", data, environment)
		var faults Faults
		if err != nil && (!errors.As(err, &faults) || len(faults) == 0) {
			t.Fatalf("%v is no Faults", err)
		}
		if err == nil {
			if diff := cmp.Diff(c, c.Complete()); diff != "" {
				t.Fatalf("not complete: %s", diff)
			}
			c.Warnings()
			c.Resolve("user", "database")
			c.RulesFor("database")
		}
	})
}

// TestLoadAnything: whatever a path leads to, the answer comes soon, and names it.
func TestLoadAnything(t *testing.T) {
	dir := t.TempDir()
	pipe, wide := filepath.Join(dir, "pipe"), filepath.Join(dir, "wide.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var unknown strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&unknown, "key%d: 1\n", i)
	}
	if err := os.WriteFile(wide, []byte(unknown.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir: "is a directory; name the file in it", pipe: "servers: no server", "/dev/zero": "is larger than",
		filepath.Join(dir, "none.yaml"): "no such file", wide: "line 50000: key49999: unknown key",
	} {
		began := time.Now()
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %.200v, want %q", path, err, want)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %v", path, took)
		}
	}
}
