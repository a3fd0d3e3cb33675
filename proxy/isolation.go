package proxy

import (
	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/router"
)

// noteIsolation looks whether the session's transactions are SERIALIZABLE unless they
// say otherwise, its settings having changed.
func (c *client) noteIsolation() { c.serial = c.defaultIsolation() == router.Serializable }

// defaultIsolation is what a transaction gets that says nothing of it.
func (c *client) defaultIsolation() router.Isolation {
	value, ok := c.settings.now.Value("default_transaction_isolation")
	if !ok {
		value = c.up.Database.Plans.Snapshot().DefaultIsolation(c.up.Config.ServerUser)
	}
	iso, _ := router.ParseIsolation(value)
	return iso
}

func (c *client) defaultReadOnly() bool {
	value, ok := c.settings.now.Value("default_transaction_read_only")
	if !ok {
		value = c.up.Database.Plans.Snapshot().DefaultReadOnly(c.up.Config.ServerUser)
	}
	on, _ := session.ParseBool(value)
	return on
}
