package main

import (
	"context"
	"fmt"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/discovery"
)

// located is a cluster with the servers it has now, where they are not listed.
func located(ctx context.Context, cl config.Cluster) (config.Cluster, error) {
	source, err := discovery.New(cl)
	if source == nil || err != nil {
		return cl, err
	}
	found, err := discovery.List(ctx, source)
	if err != nil {
		return cl, fmt.Errorf("find out which servers there are: %w", err)
	}
	for _, m := range found.Members {
		cl.Servers = append(cl.Servers, config.Server{Address: m.Address, Weight: m.Weight, TLSName: m.TLSName})
	}
	if len(cl.Servers) == 0 {
		return cl, fmt.Errorf("find out which servers there are: there are none")
	}
	return cl, nil
}
