// Package discovery finds out which servers a cluster consists of: from the addresses of
// names, from Patroni, or from Kubernetes. It yields addresses, and hints at most: which
// of them is the primary, and whether it lives, is asked of the servers by package cluster.
//
// What is found replaces what was found before. An answer that fails, or that has no
// servers, replaces nothing: whoever tells of the servers may be away while they are not.
package discovery

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/cluster"
)

// Source tells which servers there are.
type Source interface {
	// List returns all there are now. It must honour ctx.
	List(ctx context.Context) (Found, error)
}

// Found is what a Source tells.
type Found struct {
	Members []cluster.Member
	Primary string // the address of whoever it takes for the primary; empty if it does not say
}

// New makes the Source that a configuration asks for; nil if it lists the servers itself.
func New(c config.Cluster) (Source, error) {
	switch {
	case len(c.DNS) > 0:
		return &dns{c.DNS, net.DefaultResolver.LookupNetIP}, nil
	case len(c.Patroni.URLs) > 0:
		return newPatroni(c.Patroni)
	case len(c.Kubernetes.Services) > 0:
		return newKubernetes(c.Kubernetes)
	}
	return nil, nil
}

// Options are what servers are followed by.
type Options struct {
	Source   Source
	Cluster  *cluster.Cluster
	Interval time.Duration // between questions
	// Told is called with every answer and what is wrong with it, by one goroutine.
	Told func(Found, error)
}

const (
	timeout = 5 * time.Second        // of one question
	fast    = 500 * time.Millisecond // between questions at least, and while there is no primary
)

// Follow has a cluster consist of the servers that a Source tells of, until ctx ends.
func Follow(ctx context.Context, o Options) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		found, err := List(ctx, o.Source)
		if err == nil {
			err = o.Cluster.SetMembers(found.Members)
		}
		if ctx.Err() != nil {
			return
		}
		o.Told(found, err)
		rest(ctx, o, found)
		timer.Reset(0)
	}
}

// rest waits until it is time to ask again: sooner if the primary is missed.
func rest(ctx context.Context, o Options, found Found) {
	if p := o.Cluster.Topology().Primary; p != nil && found.Primary != "" && p.Address != found.Primary {
		o.Cluster.ProbeNow()
	}
	ctx, cancel := context.WithTimeout(ctx, o.Interval)
	defer cancel()
	pause(ctx, fast)
	_ = o.Cluster.Watch(ctx, func(t *cluster.Topology) bool { return t.Primary == nil })
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// List asks a Source once, for a bounded time. Members are in the order of their
// addresses, each once.
func List(ctx context.Context, s Source) (Found, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := s.List(ctx)
	if err != nil {
		return Found{}, err
	}
	slices.SortStableFunc(found.Members, func(a, b cluster.Member) int { return strings.Compare(a.Address, b.Address) })
	found.Members = slices.CompactFunc(found.Members, func(a, b cluster.Member) bool { return a.Address == b.Address })
	return found, nil
}
