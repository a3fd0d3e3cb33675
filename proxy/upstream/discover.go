package upstream

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/pool/discovery"
)

// discoverer has a cluster consist of the servers that are found, and says what was found.
type discoverer struct {
	source   discovery.Source
	interval time.Duration
	name     string
	log      *zap.Logger

	found, failed atomic.Uint64

	// What was said last. They belong to the one goroutine that discovers.
	servers, failure string
}

// Discover follows which servers there are until ctx ends; where they are listed there is
// nothing to do.
func (c *Cluster) Discover(ctx context.Context) {
	if d := c.discovery; d != nil {
		discovery.Follow(ctx, discovery.Options{Source: d.source, Cluster: c.Cluster, Interval: d.interval, Told: d.told})
	}
}

// Discoveries returns how often it was found out which servers there are, and how often
// that failed. ok is false where they are listed.
func (c *Cluster) Discoveries() (found, failed uint64, ok bool) {
	if d := c.discovery; d != nil {
		return d.found.Load(), d.failed.Load(), true
	}
	return 0, 0, false
}

// told says what an answer changes.
func (d *discoverer) told(found discovery.Found, err error) {
	name := zap.String("cluster", d.name)
	if err != nil {
		d.failed.Add(1)
		if d.failure != err.Error() {
			d.failure = err.Error()
			d.log.Warn("it cannot be found out which servers there are; those known go on", name, zap.Error(err))
		}
		return
	}
	d.found.Add(1)
	var servers []string
	for _, m := range found.Members {
		servers = append(servers, m.Address)
	}
	if now := strings.Join(servers, ", "); now != d.servers || d.failure != "" {
		d.servers, d.failure = now, ""
		d.log.Info("servers found", name, zap.Strings("servers", servers))
	}
}
