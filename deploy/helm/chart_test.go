package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// TestRendered: what the tree holds of the chart is what is rendered from it.
func TestRendered(t *testing.T) {
	files, err := rendered(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 4 {
		t.Errorf("%d files", len(files))
	}
	for path, want := range files {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf(`%s is not what the chart says: "make manifests" (%v)`, path, err)
		}
	}
}

// TestLint: helm has nothing against the chart.
func TestLint(t *testing.T) {
	values, err := chartutil.ReadValuesFile("values/cloudnativepg.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range lint.All("pgweir", values, namespace, true).Messages {
		if m.Severity > support.InfoSev {
			t.Errorf("%v", m)
		}
	}
}

// objects are those of a rendering, by kind and name.
type objects map[string]any

// decode decodes a rendering into Kubernetes' own types: a field that they lack, or one that is given
// twice, is an error.
func decode(t *testing.T, text []byte) objects {
	t.Helper()
	out := objects{}
	for doc := range bytes.SplitSeq(text, []byte("---\n")) {
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		var head struct {
			APIVersion string
			Kind       string
			Metadata   struct{ Name, Namespace string }
		}
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		object, ok := map[string]any{
			"apps/v1 Deployment":                       &apps.Deployment{},
			"policy/v1 PodDisruptionBudget":            &policy.PodDisruptionBudget{},
			"rbac.authorization.k8s.io/v1 Role":        &rbac.Role{},
			"rbac.authorization.k8s.io/v1 RoleBinding": &rbac.RoleBinding{},
			"v1 ConfigMap":                             &core.ConfigMap{},
			"v1 Service":                               &core.Service{},
			"v1 ServiceAccount":                        &core.ServiceAccount{},
		}[head.APIVersion+" "+head.Kind]
		if !ok {
			t.Fatalf("an object of the kind %s %s", head.APIVersion, head.Kind)
		}
		if err := yaml.UnmarshalStrict(doc, object); err != nil {
			t.Errorf("%s %s: %v", head.Kind, head.Metadata.Name, err)
		}
		key := head.Kind + " " + head.Metadata.Name
		if head.Kind == "Role" || head.Kind == "RoleBinding" {
			key += " " + head.Metadata.Namespace
		}
		if out[key] != nil {
			t.Errorf("two of %s", key)
		}
		out[key] = object
	}
	return out
}

// of renders the chart with values that are written as YAML.
func of(t *testing.T, text string) objects {
	t.Helper()
	values, err := chartutil.ReadValues([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out, err := render("pgweir", values)
	if err != nil {
		t.Fatalf("%v of\n%s", err, text)
	}
	return decode(t, out)
}

// configuration is what the ConfigMap holds.
func (o objects) configuration(t *testing.T) (c struct {
	Listen, HTTP, Peers, DNS string
	Drain, Shutdown          time.Duration
}) {
	t.Helper()
	var read struct {
		Listen          string `json:"listen"`
		HTTP            string `json:"http"`
		Peers           string `json:"peers"`
		DNS             string `json:"dns"`
		DrainDelay      string `json:"drain_delay"`
		ShutdownTimeout string `json:"shutdown_timeout"`
	}
	if err := yaml.Unmarshal([]byte(o["ConfigMap pgweir"].(*core.ConfigMap).Data["pgweir.yaml"]), &read); err != nil {
		t.Fatal(err)
	}
	c.Listen, c.HTTP, c.Peers, c.DNS = read.Listen, read.HTTP, read.Peers, read.DNS
	c.Drain, _ = time.ParseDuration(read.DrainDelay)
	c.Shutdown, _ = time.ParseDuration(read.ShutdownTimeout)
	return c
}

// TestObjects: the objects of each file of values fit together.
func TestObjects(t *testing.T) {
	values, err := filepath.Glob("values/*.yaml")
	if err != nil || len(values) != 3 {
		t.Fatal(values, err)
	}
	for _, path := range values {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			o := of(t, string(text))
			deployment := o["Deployment pgweir"].(*apps.Deployment)
			pod := deployment.Spec.Template
			checkSelectors(t, o, pod.Labels)
			if got := deployment.Spec.Selector.MatchLabels; !labels.SelectorFromSet(got).Matches(labels.Set(pod.Labels)) {
				t.Errorf("the Deployment selects %v, not %v", got, pod.Labels)
			}
			checkMounts(t, pod.Spec, o.configurationText(), string(text))

			c := o.configuration(t)
			if peers := o["Service pgweir-all"].(*core.Service); c.Peers != "pgweir-all:6432" || peers.Spec.ClusterIP != core.ClusterIPNone || !peers.Spec.PublishNotReadyAddresses {
				t.Errorf("peers %q of %+v", c.Peers, peers.Spec)
			}
			if grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace <= c.Drain+c.Shutdown || c.Shutdown == 0 {
				t.Errorf("a pod may take %v to end, %v and %v are asked for", grace, c.Drain, c.Shutdown)
			}
			probe := pod.Spec.Containers[0].ReadinessProbe
			if fails := time.Duration(probe.PeriodSeconds*probe.FailureThreshold) * time.Second; fails == 0 || c.Drain <= fails {
				t.Errorf("an instance that ends is let go of after %v, and leaves after %v", fails, c.Drain)
			}
			if asks := strings.Contains(o.configurationText(), "kubernetes:"); (o["Role pgweir "+namespace] != nil) != asks || *pod.Spec.AutomountServiceAccountToken != asks {
				t.Errorf("the API server is asked: %v; role %v, token %v", asks, o["Role pgweir "+namespace], *pod.Spec.AutomountServiceAccountToken)
			}
		})
	}
}

