package pgbouncer

import "github.com/pgweir/pgweir/config"

// Key is a key of PgBouncer and what it is here.
type Key struct {
	Section, Name string
	// Default is PgBouncer's own where that is another than ours: it is written, too.
	Default string
	// Ours is the key of the same meaning, with * for a name. It is empty where there is none.
	Ours string
	// Why says what is different, or why there is no such key.
	Why string

	carry carrier // nil where there is nothing to write
}

// carrier writes what a value comes to. path is Ours with names in the place of *.
type carrier func(m *migration, path []string, value string) error

// Keys are all keys of PgBouncer's manual, in its order.
func Keys() []Key {
	ours := map[string]bool{}
	for _, k := range config.Keys() {
		ours[k.Path] = true
	}
	keys := append([]Key{}, table...)
	for i, k := range keys {
		if k.Ours != "" && !ours[k.Ours] {
			keys[i].Ours, keys[i].carry = "", nil
			if k.Why == "" {
				keys[i].Why = "there is no such bound"
			}
		}
	}
	return keys
}

const (
	byService  = "the service manager's: pgweir runs in the foreground (deploy/pgweir.service)"
	byJournal  = "the log goes to standard error, from where the service manager takes it"
	byResolver = "the system resolves names, whenever a connection is opened"
	byDriver   = "sessions keep all their settings, whatever these are"
	byGo       = "ciphers and curves are those that Go's library holds for safe"
	byKernel   = "the kernel's defaults fit"
	byState    = "connections are cleaned of what is known to be left, and verified (settings.verify)"
)

