package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/cluster"
)

// accountDir is where a pod finds its service account.
// https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#without-using-a-proxy
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// kubernetes finds the ready endpoints of Services. It asks the API server for nothing but
// a list of their EndpointSlices.
type kubernetes struct {
	api, namespace string
	services       []string
	port           string // name or number; empty is the only one
	tokenFile      string // read for every question: it is renewed every hour
	client         *http.Client
}

func newKubernetes(c config.Kubernetes) (*kubernetes, error) {
	k := &kubernetes{
		api: strings.TrimRight(c.API, "/"), namespace: c.Namespace, services: c.Services, port: c.Port, tokenFile: c.TokenFile,
	}
	caFile := c.CAFile
	if k.api == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return nil, errors.New("kubernetes.api is not given, and this is no pod: KUBERNETES_SERVICE_HOST is not set")
		}
		k.api = "https://" + net.JoinHostPort(host, port)
		if caFile == "" {
			caFile = filepath.Join(accountDir, "ca.crt")
		}
		if k.tokenFile == "" {
			k.tokenFile = filepath.Join(accountDir, "token")
		}
	}
	if k.namespace == "" {
		own, err := os.ReadFile(filepath.Join(accountDir, "namespace"))
		if err != nil {
			return nil, fmt.Errorf("kubernetes.namespace is not given, nor known: %w", err)
		}
		k.namespace = strings.TrimSpace(string(own))
	}
	var err error
	k.client, err = client(caFile, "", "")
	return k, err
}

// slice is an EndpointSlice: the endpoints of one kind that have the same ports.
// https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
type slice struct {
	AddressType string
	Endpoints   []struct {
		Addresses  []string // of which one is to be used
		Conditions struct{ Ready, Terminating *bool }
	}
	Ports []struct {
		Name string
		Port int
	}
}

// List implements Source.
func (k *kubernetes) List(ctx context.Context) (found Found, err error) {
	header := http.Header{"Accept": {"application/json"}}
	if k.tokenFile != "" {
		token, err := os.ReadFile(k.tokenFile)
		if err != nil {
			return Found{}, err
		}
		header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	for _, service := range k.services {
		var list struct{ Items []slice }
		err := get(ctx, k.client, k.url(service), header, &list)
		var refused *statusError
		if errors.As(err, &refused) && (refused.status == http.StatusForbidden || refused.status == http.StatusUnauthorized) {
			return Found{}, fmt.Errorf("the service account may not list endpointslices (apiGroup discovery.k8s.io) of namespace %s: %w", k.namespace, err)
		}
		if err != nil {
			return Found{}, err
		}
		members, err := k.members(service, list.Items)
		if err != nil {
			return Found{}, err
		}
		found.Members = append(found.Members, members...)
	}
	return found, nil
}

func (k *kubernetes) url(service string) string {
	return fmt.Sprintf("%s/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices?labelSelector=%s",
		k.api, url.PathEscape(k.namespace), url.QueryEscape("kubernetes.io/service-name="+service))
}

// members are the endpoints that are ready and not about to end. Those of IPv6 count only
// where there are no others: every pod has one of each.
func (k *kubernetes) members(service string, all []slice) (members []cluster.Member, err error) {
	v4 := slices.ContainsFunc(all, func(s slice) bool { return s.AddressType == "IPv4" })
	host := service + "." + k.namespace + ".svc"
	for _, s := range all {
		if v4 && s.AddressType != "IPv4" {
			continue
		}
		for _, e := range s.Endpoints {
			if len(e.Addresses) == 0 || e.Conditions.Ready != nil && !*e.Conditions.Ready || e.Conditions.Terminating != nil && *e.Conditions.Terminating {
				continue
			}
			port, err := k.portOf(service, &s)
			if err != nil {
				return nil, err
			}
			members = append(members, cluster.Member{Address: net.JoinHostPort(e.Addresses[0], strconv.Itoa(port)), TLSName: host, Weight: 1})
		}
	}
	return members, nil
}

// portOf is the port that servers listen on.
func (k *kubernetes) portOf(service string, s *slice) (int, error) {
	if n, err := strconv.Atoi(k.port); err == nil {
		return n, nil
	}
	var names []string
	for _, p := range s.Ports {
		if p.Name == k.port || k.port == "" && len(s.Ports) == 1 {
			return p.Port, nil
		}
		names = append(names, strconv.Quote(p.Name))
	}
	return 0, fmt.Errorf("service %s has the ports %s: say which in kubernetes.port, by name or number", service, strings.Join(names, ", "))
}
