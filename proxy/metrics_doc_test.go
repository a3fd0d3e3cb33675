package proxy_test

import (
	"os"
	"strings"
	"testing"
)

// Every metric a proxy shows is in the documentation, with the same words.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/metrics.md")
	must(t, err)
	s := start(t)
	conn := s.connect(t, "postgres")
	for range 2 {
		if _, err := conn.Exec(bounded(t, patience), "select 1"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "a replica's lag is known", func() bool { return gathered(t, s)["pgweir_replica_lag_bytes"] != "" })
	for name, help := range gathered(t, s) {
		var line string
		for text := range strings.Lines(string(doc)) {
			if strings.HasPrefix(text, "| `"+name+"` |") {
				line = text
			}
		}
		if !strings.Contains(line, "| "+help+" |") {
			t.Errorf("%s, %q, is documented as %q", name, help, line)
		}
	}
}

// gathered are the metrics there are, and what they say of themselves.
func gathered(t *testing.T, s *service) map[string]string {
	t.Helper()
	families, err := s.reg.Gather()
	must(t, err)
	all := map[string]string{}
	for _, f := range families {
		all[f.GetName()] = f.GetHelp()
	}
	return all
}
