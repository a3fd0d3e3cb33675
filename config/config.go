// Package config is what an operator may declare: plain structs, one for each
// consumer, read from one strict YAML file. The package knows no sockets and
// no SQL; it turns text into values or into a list of faults.
//
// A Config returned by Load or Parse is complete: defaults are filled in,
// references to the environment are resolved, short forms are written out (see
// Complete), and it is never changed afterwards. One made in code becomes
// complete by Complete. Values may be read by any number of goroutines.
//
// The structs' tags steer the decoder: "enum" lists the words allowed, "unit"
// bytes takes "32MiB", "secret" also takes {file: path}, "file" is a path
// relative to the configuration file's directory, "reload" restart is of keys that a
// process keeps for as long as it runs, "reload" names of maps whose names it keeps; all
// others follow the file when it is read again.
package config

import "time"

// Web is what is served over HTTP: metrics, health, and the status page.
type Web struct {
	// HTTP is its address; empty turns it off.
	HTTP string `yaml:"http" reload:"restart"`
	// HTTPWebConfig is a file with TLS and users, in the format of Prometheus's exporter-toolkit, which is read
	// anew for every request; empty is plain HTTP for everybody.
	HTTPWebConfig string `yaml:"http_web_config" reload:"restart" file:"true"`
}

// Config is one whole configuration file.
type Config struct {
	// Listen are the addresses clients connect to: host:port, or the absolute
	// path of a directory in which a Unix-domain socket is made, with the port in
	// the socket's name behind a colon. Without a port it is 6432.
	Listen Addresses `yaml:"listen" reload:"restart"`
	Web
	// MaxClients bounds the clients of the whole process; 0 is no bound.
	MaxClients int `yaml:"max_clients"`
	// ApplicationNameAddHost has the client's address added to the application_name that a
	// session begins with, for those who look at pg_stat_activity. Rules see the name without.
	ApplicationNameAddHost bool `yaml:"application_name_add_host"`
	// TCPUserTimeout is how long what was sent to a client may go unacknowledged, or wait for
	// it to read on, before its connection is given up; 0 is the system's own, which is about
	// 15 minutes, and for ever for a client that is there. https://www.man7.org/linux/man-pages/man7/tcp.7.html
	TCPUserTimeout time.Duration `yaml:"tcp_user_timeout"`
	Succession

	// Sources, ServerTLS and Service are short for a single cluster named
	// "default"; Complete moves them to Clusters and leaves them empty.
	Sources
	ServerTLS ServerTLS `yaml:"server_tls"`
	Service   Service   `yaml:"service"`

	// Clusters are the replication clusters by name.
	Clusters map[string]Cluster `yaml:"clusters" reload:"names"`
	// Databases maps the name a client asks for to a cluster; "*" stands for
	// every other name. Without an entry a name means itself on the only cluster.
	Databases map[string]Database `yaml:"databases"`
	// Users are per-user limits and secrets, by name.
	Users map[string]User `yaml:"users"`

	Auth     Auth      `yaml:"auth"`
	TLS      ClientTLS `yaml:"tls"`
	Pool     Pool      `yaml:"pool"`
	Timeouts Timeouts  `yaml:"timeouts"`
	Routing  Routing   `yaml:"routing"`
	// Settings and Tenant are about what sessions set, above all the settings
	// row-level security relies on.
	Settings Settings `yaml:"settings"`
	Tenant   Tenant   `yaml:"tenant"`
	Operators
}

// Addresses accepts one address or a list of them.
type Addresses []string

// Cluster is one primary and its replicas. Which is which is asked of the servers.
type Cluster struct {
	Sources
	TLS     ServerTLS `yaml:"tls"`
	Service Service   `yaml:"service"`
}

// Server is one PostgreSQL server. It may be written as its address alone.
type Server struct {
	// Address is host:port, or the absolute path of a socket directory with
	// the port behind a colon ("/run/postgresql:5432"). Without a port it is 5432.
	Address string `yaml:"address"`
	// Weight is the share of reads a replica gets among its peers, 1 by default.
	// 0 keeps reads away as long as another replica can serve them.
	Weight int `yaml:"weight"`
	// MaxServerConnections overrides pool.max_server_connections; 0 inherits.
	MaxServerConnections int `yaml:"max_server_connections"`
	// TLSName is the name that its certificate must bear, if that is not its address's.
	TLSName string `yaml:"tls_name"`
}

