package upstream

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Customs are the custom settings servers have taken, which have no rule for
// their values.
type Customs struct {
	names sync.Map // of string
	n     atomic.Int64
}

// maxCustoms bounds the names remembered; others are asked of a server each time.
const maxCustoms = 10000

// Known reports whether name is one of them.
func (cs *Customs) Known(name string) bool {
	_, ok := cs.names.Load(name)
	return ok
}

// Names are all of them, in no order.
func (cs *Customs) Names() []string {
	names := make([]string, 0, cs.n.Load())
	cs.names.Range(func(name, _ any) bool {
		names = append(names, name.(string))
		return true
	})
	return names
}

// Add remembers a name that a server has taken, unless an extension may have rules for it.
func (cs *Customs) Add(name string) {
	prefix, _, custom := strings.Cut(name, ".")
	if !custom || ownedPrefixes[prefix] || cs.n.Load() >= maxCustoms {
		return
	}
	if _, known := cs.names.LoadOrStore(name, struct{}{}); !known {
		cs.n.Add(1)
	}
}

// ownedPrefixes are of settings that an extension may define, and check.
var ownedPrefixes = map[string]bool{
	"plpgsql": true, "plperl": true, "pltcl": true, "plpython": true, "plv8": true, "plrust": true,
	"auto_explain": true, "pg_stat_statements": true, "pg_trgm": true, "pg_prewarm": true, "pgaudit": true,
	"postgres_fdw": true, "sepgsql": true, "pgcrypto": true, "isn": true, "passwordcheck": true,
	"timescaledb": true, "citus": true, "cron": true, "pg_hint_plan": true, "postgis": true, "pglogical": true,
	"hnsw": true, "ivfflat": true, "pg_partman_bgw": true, "anon": true, "age": true, "orafce": true,
	"bdr": true, "repmgr": true, "pg_cron": true, "supautils": true, "credcheck": true, "pgweir": true,
}
