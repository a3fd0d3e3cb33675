package pgbouncer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgweir/pgweir/config"
)

// TestFiles compares what each file comes to with the one beside it, which must be a
// configuration without a fault.
func TestFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/files/*.ini")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	here, err := filepath.Abs("testdata/files")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "more.ini") {
			continue
		}
		f, err := Read(path)
		if err != nil {
			t.Error(err)
			continue
		}
		text, err := Migrate(f, "")
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if _, err := config.Parse("pgweir.yaml", text, nil); err != nil {
			t.Errorf("%s:\n%v\n%s", path, err, text)
		}
		golden := strings.TrimSuffix(path, ".ini") + ".yaml"
		got := strings.ReplaceAll(string(text), here, "/HERE")
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
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// TestFaultyFiles: what PgBouncer would not take either is an error that names the place.
func TestFaultyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pgbouncer.ini")
	const databases = "[databases]\nd = host=a\n"
	for text, want := range map[string]string{
		"[pgbouncer]\nlisten_addr = a\n":                                     "[databases] is empty",
		databases + "[pgbouncer]\nunix_socket_dir =\n":                       "nobody could connect",
		databases + "[pgbouncer]\nmax_client_conn = many\n":                  `[pgbouncer] max_client_conn: "many" is no number`,
		databases + "[pgbouncer]\npool_mode = none\n":                        `[pgbouncer] pool_mode: "none" is no pool mode`,
		databases + "[pgbouncer]\nauth_type = hba\n":                         "hba needs auth_hba_file",
		databases + "[pgbouncer]\nauth_file = none.txt\n":                    "name the user file behind the configuration",
		databases + "[users]\nu = pool_size=x\n[pgbouncer]\n":                `[users] u: pool_size: "x" is no number`,
		"[databases]\nd = host='a\n":                                         "[databases] d: host: a quote is not closed",
		"[databases]\nd = nothing\n":                                         `want key=value, found "nothing"`,
		databases + "[other]\na = b\n":                                       "section [other] is none of PgBouncer's",
		"%include pgbouncer.ini\n":                                           "more than 100 files",
		"%include none.ini\n":                                                "no such file",
		databases + "[pgbouncer]\napplication_name_add_host = perhaps\n":     "neither 0 nor 1",
		databases + "[pgbouncer]\nserver_tls_sslmode = x\nlisten_addr = a\n": "",
		databases + "[pgbouncer]\nclient_tls_sslmode = sometimes\n":          "is no TLS mode",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Read(path)
		if err == nil {
			_, err = Migrate(f, "")
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %s", text, err, want)
		}
	}
}

func FuzzMigrate(f *testing.F) {
	files, _ := filepath.Glob("testdata/files/*.ini")
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "%include") || strings.Contains(text, "auth_file") {
			return
		}
		path := filepath.Join(t.TempDir(), "pgbouncer.ini")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := Read(path)
		if err != nil {
			return
		}
		_, _ = Migrate(file, "")
	})
}