// Service is the account the proxy itself uses: to learn roles, to read the
// catalog, and for auth_query. Without one the proxy borrows the login of the
// latest client of the database.
type Service struct {
	// User is empty when there is no such account.
	User     string `yaml:"user"`
	Password string `yaml:"password" secret:"true"`
	Database string `yaml:"database"`
}

// Database says where a database lives and overrides defaults for it.
type Database struct {
	Cluster string `yaml:"cluster"`
	// Name is the database's name on the servers; empty means as the client says.
	Name string `yaml:"name"`
	// ServerUser and ServerPassword log in to the servers for everybody in this database
	// but users with a ServerUser or ServerPassword of their own.
	ServerUser     string `yaml:"server_user"`
	ServerPassword string `yaml:"server_password" secret:"true"`
	// AuthQuery overrides auth.query for this database; empty inherits.
	AuthQuery string `yaml:"auth_query"`
	// PoolMode is "transaction" or "session"; empty inherits.
	PoolMode string `yaml:"pool_mode" enum:"transaction,session"`
	// PoolSize, MinIdle and AcquireTimeout override pool.size, pool.min_idle and
	// pool.acquire_timeout; 0 inherits.
	PoolSize       int           `yaml:"pool_size"`
	MinIdle        int           `yaml:"min_idle"`
	AcquireTimeout time.Duration `yaml:"acquire_timeout" off:"true"`
	// Warm are users whose MinIdle connections are opened before their first client comes.
	Warm     []string `yaml:"warm"`
	Timeouts Timeouts `yaml:"timeouts"`
	// MaxClients and MaxServerConnections bound this database; 0 is no bound.
	// The latter counts connections to one server, over all users.
	MaxClients           int `yaml:"max_clients"`
	MaxServerConnections int `yaml:"max_server_connections"`
	// Route is "auto", "primary" or "replica"; empty inherits.
	Route string `yaml:"route" enum:"auto,primary,replica"`
	// Consistency overrides routing.consistency; empty inherits.
	Consistency string `yaml:"consistency" enum:"eventual,session,tenant,database,strong"`
}

// User is one client user.
type User struct {
	// Password is plain, "md5…" or "SCRAM-SHA-256$…".
	Password string `yaml:"password" secret:"true"`
	// OldPasswords let the user in too, while its clients change over to Password. What logs
	// in to the servers is Password.
	OldPasswords []string `yaml:"old_passwords" secret:"true"`
	// ServerUser and ServerPassword log in to the servers in place of the
	// client's own name and secret.
	ServerUser     string `yaml:"server_user"`
	ServerPassword string `yaml:"server_password" secret:"true"`

	PoolMode             string        `yaml:"pool_mode" enum:"transaction,session"`
	PoolSize             int           `yaml:"pool_size"`
	MinIdle              int           `yaml:"min_idle"`
	AcquireTimeout       time.Duration `yaml:"acquire_timeout" off:"true"`
	Timeouts             Timeouts      `yaml:"timeouts"`
	MaxClients           int           `yaml:"max_clients"`
	MaxServerConnections int           `yaml:"max_server_connections"`
	Route                string        `yaml:"route" enum:"auto,primary,replica"`
	Consistency          string        `yaml:"consistency" enum:"eventual,session,tenant,database,strong"`
}

