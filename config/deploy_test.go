package config

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestKubernetesExample: the configuration within deploy/kubernetes.yaml is valid, and the
// rest of it YAML.
func TestKubernetesExample(t *testing.T) {
	data, err := os.ReadFile("../deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var object struct {
			Kind string
			Data map[string]string
		}
		err := dec.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if object.Kind == "ConfigMap" {
			found = append(found, object.Data["pgweir.yaml"])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d configurations", len(found))
	}
	if _, err := Parse("pgweir.yaml", []byte(found[0]), func(string) (string, bool) { return "x", true }); err != nil {
		t.Errorf("%v", err)
	}
}