func (o objects) configurationText() string {
	return o["ConfigMap pgweir"].(*core.ConfigMap).Data["pgweir.yaml"]
}

// checkSelectors: what selects pods of pgweir's selects these, by ports that they have.
func checkSelectors(t *testing.T, o objects, pod map[string]string) {
	t.Helper()
	ports := map[string]int32{}
	for _, p := range o["Deployment pgweir"].(*apps.Deployment).Spec.Template.Spec.Containers[0].Ports {
		ports[p.Name] = p.ContainerPort
	}
	for _, name := range []string{"pgweir", "pgweir-all"} {
		service := o["Service "+name].(*core.Service)
		if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod)) || len(service.Spec.Selector) == 0 {
			t.Errorf("Service %s selects %v", name, service.Spec.Selector)
		}
		for _, p := range service.Spec.Ports {
			if target := p.TargetPort.String(); ports[target] == 0 && ports[p.Name] != p.Port {
				t.Errorf("Service %s leads to port %s", name, target)
			}
		}
	}
	budget := o["PodDisruptionBudget pgweir"].(*policy.PodDisruptionBudget)
	if !maps.Equal(budget.Spec.Selector.MatchLabels, o["Deployment pgweir"].(*apps.Deployment).Spec.Selector.MatchLabels) || budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("the budget is %+v", budget.Spec)
	}
	terms := o["Deployment pgweir"].(*apps.Deployment).Spec.Template.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	if len(terms) != 1 || !labels.SelectorFromSet(terms[0].PodAffinityTerm.LabelSelector.MatchLabels).Matches(labels.Set(pod)) {
		t.Errorf("pods keep away from %+v", terms)
	}
}

// checkMounts: every volume is mounted, and every file that the configuration names is in one.
func checkMounts(t *testing.T, pod core.PodSpec, configuration, values string) {
	t.Helper()
	files, mounts := map[string]bool{}, map[string]string{}
	for _, m := range pod.Containers[0].VolumeMounts {
		mounts[m.Name] = m.MountPath
	}
	for _, v := range pod.Volumes {
		if mounts[v.Name] == "" {
			t.Errorf("volume %s is mounted nowhere", v.Name)
		}
		if v.Secret != nil {
			for _, item := range v.Secret.Items {
				files[mounts[v.Name]+"/"+item.Path] = true
			}
		}
	}
	for field := range strings.FieldsSeq(configuration) {
		if strings.HasPrefix(field, "/etc/pgweir-secrets/") && !files[field] {
			t.Errorf("%s is named, and not mounted: %v", field, files)
		}
	}
	if named := strings.Contains(values, "secrets:"); named != (len(files) > 0) {
		t.Errorf("mounted: %v", files)
	}
	for _, v := range pod.Containers[0].Env {
		if v.ValueFrom == nil || v.ValueFrom.SecretKeyRef == nil || v.Value != "" {
			t.Errorf("%s is of no Secret", v.Name)
		}
	}
}

