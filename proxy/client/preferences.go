package client

import (
	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/preferences"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// preferred are the proxy's settings in force, as they were last read.
type preferred struct {
	preferences.Values
	of    setting.Settings
	under *upstream.Terms

	// covered is an LSN a read asked for, coveredAt as of when a replica has it.
	covered   lsn.LSN
	coveredAt cluster.Moment
}

// preferences reads the proxy's settings in force.
func (c *Client) preferences() *preferred {
	if now, terms := c.state.Proxy.Now(), c.up.Terms(); c.prefer.of != now || c.prefer.under != terms {
		c.prefer.Values, c.prefer.of, c.prefer.under = preferences.Read(now, terms.Route), now, terms
	}
	return &c.prefer
}
