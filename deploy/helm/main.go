// Command helm renders the chart beside it into what the repository holds of it, so that nothing is
// written twice: go run ./helm, in the directory above.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
)

// namespace is the one of what is rendered for people without helm.
const namespace = "default"

const header = `# Rendered from deploy/helm/pgweir with deploy/helm/values/cloudnativepg.yaml by "make manifests": change
# those. It is pgweir before a cluster of CloudNativePG named "db" in the namespace "default".
#
#   kubectl create secret generic pgweir --from-literal=password=…
#   kubectl apply -f deploy/kubernetes.yaml
#
# Clients connect to pgweir:5432. docs/kubernetes.md says what has to be there before.
`

func main() {
	if err := write("helm"); err != nil {
		fmt.Fprintln(os.Stderr, "helm:", err)
		os.Exit(1)
	}
}

// write renders everything into the tree that dir, the directory of this file, is in.
func write(dir string) error {
	files, err := rendered(dir)
	if err != nil {
		return err
	}
	for path, text := range files {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// rendered are the files that are made of the chart, by their paths: testdata has one for each file
// of values, and deploy/kubernetes.yaml is the first of them with a header.
func rendered(dir string) (map[string][]byte, error) {
	values, err := filepath.Glob(filepath.Join(dir, "values", "*.yaml"))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, path := range values {
		given, err := chartutil.ReadValuesFile(path)
		if err != nil {
			return nil, err
		}
		text, err := render(filepath.Join(dir, "pgweir"), given)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		files[filepath.Join(dir, "testdata", filepath.Base(path))] = text
		if filepath.Base(path) == "cloudnativepg.yaml" {
			files[filepath.Join(dir, "..", "kubernetes.yaml")] = append([]byte(header), text...)
		}
	}
	return files, nil
}

// render is what "helm template pgweir" prints for these values: the objects in the order in which
// they are to be made.
func render(path string, given chartutil.Values) ([]byte, error) {
	chart, err := loader.Load(path)
	if err != nil {
		return nil, err
	}
	values, err := chartutil.ToRenderValues(chart, given, chartutil.ReleaseOptions{Name: "pgweir", Namespace: namespace, Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	templates, err := engine.Render(chart, values)
	if err != nil {
		return nil, err
	}
	for name := range templates {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(templates, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(templates, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, m := range manifests {
		fmt.Fprintf(&out, "---\n%s\n", strings.TrimSpace(m.Content))
	}
	return out.Bytes(), nil
}
