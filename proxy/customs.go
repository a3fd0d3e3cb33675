package proxy

import (
	"strings"
	"sync"
	"sync/atomic"
)

// customs are the custom settings servers have taken, which have no rule for
// their values.
type customs struct {
	names sync.Map // of string
	n     atomic.Int64
}

// maxCustoms bounds the names remembered; others are asked of a server each time.
const maxCustoms = 10000

func (cs *customs) known(name string) bool {
	_, ok := cs.names.Load(name)
	return ok
}

func (cs *customs) note(name string) {
	prefix, _, custom := strings.Cut(name, ".")
	if !custom || ownedPrefixes[prefix] || cs.known(name) || cs.n.Load() >= maxCustoms {
		return
	}
	cs.names.Store(name, struct{}{})
	cs.n.Add(1)
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
