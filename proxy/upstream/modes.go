package upstream

import (
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/router"
)

// Isolation is the level of transactions that do not say any, under the settings of a session
// or a connection.
func (p *Pools) Isolation(under setting.Settings) router.Isolation {
	value, ok := under.Value("default_transaction_isolation")
	if !ok {
		value = p.Database.Plans.Snapshot().DefaultIsolation(p.Config.ServerUser)
	}
	level, _ := router.ParseIsolation(value)
	return level
}

// ReadOnly reports whether transactions that do not say so are read only.
func (p *Pools) ReadOnly(under setting.Settings) bool {
	value, ok := under.Value("default_transaction_read_only")
	if !ok {
		value = p.Database.Plans.Snapshot().DefaultReadOnly(p.Config.ServerUser)
	}
	on, _ := setting.ParseBool(value)
	return on
}
