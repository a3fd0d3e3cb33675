package console

import (
	"context"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
)

// Service is what the console shows and commands. Its methods are safe for concurrent use; what
// they return is a picture of the moment, which the caller may keep.
//
// Databases are named as clients name them, and an empty name stands for all. Errors tell what to
// do next; those of type *wire.Error go to the client as they are.
type Service interface {
	Config() config.Config
	Databases() []Database
	Pools() []Pool
	Clients() []Client
	Connections() []Connection
	Servers() []Server
	Users() []User
	Traffic() []Traffic
	Routes() []Route
	Unfiltered() (columns []string, rows [][]string)
	// Insights and RoutesOfTransactions are empty if nothing is counted.
	Insights() (sum insight.Summary, counted bool)
	RoutesOfTransactions() []insight.RouteCounts
	Paused() bool // all databases are

	// Pause has no batch begin until Resume, and returns when no connection of the databases is
	// open any more. If ctx ends before, nothing is paused.
	Pause(ctx context.Context, database string) error
	Resume(database string) error
	// Reconnect has connections replaced as they become free; server is an address, empty for all.
	Reconnect(database, server string) error
	// Kill ends the clients and their connections, and pauses the databases.
	Kill(database string) error
	KillClient(id uint64) error
	// Enable lets clients log in to a database or not, and EnableServer reads go to a server or not.
	Enable(database string, on bool) error
	EnableServer(address string, on bool) error
	// RoutePrimary has everything run on the primary, whatever the configuration says.
	RoutePrimary(on bool)
	Reload() error
	Set(key, value string) error
	Shutdown(Shutdown) error
}

// Shutdown is how the service is to end.
type Shutdown uint8

const (
	ShutdownNow         Shutdown = iota // statements are canceled
	ShutdownWithServers                 // transactions may end, within shutdown_timeout
	ShutdownWithClients                 // clients may stay as long as they like
)

// Database is a name that clients can connect to, with what is in force there.
type Database struct {
	Name             string
	Host, Port, Real string
	ForceUser        string
	PoolSize         int
	MinPoolSize      int
	Lifetime         time.Duration
	PoolMode         string
	MaxConnections   int // 0 is no bound
	Connections      int
	MaxClients       int
	Clients          int
	Paused, Disabled bool
}

// Pool is what the clients of one user and database share, over all servers.
type Pool struct {
	Database, User string
	Mode           string
	// Clients, of which Waiting have asked something and wait for a connection.
	Clients, Waiting int
	MaxWait          time.Duration
	// Connections: in use, at rest, and those that log in.
	Used, Idle, Login int
}

// ClientState is what a client does.
type ClientState uint8

const (
	ClientIdle    ClientState = iota
	ClientActive              // it holds a server connection
	ClientWaiting             // it has asked something, and holds none yet
)

func (s ClientState) String() string { return [...]string{"idle", "active", "waiting"}[s] }

// Client is one client.
type Client struct {
	ID             uint64 // as in the log
	PID            uint32 // as pg_backend_pid() told it
	Database, User string
	Application    string
	State          ClientState
	Address, Local Endpoint
	TLS            string
	Connected      time.Time
	Asked          time.Time // when its last batch came; zero for never
	// Transaction is since when it is in one; zero outside. Idling is that it asks nothing there.
	Transaction time.Time
	Idling      bool
	First       string // what a server was sent first of that, without literals; empty for nothing
	Server      string // it holds a connection to
	ServerPID   uint32
	Pins        string // what ties it to that; empty for nothing
	Pinned      time.Time
}

// Endpoint is one end of a connection. A Unix-domain socket has no port.
type Endpoint struct {
	Host string
	Port int
}

// Connection is one connection to a server.
type Connection struct {
	Database, User string
	Server         string // address
	Peer           Endpoint
	Local          Endpoint
	PID            uint32
	TLS            string
	Connected      time.Time
	Used           time.Time // when it was last given back, or its client's batch came
	Client         uint64    // that holds it; 0 for none
	ClientPID      uint32
	Application    string
}

// Server is one server of a cluster.
type Server struct {
	Cluster, Address string
	Role, Status     string
	Disabled         bool
	Since            time.Time
	Timeline         uint32
	LSN              string
	Lag              int64         // bytes; below 0 if not known
	Staleness        time.Duration // below 0 if not known
	Load             int64         // connections in use
	Open, Bound      int           // connections, and how many there may be; 0 is not known
	Err              string
}

// User is a name that clients log in with.
type User struct {
	Name           string
	PoolSize       int // 0 is not its own
	PoolMode       string
	MaxConnections int
	Connections    int
	MaxClients     int
	Clients        int
}

// Traffic is what was done for the clients of one database since the start, and on average in the last
// period: for each second, and of times for each thing that took it.
type Traffic struct {
	Database       string
	Total, Average Counts
}

// Counts are of one database.
type Counts struct {
	Logins, Assigned         uint64
	Transactions, Statements uint64
	Received, Sent           uint64 // bytes
	TransactionTime          time.Duration
	StatementTime            time.Duration
	WaitTime                 time.Duration
}

// Route is how many statements ran where, and why.
type Route struct {
	Target, Reason, Class string
	Statements            uint64
}
