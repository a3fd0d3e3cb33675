package client

import (
	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/preferences"
)

// preferred are the proxy's settings in force, as they were last read.
type preferred struct {
	preferences.Values
	of setting.Settings

	// covered is an LSN a read asked for, coveredAt as of when a replica has it.
	covered   lsn.LSN
	coveredAt cluster.Moment
}

// preferences reads the proxy's settings in force.
func (c *Client) preferences() *preferred {
	if now := c.state.Proxy.Now(); c.prefer.of != now {
		c.prefer.Values, c.prefer.of = preferences.Read(now, c.up.Route), now
	}
	return &c.prefer
}