// Auth is how clients prove who they are.
type Auth struct {
	// Method is scram-sha-256 (default), md5, password, cert or trust.
	Method string `yaml:"method" enum:"scram-sha-256,md5,password,cert,trust"`
	// HBAFile says by which method, in place of Method, whom from where: a file of the format
	// of pg_hba.conf. IdentFile has its maps, in the format of pg_ident.conf.
	HBAFile   string `yaml:"hba_file" file:"true"`
	IdentFile string `yaml:"ident_file" file:"true"`
	// LDAPCAFile holds the authorities that certificates of LDAP servers are checked against.
	LDAPCAFile string `yaml:"ldap_ca_file" file:"true"`
	// UserFile is a userlist file: lines of "name" "secret".
	UserFile string `yaml:"user_file" file:"true"`
	// Query finds a secret with the service account on the primary of the
	// client's cluster; $1 is the user's name, the second column is the secret, a third one
	// that of a role that may not log in, which lets nobody in.
	// Empty means DefaultAuthQuery where a service account is given and Method
	// needs secrets.
	Query string `yaml:"query"`
	// QueryTTL is how long an answer of Query is kept; after DDL was seen passing it is not.
	QueryTTL time.Duration `yaml:"query_ttl"`
	// AllowPlainPassword permits method password without TLS.
	AllowPlainPassword bool `yaml:"allow_plain_password"`
	// Timeout bounds the whole login of a client.
	Timeout time.Duration `yaml:"timeout"`
	// FailureDelay is how long the answer to a wrong password is held back after
	// the first failure; it doubles up to thirty-two times that for one address and user.
	FailureDelay time.Duration `yaml:"failure_delay"`
}

// ClientTLS is TLS between clients and the proxy.
type ClientTLS struct {
	// Mode is disable, allow, require or verify-client. Empty means allow once a
	// certificate is given, else disable.
	Mode     string `yaml:"mode" enum:"disable,allow,require,verify-client"`
	CertFile string `yaml:"cert_file" file:"true"`
	KeyFile  string `yaml:"key_file" file:"true"`
	// CAFile holds the authorities client certificates are checked against.
	CAFile     string `yaml:"ca_file" file:"true"`
	MinVersion string `yaml:"min_version" enum:"1.2,1.3"`
}

// ServerTLS is TLS between the proxy and the servers, with libpq's modes
// (https://www.postgresql.org/docs/current/libpq-ssl.html); prefer is the default.
type ServerTLS struct {
	Mode     string `yaml:"mode" enum:"disable,allow,prefer,require,verify-ca,verify-full"`
	CAFile   string `yaml:"ca_file" file:"true"`
	CertFile string `yaml:"cert_file" file:"true"`
	KeyFile  string `yaml:"key_file" file:"true"`
}

// Pool is how connections to one server are shared by the clients of one user and database.
type Pool struct {
	Mode string `yaml:"mode" enum:"transaction,session"`
	Size int    `yaml:"size"`
	// MinIdle connections are kept open once the pool was used.
	MinIdle int `yaml:"min_idle"`
	// AcquireTimeout is how long a statement waits for a connection before it
	// fails with 53300; 0 is as long as the client does.
	AcquireTimeout time.Duration `yaml:"acquire_timeout"`
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// IdleTimeout closes connections nobody used for that long, MaxLifetime any
	// connection of that age, or up to a tenth less by chance, when it is next idle; 0 is never.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	MaxLifetime time.Duration `yaml:"max_lifetime"`
	// MaxStatements bounds the prepared statements kept on one connection.
	MaxStatements int `yaml:"max_statements"`
	// ForgetAfter is how long a user's pools to a database, with their metrics and
	// connections, outlive the last client; 0 is for ever.
	ForgetAfter time.Duration `yaml:"forget_after"`
	// MaxServerConnections bounds the connections to one server, over all users and
	// databases and with the proxy's own; 0 is as many as the server lets in.
	MaxServerConnections int     `yaml:"max_server_connections"`
	Reserve              Reserve `yaml:"reserve"`
}