var table = []Key{
	{general, "logfile", "", "", byJournal, nil},
	{general, "pidfile", "", "", byService, nil},
	{general, "listen_addr", "", "listen", "with listen_port; without it only the Unix-domain socket is listened on", nil},
	{general, "listen_port", "", "listen", "of every address", nil},
	{general, "unix_socket_dir", "", "listen", "an entry of listen; the abstract namespace (@) is not served", nil},
	{general, "unix_socket_mode", "", "", "everybody may connect to the socket; let the directory's mode say who reaches it", nil},
	{general, "unix_socket_group", "", "", "everybody may connect to the socket; let the directory's group say who reaches it", nil},
	{general, "user", "", "", byService, nil},
	{general, "pool_mode", "session", "pool.mode", "the default here is transaction; for statement use transaction: transactions of several statements are then allowed", poolMode},
	{general, "max_client_conn", "100", "max_clients", "", number},
	{general, "default_pool_size", "", "pool.size", "to one server", number},
	{general, "min_pool_size", "", "pool.min_idle", "", minIdle},
	{general, "reserve_pool_size", "", "", "pool.size is the bound; make it larger by this", nil},
	{general, "reserve_pool_timeout", "", "", "pool.size is the bound", nil},
	{general, "max_db_connections", "", "databases.*.max_server_connections", "written for each database", eachDatabase},
	{general, "max_db_client_connections", "", "databases.*.max_clients", "written for each database", eachDatabase},
	{general, "max_user_connections", "", "users.*.max_server_connections", "written for the users of [users]; it counts by the client's name, over all databases", eachUser},
	{general, "max_user_client_connections", "", "users.*.max_clients", "written for the users of [users]", eachUser},
	{general, "server_round_robin", "", "", "reads are shared by weight among replicas; an address where several servers answer in turn is noticed", nil},
	{general, "track_extra_parameters", "", "", byDriver, nil},
	{general, "ignore_startup_parameters", "", "", "no startup parameter is refused that the server takes", nil},
	{general, "peer_id", "", "", "processes know each other's keys by themselves", nil},
	{general, "disable_pqexec", "", "", "a string of several statements is looked at statement by statement", nil},
	{general, "application_name_add_host", "", "application_name_add_host", "", boolean},
	{general, "conffile", "", "", "--config", nil},
	{general, "service_name", "", "", byService, nil},
	{general, "job_name", "", "", byService, nil},
	{general, "stats_period", "", "", "the console's averages are over a minute", nil},
	{general, "max_prepared_statements", "200", "pool.max_statements", "0 has no meaning here: prepared statements are always followed, and SQL's PREPARE, too", statements},
	{general, "scram_iterations", "", "", "plain secrets are compared with the usual 4096; give SCRAM secrets for others", nil},

	{general, "auth_type", "md5", "auth.method", "plain is password; hba is auth.hba_file; ldap is a line of that file; any and pam are not served", authType},
	{general, "auth_hba_file", "", "auth.hba_file", "host names in the place of addresses are not served", nil},
	{general, "auth_ident_file", "", "auth.ident_file", "", nil},
	{general, "auth_file", "", "auth.user_file", "several lines of a name are several passwords, all of them right", nil},
	{general, "auth_user", "", "service.user", "the password is that of the user file; the account also watches the servers (pgweir setup-sql)", nil},
	{general, "auth_query", "", "auth.query", "it runs in service.database, not in the client's", query},
	{general, "auth_dbname", "", "service.database", "the name on the servers", nil},
	{general, "auth_ldap_options", "", "", "options of a line of auth.hba_file: host all all all ldap OPTIONS", nil},

	{general, "syslog", "", "", byJournal, nil},
	{general, "syslog_ident", "", "", byJournal, nil},
	{general, "syslog_facility", "", "", byJournal, nil},
	{general, "log_connections", "", "log.connections", "one key for both", logConnections},
	{general, "log_disconnections", "", "log.connections", "one key for both", nil},
	{general, "log_pooler_errors", "", "", "refused logins and the proxy's own errors are always logged", nil},
	{general, "log_stats", "", "", "metrics are at http, and SHOW STATS at the console", nil},
	{general, "verbose", "", "log.level", "1 and more are debug", verbose},

	{general, "admin_users", "", "console.admin_users", "", list},
	{general, "stats_users", "", "console.stats_users", "", list},

	{general, "server_reset_query", "", "", byState, nil},
	{general, "server_reset_query_always", "", "", byState, nil},
	{general, "server_check_delay", "", "", byState, nil},
	{general, "server_check_query", "", "", byState, nil},
	{general, "server_fast_close", "", "", "sessions end for a changed file only if their user or database is gone, and once idle", nil},
	{general, "server_lifetime", "", "pool.max_lifetime", "0 is never here, and there one use", lifetime},
	{general, "server_idle_timeout", "", "pool.idle_timeout", "", seconds},
	{general, "server_connect_timeout", "15", "pool.connect_timeout", "", seconds},
	{general, "server_login_retry", "", "", "a server is asked again every routing.monitor_interval; statements wait for a primary for routing.primary_wait", nil},
	{general, "client_login_timeout", "60", "auth.timeout", "", seconds},
	{general, "autodb_idle_timeout", "", "pool.forget_after", "", nil},
	{general, "pool_idle_timeout", "", "pool.forget_after", "", seconds},
	{general, "dns_max_ttl", "", "", byResolver, nil},
	{general, "dns_nxdomain_ttl", "", "", byResolver, nil},
	{general, "dns_zone_check_period", "", "", byResolver, nil},
	{general, "resolv_conf", "", "", byResolver, nil},
	{general, "query_wait_notify", "", "", "nobody is told that he waits; pgweir_wait_seconds counts it", nil},
	{general, "login_notify_message", "", "", "nobody is greeted", nil},

	{general, "client_tls_sslmode", "", "tls.mode", "prefer is allow; verify-ca and verify-full are verify-client", clientTLS},
	{general, "client_tls_key_file", "", "tls.key_file", "", file},
	{general, "client_tls_cert_file", "", "tls.cert_file", "", file},
	{general, "client_tls_ca_file", "", "tls.ca_file", "", file},
	{general, "client_tls_protocols", "", "tls.min_version", "1.2 or 1.3", protocols},
	{general, "client_tls_ciphers", "", "", byGo, nil},
	{general, "client_tls13_ciphers", "", "", byGo, nil},
	{general, "client_tls_ecdhcurve", "", "", byGo, nil},
	{general, "client_tls_dheparams", "", "", byGo, nil},
	{general, "server_tls_sslmode", "", "server_tls.mode", "", serverTLS},
	{general, "server_tls_ca_file", "", "server_tls.ca_file", "", serverTLS},
	{general, "server_tls_key_file", "", "server_tls.key_file", "", serverTLS},
	{general, "server_tls_cert_file", "", "server_tls.cert_file", "", serverTLS},
	{general, "server_tls_protocols", "", "", "1.2 and newer", nil},
	{general, "server_tls_ciphers", "", "", byGo, nil},
	{general, "server_tls13_ciphers", "", "", byGo, nil},

	{general, "query_timeout", "", "timeouts.statement", "", seconds},
	{general, "query_wait_timeout", "120", "pool.acquire_timeout", "the statement fails (53300), the client stays", seconds},
	{general, "cancel_wait_timeout", "", "", "a cancel request is sent at once, over a connection of its own", nil},
	{general, "client_idle_timeout", "", "timeouts.client_idle", "", seconds},
	{general, "idle_transaction_timeout", "", "timeouts.idle_transaction", "", seconds},
	{general, "transaction_timeout", "", "timeouts.transaction", "", seconds},
	{general, "suspend_timeout", "", "", "nothing is suspended; see shutdown_timeout", nil},

	{general, "pkt_buf", "", "", "buffers grow and shrink by themselves", nil},
	{general, "max_packet_size", "", "", "messages of up to 1 GiB pass, as PostgreSQL has it", nil},
	{general, "listen_backlog", "", "", byKernel, nil},
	{general, "sbuf_loopcnt", "", "", "every connection has a goroutine of its own", nil},
	{general, "so_reuseport", "", "reuse_port", "one process uses several processors (GOMAXPROCS)", boolean},
	{general, "tcp_defer_accept", "", "", byKernel, nil},
	{general, "tcp_socket_buffer", "", "", byKernel, nil},
	{general, "tcp_keepalive", "", "", "always on: a dead client or server is found in about two minutes", nil},
	{general, "tcp_keepcnt", "", "", "always on: 4 to clients, 3 to servers", nil},
	{general, "tcp_keepidle", "", "", "always on: 60 s to clients, 30 s to servers", nil},
	{general, "tcp_keepintvl", "", "", "always on: 15 s to clients, 10 s to servers", nil},
	{general, "tcp_user_timeout", "", "tcp_user_timeout", "to clients", milliseconds},

	{databases, "dbname", "", "databases.*.name", "", text},
	{databases, "host", "", "servers", "one cluster for each list of hosts; add the replicas, reads then go there", nil},
	{databases, "port", "", "servers", "of every host", nil},
	{databases, "user", "", "databases.*.server_user", "users.*.server_user is stronger; each user of the database has a pool of its own", text},
	{databases, "password", "", "databases.*.server_password", "", secret},
	{databases, "auth_user", "", "service.user", "of the database's cluster", nil},
	{databases, "auth_query", "", "databases.*.auth_query", "it runs in service.database", query},
	{databases, "auth_dbname", "", "service.database", "of the database's cluster", nil},
	{databases, "pool_size", "", "databases.*.pool_size", "", number},
	{databases, "min_pool_size", "", "databases.*.min_idle", "pool.min_idle is for all", number},
	{databases, "reserve_pool_size", "", "", "pool_size is the bound; make it larger by this", nil},
	{databases, "connect_query", "", "", "use ALTER ROLE … SET or ALTER DATABASE … SET on the servers", nil},
	{databases, "pool_mode", "", "databases.*.pool_mode", "for statement use transaction", poolMode},
	{databases, "query_wait_timeout", "", "databases.*.acquire_timeout", "pool.acquire_timeout is for all", seconds},
	{databases, "load_balance_hosts", "", "", "roles are asked of the servers: writes go to the primary, reads to replicas by weight", nil},
	{databases, "max_db_connections", "", "databases.*.max_server_connections", "to one server", number},
	{databases, "max_db_client_connections", "", "databases.*.max_clients", "", number},
	{databases, "server_lifetime", "", "", "pool.max_lifetime is for all", nil},
	{databases, "client_encoding", "", "", "the client says, or ALTER DATABASE … SET", nil},
	{databases, "datestyle", "", "", "the client says, or ALTER DATABASE … SET", nil},
	{databases, "timezone", "", "", "the client says, or ALTER DATABASE … SET", nil},
	{databases, "reserve_pool", "", "", "pool_size is the bound; make it larger by this", nil},

	{users, "pool_size", "", "users.*.pool_size", "", number},
	{users, "reserve_pool_size", "", "", "pool_size is the bound; make it larger by this", nil},
	{users, "pool_mode", "", "users.*.pool_mode", "for statement use transaction", poolMode},
	{users, "max_user_connections", "", "users.*.max_server_connections", "to one server", number},
	{users, "query_timeout", "", "users.*.timeouts.statement", "", seconds},
	{users, "query_wait_timeout", "", "users.*.acquire_timeout", "pool.acquire_timeout is for all", seconds},
	{users, "idle_transaction_timeout", "", "users.*.timeouts.idle_transaction", "", seconds},
	{users, "transaction_timeout", "", "users.*.timeouts.transaction", "", seconds},
	{users, "client_idle_timeout", "", "users.*.timeouts.client_idle", "", seconds},
	{users, "max_user_client_connections", "", "users.*.max_clients", "", number},

	{peers, "host", "", "peers", "an address, with port", nil},
	{peers, "port", "", "peers", "of the address", nil},
	{peers, "pool_size", "", "", "a cancel request is handed on at once", nil},
}
