package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

// project is compose.yaml as compose reads it: by its schema, with every reference resolved.
func project(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"compose.yaml"}, cli.WithName("pgweir"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCompose: what compose.yaml has in it fits together.
func TestCompose(t *testing.T) {
	p := project(t)
	if got := p.ServiceNames(); !slices.Equal(got, []string{"grafana", "pgweir", "primary", "prometheus", "replica1", "replica2"}) {
		t.Errorf("services %v", got)
	}
	for name, s := range p.Services {
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Error(err)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to all at %s", name, port.Published)
			}
		}
	}

	var weir struct {
		Listen, HTTP string
		Servers      []string
	}
	read(t, p, "pgweir", &weir)
	for _, server := range weir.Servers {
		if _, err := p.GetService(server); err != nil {
			t.Error(err)
		}
	}
	var scraped struct {
		RuleFiles     []string `json:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string                       `json:"job_name"`
			StaticConfigs []struct{ Targets []string } `json:"static_configs"`
		} `json:"scrape_configs"`
	}
	read(t, p, "prometheus", &scraped)
	_, port, _ := strings.Cut(weir.HTTP, ":")
	if job := scraped.ScrapeConfigs[0]; len(weir.Servers) != 3 || job.JobName != "pgweir" || job.StaticConfigs[0].Targets[0] != "pgweir:"+port {
		t.Errorf("%+v is scraped by %+v", weir, scraped)
	}
	within(t, p, "prometheus", scraped.RuleFiles[0])
	within(t, p, "grafana", *p.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
	var sources struct{ Datasources []struct{ URL string } }
	read(t, p, "grafana-datasource", &sources)
	if sources.Datasources[0].URL != "http://prometheus:9090" {
		t.Errorf("%+v", sources)
	}
	var boards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	read(t, p, "grafana-dashboards", &boards)
	within(t, p, "grafana", boards.Providers[0].Options.Path+"/any.json")
}

// read decodes one of the file's configs.
func read(t *testing.T, p *types.Project, name string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(p.Configs[name].Content), into); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// within asserts that a service sees a file by a directory of this one.
func within(t *testing.T, p *types.Project, service, file string) {
	t.Helper()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range p.Services[service].Volumes {
		if rest, ok := strings.CutPrefix(file, v.Target+"/"); ok && v.Type == types.VolumeTypeBind && filepath.Dir(v.Source) == here && !strings.Contains(rest, "/") {
			return
		}
	}
	t.Errorf("%s has no %s of ours", service, file)
}