// TestValues: values do what values.yaml says of them.
func TestValues(t *testing.T) {
	two := of(t, "config: {clusters: {a: {kubernetes: {services: [a], namespace: here}}, b: {kubernetes: {services: [b], namespace: there}}, c: {kubernetes: {services: [c], namespace: there}}}}")
	for _, ns := range []string{"here", "there"} {
		binding, ok := two["RoleBinding pgweir "+ns].(*rbac.RoleBinding)
		if !ok || two["Role pgweir "+ns] == nil || binding.Subjects[0].Namespace != namespace {
			t.Errorf("rights in %s: %+v", ns, binding)
		}
	}
	if two["Role pgweir "+namespace] != nil {
		t.Error("rights where nobody asks")
	}

	pods := of(t, "headless: {selector: {a: b}, ports: {postgresql: 5433}}\nreplicas: 1\nfullnameOverride: pgweir\nimage: {tag: v9}\nservice: {type: LoadBalancer, port: 6000, annotations: {x: w}}")
	if c := pods.configuration(t); c.DNS != "pgweir-servers:5433" || c.Peers == "" {
		t.Errorf("%+v", c)
	}
	if s := pods["Service pgweir-servers"].(*core.Service); s.Spec.Selector["a"] != "b" || s.Spec.Ports[0].Port != 5433 || s.Spec.ClusterIP != core.ClusterIPNone {
		t.Errorf("%+v", s.Spec)
	}
	if s := pods["Service pgweir"].(*core.Service); s.Spec.Type != core.ServiceTypeLoadBalancer || s.Spec.Ports[0].Port != 6000 || s.Annotations["x"] != "w" {
		t.Errorf("%+v", s)
	}
	if pods["PodDisruptionBudget pgweir"] != nil {
		t.Error("a budget of one instance, which no node could be emptied of")
	}
	if image := pods["Deployment pgweir"].(*apps.Deployment).Spec.Template.Spec.Containers[0].Image; image != "pgweir:v9" {
		t.Errorf("image %s", image)
	}
	whole := of(t, "config: {servers: [a]}\naffinity: {nodeAffinity: {}}\nnodeSelector: {a: b}\ntolerations: [{key: a, operator: Exists}]\npriorityClassName: high\n"+
		"topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]\nimagePullSecrets: [{name: r}]\npodLabels: {l: m}\nmaxUnavailable: 50%")
	spec := whole["Deployment pgweir"].(*apps.Deployment).Spec.Template
	if spec.Spec.Affinity.PodAntiAffinity != nil || spec.Spec.NodeSelector["a"] != "b" || len(spec.Spec.Tolerations) != 1 || spec.Spec.PriorityClassName != "high" ||
		len(spec.Spec.TopologySpreadConstraints) != 1 || spec.Spec.ImagePullSecrets[0].Name != "r" || spec.Labels["l"] != "m" {
		t.Errorf("%+v", spec)
	}
	if b := whole["PodDisruptionBudget pgweir"].(*policy.PodDisruptionBudget); b.Spec.MaxUnavailable.String() != "50%" {
		t.Errorf("%+v", b.Spec)
	}
}

// TestRefused: values that would not do are refused, and it is said why.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"{}": "say where the servers are",
		"config: {servers: [a], listen: 127.0.0.1:1}":    "listen",
		"config: {servers: [a], peers: a:1}":             "peers",
		"config: {servers: [a]}\nreplica: 3":             "replica",
		"config: {servers: [a]}\nreplicas: many":         "replicas",
		"config: {servers: [a]}\nsecrets: [db-ca]":       "secrets",
		"config: {servers: [a]}\nenv: {A: plain}":        "env",
		"config: {servers: [a]}\nservice: {type: Other}": "type",
	} {
		values, err := chartutil.ReadValues([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := render("pgweir", values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
