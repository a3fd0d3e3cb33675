package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/cluster"
)

// patroni finds the members of a Patroni cluster. It asks one member after the other, those
// that it found before first: the members a configuration names may all have gone.
type patroni struct {
	urls   []string
	client *http.Client

	mu   sync.Mutex // protects last
	last []string   // REST APIs of the members found last
}

func newPatroni(c config.Patroni) (*patroni, error) {
	hc, err := client(c.CAFile, c.CertFile, c.KeyFile)
	return &patroni{urls: c.URLs, client: hc}, err
}

// member is one of the answer's members. What Patroni says of their state is left aside: a
// server that does not run is found to be down.
// https://patroni.readthedocs.io/en/latest/rest_api.html#cluster-status-endpoints
type member struct {
	Role string
	Host string
	Port json.Number
	API  string `json:"api_url"`
	Tags struct {
		NoLoadBalance bool `json:"noloadbalance"`
	}
}

// List implements Source.
func (p *patroni) List(ctx context.Context) (Found, error) {
	p.mu.Lock()
	urls := append(p.last[:len(p.last):len(p.last)], p.urls...)
	p.mu.Unlock()
	var errs []error
	asked := map[string]bool{}
	for _, u := range urls {
		u = strings.TrimRight(u, "/")
		if asked[u] {
			continue
		}
		asked[u] = true
		var answer struct{ Members []member }
		each, cancel := context.WithTimeout(ctx, timeout/3)
		err := get(each, p.client, u+"/cluster", nil, &answer)
		cancel()
		if err == nil {
			return p.take(answer.Members), nil
		}
		errs = append(errs, err)
	}
	return Found{}, errors.Join(errs...)
}

// take makes of the answer what is told, and keeps whom to ask the next time.
func (p *patroni) take(members []member) (found Found) {
	var apis []string
	for _, m := range members {
		if port, err := strconv.ParseUint(m.Port.String(), 10, 16); m.Host == "" || err != nil || port == 0 {
			continue // it has not begun to be one
		}
		address := net.JoinHostPort(m.Host, m.Port.String())
		weight := 1
		if m.Tags.NoLoadBalance {
			weight = 0
		}
		found.Members = append(found.Members, cluster.Member{Address: address, Weight: weight})
		if m.Role == "leader" || m.Role == "primary" || m.Role == "master" {
			found.Primary = address
		}
		// Its path is that of the one thing asked of it as a member.
		if api, ok := strings.CutSuffix(m.API, "/patroni"); ok {
			apis = append(apis, api)
		}
	}
	p.mu.Lock()
	p.last = apis
	p.mu.Unlock()
	return found
}