// Routing is what decides where statements run.
type Routing struct {
	Route string `yaml:"route" enum:"auto,primary,replica"`
	// Shadow has everything run on the primary, whatever else asks for a replica, and reports
	// where it would have run.
	Shadow bool `yaml:"shadow"`
	// PrimaryReads lets the primary serve reads: never (only if no replica can), or always.
	PrimaryReads string `yaml:"primary_reads" enum:"never,always"`
	// Consistency is what a read on a replica must see of what was committed before:
	// eventual (nothing certain), session (what its session committed), tenant (what
	// sessions of its tenant did), database (what anybody did through this proxy)
	// or strong (all there is when the read arrives).
	Consistency string `yaml:"consistency" enum:"eventual,session,tenant,database,strong"`
	// SoleWriter says that nobody commits past this process. Otherwise (other instances,
	// jobs) reads at tenant and database must be fresh as of their own arrival.
	SoleWriter bool `yaml:"sole_writer"`
	// MaxStaleness bounds how old what a read on a replica sees may be, at every
	// level; 0 is no bound.
	MaxStaleness time.Duration `yaml:"max_staleness"`
	// FreshnessWait is how long a read waits for a replica that is fresh enough
	// before it goes to the primary.
	FreshnessWait time.Duration `yaml:"freshness_wait"`
	// MonitorInterval is how often each server's state is asked.
	MonitorInterval time.Duration `yaml:"monitor_interval" reload:"restart"`
	// DiscoveryInterval is how often it is asked which servers there are, where they are
	// not listed.
	DiscoveryInterval time.Duration `yaml:"discovery_interval" reload:"restart"`
	// SlowAfter is how long a server may keep the monitor waiting before reads go
	// elsewhere, as long as others serve them.
	SlowAfter time.Duration `yaml:"slow_after" reload:"restart"`
	// PrimaryWait is how long a statement waits for a primary to appear.
	PrimaryWait time.Duration `yaml:"primary_wait"`
	// CatalogInterval is how often functions, relations and views are read anew;
	// 0 is only after DDL was seen passing.
	CatalogInterval time.Duration `yaml:"catalog_interval"`
	// PlanCache bounds the memory of analysed statements of one database, in bytes.
	PlanCache int `yaml:"plan_cache" unit:"bytes"`
	// SafeFunctions are volatile functions known to be harmless on a replica,
	// UnsafeFunctions others that must run on the primary; names may be qualified.
	SafeFunctions   []string `yaml:"safe_functions"`
	UnsafeFunctions []string `yaml:"unsafe_functions"`
	Rules           []Rule   `yaml:"rules"`
}

// Rule sends what it matches to one kind of server, or says how fresh that must
// be. All given conditions must hold; the first matching rule wins. A rule to "replica" cannot make a statement
// safe that is not a read: that stays a read-only failure the server reports.
type Rule struct {
	Route       string `yaml:"route" enum:"auto,primary,replica"`
	Consistency string `yaml:"consistency" enum:"eventual,session,tenant,database,strong"`
	Database    string `yaml:"database"`
	User        string `yaml:"user"`
	Application string `yaml:"application"`
	Table       string `yaml:"table"`
	Function    string `yaml:"function"`
	// Pattern is a regular expression (RE2) searched in the statement's text.
	Pattern string `yaml:"pattern"`
}

// Settings is how the settings of a session are followed.
type Settings struct {
	// Track names the custom (dotted) settings that functions, triggers and DO
	// blocks may set without the catalog showing it: those with dynamic SQL or not
	// written in SQL or PL/pgSQL. They are read back after such code. Declaring any
	// name, or an empty list, says that such code sets no other custom setting and
	// loads nothing; without it a session that ran some keeps its server connection.
	Track []string `yaml:"track"`
	// Assert names custom settings, besides those of tenant.settings, that isolation rests
	// on. When a server connection goes to another session, its first batch there sets them
	// to the session's values, or makes sure that there are none, whatever is believed of the
	// connection; so it does with role and session authorization.
	Assert []string `yaml:"assert"`
	// Verify is how often each idle connection is asked what it really carries, at most one of
	// a pool each second. A difference to what is believed closes it and is logged as an error. 0 is never.
	Verify time.Duration `yaml:"verify"`
	// VerifyReleases asks every connection that is given back, too, which costs a round trip
	// each time: for tests, and to hunt for a fault.
	VerifyReleases bool `yaml:"verify_releases"`
}

