package metrics

import "github.com/prometheus/client_golang/prometheus"

// names are the metrics as Prometheus and docs/metrics.md know them. Labels are values of
// enums, or names from the configuration and those that logged in.
type names struct {
	statements statementNames
	clients    clientNames
	pins       pinNames
	settings   settingNames
	pools      poolNames
	servers    serverNames
}

type (
	statementNames struct {
		statements, retries, delayed, redirected *prometheus.Desc
	}
	clientNames struct {
		clients, states, oldest, expiry, logins, cancels, timeouts, vanished, misspelt, errors, lost *prometheus.Desc
	}
	pinNames struct {
		pins, pinsTotal, oldestPin *prometheus.Desc
	}
	settingNames struct {
		affinity, readBacks, verified, assertionsFailed, tenantLeft, tenantUnset *prometheus.Desc
	}
	poolNames struct {
		pool, poolSize, poolWaiting, poolEvents, poolRefused, poolWait, plans, planBytes, planEntries *prometheus.Desc
	}
	serverNames struct {
		serverUp, serverState, serverMany, timeline, lsn, lag, staleness, load, slots, slotsBound, full, hasPrimary, failovers, discoveries *prometheus.Desc
	}
)

func newNames() names {
	return names{
		statements: newStatementNames(),
		clients:    newClientNames(),
		pins:       newPinNames(),
		settings:   newSettingNames(),
		pools:      newPoolNames(),
		servers:    newServerNames(),
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pgweir_"+name, help, labels, nil)
}

func newStatementNames() statementNames {
	return statementNames{
		statements: desc("statements_total", "Statements run, by the kind of server, why there, and class.", "target", "reason", "class"),
		retries:    desc("retries_total", "Batches sent again before anything reached the client, by reason.", "reason"),
		delayed:    desc("reads_delayed_total", "Reads no replica was fresh enough for at once, by level.", "level"),
		redirected: desc("reads_redirected_total", "Of these, reads that went to the primary.", "level"),
	}
}

func newClientNames() clientNames {
	return clientNames{
		clients:  desc("clients", "Clients connected."),
		states:   desc("client_states", "Sessions by what they are doing: idle, active (a batch is under way), waiting (one has waited for a connection or server for a quarter of a second), idle_in_transaction.", "state"),
		expiry:   desc("certificate_expiry_timestamp_seconds", "When a certificate expires that pgweir shows to clients or servers, by its key of the configuration; as it was last loaded.", "key"),
		oldest:   desc("oldest_transaction_seconds", "Age of the oldest transaction, or of the oldest batch outside one, of the sessions in a state.", "state"),
		logins:   desc("logins_total", "Logins of clients, by outcome.", "outcome"),
		cancels:  desc("cancel_requests_total", "Cancel requests dealt with, by whether they found a statement (met, idle, forwarded to a process or peer that knew it, or unknown: no session has its key).", "outcome"),
		timeouts: desc("timeouts_total", "Sessions ended (client_idle, idle_transaction, transaction) and statements canceled (statement) by a timeout of the configuration, or by PostgreSQL's idle timeouts where pgweir counts them.", "timeout"),
		vanished: desc("clients_vanished_total", "Clients that were gone while they waited for an answer: what ran for them was canceled."),
		misspelt: desc("misspelt_hints_total", "Statements with a comment that looks like a hint of pgweir and is none."),
		errors:   desc("errors_total", "Errors told to clients, by side.", "side"),
		lost:     desc("server_connections_lost_total", "Server connections that ended in the middle of a batch."),
	}
}

func newPinNames() pinNames {
	return pinNames{
		pins:      desc("pinned_sessions", "Sessions tied to a server connection, by reason.", "reason"),
		pinsTotal: desc("pins_total", "Times a session was tied to a server connection, by reason.", "reason"),
		oldestPin: desc("oldest_pin_seconds", "How long the longest has been tied to its server connection, of the sessions tied for a reason.", "reason"),
	}
}

func newSettingNames() settingNames {
	return settingNames{
		affinity:         desc("affinity_total", "Server connections taken by sessions that have settings: whether it carried them already.", "result"),
		verified:         desc("verified_connections_total", "Idle server connections asked what they really carry, by whether that is what was believed (equal, different): different is an alarm.", "result"),
		assertionsFailed: desc("assertions_failed_total", "Server connections closed because what isolation rests on did not hold when they went to another session: an alarm."),
		readBacks:        desc("read_backs_total", "Times a server connection was asked what a statement left behind."),
		tenantLeft:       desc("tenant_left_total", "Times a session gave its server connection back with a tenant setting newly set for the session: the next user of that client connection works for the same tenant."),
		tenantUnset:      desc("tenant_unset_total", "Statements that used relations while no tenant setting had a value, by class.", "class"),
	}
}

func newPoolNames() poolNames {
	return poolNames{
		pool:        desc("pool_connections", "Server connections of a pool, by state.", "server", "database", "user", "state"),
		poolSize:    desc("pool_size", "Connections a pool may have.", "server", "database", "user"),
		poolWaiting: desc("pool_waiting", "Clients waiting for a connection.", "server", "database", "user"),
		poolEvents:  desc("pool_events_total", "What happened to a pool's connections.", "server", "database", "user", "event"),
		poolRefused: desc("pool_refused_total", "Connections closed when they were given back, because they were not at rest: a fault of the proxy.", "server", "database", "user"),
		poolWait:    desc("pool_wait_seconds_total", "Time clients waited for a connection.", "server", "database", "user"),
		plans:       desc("plan_cache_total", "Lookups of statement plans.", "database", "result"),
		planBytes:   desc("plan_cache_bytes", "Memory of the plan cache.", "database"),
		planEntries: desc("plan_cache_entries", "Plans cached.", "database"),
	}
}

func newServerNames() serverNames {
	return serverNames{
		serverUp:    desc("server_up", "1 if the server is used.", "cluster", "server", "role"),
		serverMany:  desc("server_many", "1 if several servers were found to answer at the address.", "cluster", "server"),
		serverState: desc("server_state", "1 for the state the server is in: unknown, serving, slow, down, foreign, fenced, split_brain, diverged, duplicate or leaving.", "cluster", "server", "state"),
		timeline:    desc("server_timeline", "Timeline the server is on.", "cluster", "server"),
		lsn:         desc("server_lsn_bytes", "How far the server's log is inserted (a primary) or replayed (a replica).", "cluster", "server"),
		lag:         desc("replica_lag_bytes", "Bytes of the primary's log that a replica has not replayed.", "cluster", "server"),
		staleness:   desc("replica_staleness_seconds", "How long ago a replica is known to have had all that was committed.", "cluster", "server"),
		load:        desc("server_connections_in_use", "Connections in use on a server.", "cluster", "server"),
		slots:       desc("server_connections", "Connections to a server, the proxy's own included.", "cluster", "server"),
		slotsBound:  desc("server_connections_bound", "Connections there may be to a server: what is configured, or less if it was seen to let in no more; not there without a bound.", "cluster", "server"),
		full:        desc("server_full_total", "Logins that a server refused for want of slots; who waited for them went on waiting.", "cluster", "server"),
		hasPrimary:  desc("cluster_has_primary", "1 if there is a primary.", "cluster"),
		failovers:   desc("failovers_total", "Times another server became the primary.", "cluster"),
		discoveries: desc("discoveries_total", "Times it was found out which servers there are, where they are not listed.", "cluster", "outcome"),
	}
}
