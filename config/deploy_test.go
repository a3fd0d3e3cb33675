package config

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestManifests: the configurations within what is rendered for Kubernetes are valid, given the files that
// are mounted there.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../deploy/helm/testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	dir := t.TempDir()
	writePair(t, dir, "mounted")
	secrets := regexp.MustCompile(`/etc/pgweir-secrets/[\w-]+/[\w-]+\.(crt|key)`)
	for _, path := range append(files, "../deploy/kubernetes.yaml") {
		found := configMaps(t, path)
		if len(found) != 1 {
			t.Fatalf("%s: %d configurations", path, len(found))
		}
		text := secrets.ReplaceAllStringFunc(found[0], func(file string) string {
			return filepath.Join(dir, "mounted"+strings.Replace(filepath.Ext(file), ".crt", ".pem", 1))
		})
		if _, err := Parse("pgweir.yaml", []byte(text), func(string) (string, bool) { return "x", true }); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// configMaps are the configurations of pgweir in the ConfigMaps of a file.
func configMaps(t *testing.T, path string) (found []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var object struct {
			Kind string
			Data map[string]string
		}
		err := dec.Decode(&object)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if object.Kind == "ConfigMap" {
			found = append(found, object.Data["pgweir.yaml"])
		}
	}
}