// Insight is what is counted of statements, and what makes a finding of what they do.
type Insight struct {
	Enabled bool `yaml:"enabled" reload:"restart"`
	// MaxStatements and MaxBytes bound the statements that are told apart; the others are
	// counted together.
	MaxStatements int `yaml:"max_statements" reload:"restart"`
	MaxBytes      int `yaml:"max_bytes" unit:"bytes" reload:"restart"`
	// Rows and Bytes are what a statement that nothing bounds may return before that is a
	// finding: nineteen times of twenty, and on average.
	Rows  int `yaml:"rows" reload:"restart"`
	Bytes int `yaml:"bytes" unit:"bytes" reload:"restart"`
	// Idle is how long a transaction may wait for its application.
	Idle time.Duration `yaml:"idle" reload:"restart"`
	// ExemptApplications repeat statements on purpose, as jobs do: patterns of theirs are no
	// findings.
	ExemptApplications []string `yaml:"exempt_applications" reload:"restart"`
	// Dir is a directory that what was counted is written to each minute, and baselines are;
	// empty for none. Files and DirBytes bound what is written each minute.
	Dir      string `yaml:"dir" reload:"restart"`
	Files    int    `yaml:"files" reload:"restart"`
	DirBytes int    `yaml:"dir_bytes" unit:"bytes" reload:"restart"`
	// Plans is whether and how servers are asked for execution plans.
	Plans Plans `yaml:"plans"`
}

// Plans is how servers are asked for the plans of what is counted.
type Plans struct {
	Enabled bool `yaml:"enabled" reload:"restart"`
	// Interval is how long a plan is taken to be good for, unless something else tells otherwise.
	Interval time.Duration `yaml:"interval" reload:"restart"`
	// Timeout is a server's for one of them.
	Timeout time.Duration `yaml:"timeout" reload:"restart"`
	// OnPrimary has the primary asked where no replica can be.
	OnPrimary bool `yaml:"on_primary" reload:"restart"`
	// Generic has plans made without the values of parameters, which are then not copied.
	Generic bool `yaml:"generic" reload:"restart"`
}

// Tracing is whether spans are made of statements that say to which trace they belong. Where
// they go the environment says (OTEL_EXPORTER_OTLP_ENDPOINT and the like).
type Tracing struct {
	Enabled bool `yaml:"enabled" reload:"restart"`
	// ServiceName is the service in the spans, unless OTEL_SERVICE_NAME is set.
	ServiceName string `yaml:"service_name" reload:"restart"`
}

// Tenant is how an application says which tenant it works for, which tables hold
// rows of tenants, and what becomes of statements that do not ask for one tenant's.
type Tenant struct {
	// Settings are the custom settings that name the tenant, such as app.current_org_id.
	Settings []string `yaml:"settings"`
	// Columns are the names of columns that hold the tenant, such as organization_id. A
	// table that has one is a tenant table. Without columns and Tables nothing is audited.
	Columns []string `yaml:"columns" reload:"restart"`
	// Tables are tables whose tenant is in another column. They come before Columns.
	Tables []TenantTable `yaml:"tables" reload:"restart"`
	Exempt Exempt        `yaml:"exempt"`
	Audit  Audit         `yaml:"audit"`
}

// Audited reports whether there is anything to audit.
func (t Tenant) Audited() bool { return len(t.Columns)+len(t.Tables) > 0 }

// TenantTable is a table whose tenant is in a column of its own.
type TenantTable struct {
	Table  string `yaml:"table"` // may be qualified
	Column string `yaml:"column"`
}

// Exempt is what the audit leaves alone.
type Exempt struct {
	// Tables are tables of all tenants though they have the column; they may be qualified.
	Tables []string `yaml:"tables" reload:"restart"`
	// Statements are fingerprints, as the log gives them.
	Statements []string `yaml:"statements" reload:"restart"`
	// Patterns are regular expressions (RE2) found in the statement on one line, with
	// its literals replaced by parameters and its comments left out.
	Patterns     []string `yaml:"patterns"`
	Users        []string `yaml:"users"`
	Applications []string `yaml:"applications"`
}

