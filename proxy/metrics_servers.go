package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/pool/cluster"
)

// What is told of each server and of the cluster as a whole.
var (
	descServerUp   = desc("server_up", "1 if the server is used.", "cluster", "server", "role")
	descServerIs   = desc("server_state", "1 for the state the server is in: unknown, serving, slow, down, foreign, fenced, split_brain, diverged or duplicate.", "cluster", "server", "state")
	descTimeline   = desc("server_timeline", "Timeline the server is on.", "cluster", "server")
	descServerLSN  = desc("server_lsn_bytes", "How far the server's log is inserted (a primary) or replayed (a replica).", "cluster", "server")
	descLag        = desc("replica_lag_bytes", "Bytes of the primary's log that a replica has not replayed.", "cluster", "server")
	descStale      = desc("replica_staleness_seconds", "How long ago a replica is known to have had all that was committed.", "cluster", "server")
	descServerLoad = desc("server_connections_in_use", "Connections in use on a server.", "cluster", "server")
	descPrimary    = desc("cluster_has_primary", "1 if there is a primary.", "cluster")
	descFailovers  = desc("failovers_total", "Times another server became the primary.", "cluster")
	descHold       = desc("hold_seconds", "Waits of batches for a primary to appear.")
)

// collectServers adds what is known of the servers.
func (s *Server) collectServers(count func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	for name, cl := range s.clusters {
		t := cl.Topology()
		gauge(descPrimary, one(t.Primary != nil), name)
		count(descFailovers, s.servers[name].failovers.Load(), name)
		for _, st := range t.States {
			labels := []string{name, st.Server.Address}
			with := func(last string) []string { return append(labels[:2:2], last) }
			gauge(descServerUp, one(st.Status.Usable()), with(st.Role.String())...)
			for is := range cluster.Statuses {
				gauge(descServerIs, one(st.Status == is), with(is.String())...)
			}
			gauge(descServerLoad, float64(st.Server.Load()), labels...)
			if !st.Up {
				continue
			}
			gauge(descTimeline, float64(st.Timeline), labels...)
			gauge(descServerLSN, float64(st.LSN), labels...)
			if lag, known := t.Lag(st.Server); known {
				gauge(descLag, float64(lag), labels...)
			}
			if st.Role == cluster.RoleReplica {
				gauge(descStale, st.Server.Staleness().Seconds(), labels...)
			}
		}
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