// Audit is what becomes of a statement that lacks a tenant filter.
type Audit struct {
	// Mode is off (not looked for), log (logged and counted), notice (the client gets
	// a warning too) or reject (the client gets an error in place of an answer).
	Mode string `yaml:"mode" enum:"off,log,notice,reject"`
	// Rules give another mode to what they match; the first that matches wins.
	Rules []AuditRule `yaml:"rules"`
	// LogInterval is how often one statement is logged, with how often it ran since.
	LogInterval time.Duration `yaml:"log_interval"`
	// MaxStatements bounds the distinct statements kept for the log and for SHOW
	// pgweir.unfiltered; the one not seen for longest goes first.
	MaxStatements int `yaml:"max_statements"`
	// ShowTenants writes tenants as they are. Otherwise they are hashed with a key that
	// ends with the process, so that equal ones can be told within one run only.
	ShowTenants bool `yaml:"show_tenants"`
}

// AuditRule gives a mode to the findings it matches. All given conditions must hold.
type AuditRule struct {
	Mode string `yaml:"mode" enum:"off,log,notice,reject"`
	// Table is one of the tables without a filter; it may be qualified.
	Table       string `yaml:"table"`
	User        string `yaml:"user"`
	Application string `yaml:"application"`
	Kind        string `yaml:"kind" enum:"unparsed,foreign_key,lookup,insert,row_write,list,bulk_write,truncate,mismatch"`
	Severity    string `yaml:"severity" enum:"info,warning,danger"`
}

// Log is what is written to standard error.
type Log struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error"`
	Format string `yaml:"format" enum:"console,json" reload:"restart"`
	// SlowStatement logs statements that took at least that long; 0 turns it off.
	SlowStatement time.Duration `yaml:"slow_statement"`
	Connections   bool          `yaml:"connections"`
}

// Default is the configuration before a file is read.
func Default() Config {
	return Config{
		Listen:     Addresses{"127.0.0.1:6432"},
		Web:        Web{HTTP: "127.0.0.1:9930"},
		MaxClients: 10000,
		Succession: Succession{
			ShutdownTimeout: 30 * time.Second,
			Upgrade:         Upgrade{Timeout: time.Hour},
		},
		Sources:   Sources{Flavour: "auto"},
		ServerTLS: ServerTLS{Mode: "prefer"},
		Service:   Service{Database: "postgres"},
		Auth: Auth{
			Method:       "scram-sha-256",
			QueryTTL:     time.Second,
			Timeout:      30 * time.Second,
			FailureDelay: 100 * time.Millisecond,
		},
		TLS: ClientTLS{MinVersion: "1.2"},
		Pool: Pool{
			Mode:           "transaction",
			Size:           20,
			AcquireTimeout: 30 * time.Second,
			ConnectTimeout: 5 * time.Second,
			IdleTimeout:    10 * time.Minute,
			MaxLifetime:    time.Hour,
			MaxStatements:  500,
			ForgetAfter:    15 * time.Minute,
		},
		Routing: Routing{
			Route:             "auto",
			PrimaryReads:      "never",
			Consistency:       "database",
			SoleWriter:        true,
			FreshnessWait:     10 * time.Millisecond,
			MonitorInterval:   time.Second,
			DiscoveryInterval: 5 * time.Second,
			SlowAfter:         time.Second,
			PrimaryWait:       30 * time.Second,
			CatalogInterval:   time.Minute,
			PlanCache:         32 << 20,
		},
		Settings: Settings{Verify: 10 * time.Second},
		Tenant: Tenant{
			Audit: Audit{Mode: "log", LogInterval: time.Minute, MaxStatements: 2000},
		},
		Operators: Operators{
			Insight: Insight{MaxStatements: 4000, MaxBytes: 4 << 20, Rows: 1000, Bytes: 1 << 20, Idle: time.Second, Files: 360, DirBytes: 64 << 20, Plans: Plans{Interval: time.Hour, Timeout: time.Second}},
			Tracing: Tracing{ServiceName: "pgweir"},
			Log:     Log{Level: "info", Format: "console", Connections: true},
		},
	}
}
