package console

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
)

// view is what SHOW shows by one name.
type view struct {
	name    string
	help    string
	columns []column
	fill    func(*Session, *table)
}

// views are in the order of SHOW HELP.
var views []view

func init() { // HELP shows them
	views = slices.Concat(pgbouncerViews(), ownViews())
}

func pgbouncerViews() []view {
	return []view{
		{"DATABASES", "databases, where they are, what bounds them, whether they are paused", databaseColumns, showDatabases},
		{"POOLS", "clients and server connections by database and user", poolColumns, showPools},
		{"STATS", "what was done for each database, in all and each second of the last minute", slices.Concat(texts("database"), ints(prefixed("total_", statNames)...), ints(prefixed("avg_", statNames)...), ints("total_requests")), showStats},
		{"STATS_TOTALS", "the totals of STATS", slices.Concat(texts("database"), ints(totalNames...)), showTotals},
		{"STATS_AVERAGES", "the averages of STATS", slices.Concat(texts("database"), ints(averageNames...)), showAverages},
		{"TOTALS", "the sums of STATS", slices.Concat(texts("name"), ints("value")), showSums},
		{"LISTS", "how many there are of everything", slices.Concat(texts("list"), ints("items")), showLists},
		{"CLIENTS", "clients, what they do and on which server connection", socketColumns, showClients},
		{"SERVERS", "server connections, and who holds them", socketColumns, showServers},
		{"USERS", "users, and what bounds them", slices.Concat(texts("name", "pool_size", "reserve_pool_size", "pool_mode"),
			ints("max_user_connections", "current_connections", "max_user_client_connections", "current_client_connections")), showUsers},
		{"CONFIG", "PgBouncer's keys that mean something here, with their values here", texts("key", "value", "default", "changeable"), showConfig},
		{"MEM", "memory of the process", slices.Concat(texts("name"), ints("size", "used", "free", "memtotal")), showMemory},
		{"STATE", "whether all databases are paused", texts("key", "value"), showState},
		{"VERSION", "the version of pgweir", texts("version"), func(s *Session, t *table) { t.add("pgweir " + s.Version) }},
		{"PEERS", "the other instances that cancel requests are passed on to", slices.Concat(ints("peer_id"), texts("host"), ints("port", "pool_size")), showPeers},
	}
}

var databaseColumns = slices.Concat(texts("name", "host"), ints("port"), texts("database", "force_user"),
	ints("pool_size", "min_pool_size", "reserve_pool_size", "server_lifetime"), texts("pool_mode", "load_balance_hosts"),
	ints("max_connections", "current_connections", "max_client_connections", "current_client_connections", "paused", "disabled"),
	ints("reserve_pool")) // as it was called before PgBouncer 1.24

func showDatabases(s *Session, t *table) {
	for _, d := range s.Service.Databases() {
		t.add(d.Name, orNull(d.Host), number(d.Port), d.Real, orNull(d.ForceUser),
			int64(d.PoolSize), int64(d.MinPoolSize), int64(0), int64(d.Lifetime.Seconds()), d.PoolMode, nil,
			int64(d.MaxConnections), int64(d.Connections), int64(d.MaxClients), int64(d.Clients), bit(d.Paused), bit(d.Disabled), int64(0))
	}
}

var poolColumns = slices.Concat(texts("database", "user"), ints("cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req",
	"sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait", "maxwait_us"),
	texts("pool_mode", "load_balance_hosts"))

func showPools(s *Session, t *table) {
	for _, p := range s.Service.Pools() {
		seconds, rest := split(p.MaxWait)
		t.add(p.Database, p.User, int64(p.Clients-p.Waiting), int64(p.Waiting), int64(0), int64(0),
			int64(p.Used), int64(0), int64(0), int64(p.Idle), int64(0), int64(0), int64(p.Login), seconds, rest, p.Mode, nil)
	}
}

// statNames are PgBouncer's of the figures that Counts has, and of the three that it has not: prepared
// statements are counted by nobody.
var (
	statNames = []string{
		"server_assignment_count", "xact_count", "query_count", "received", "sent", "xact_time", "query_time",
		"wait_time", "client_parse_count", "server_parse_count", "bind_count", "client_login_count",
	}
	totalNames = []string{
		"server_assignment_count", "xact_count", "query_count", "bytes_received", "bytes_sent", "xact_time", "query_time",
		"wait_time", "client_parse_count", "server_parse_count", "bind_count", "client_login_count",
	}
	averageNames = slices.Concat(totalNames[:8], prefixed("avg_", totalNames[8:]))
)

func prefixed(prefix string, names []string) (all []string) {
	for _, name := range names {
		if prefix == "avg_" && name == "received" {
			name = "recv"
		}
		all = append(all, prefix+name)
	}
	return all
}

func (c *Counts) values() []any {
	return []any{
		int64(c.Assigned), int64(c.Transactions), int64(c.Statements), int64(c.Received), int64(c.Sent),
		c.TransactionTime.Microseconds(), c.StatementTime.Microseconds(), c.WaitTime.Microseconds(),
		int64(0), int64(0), int64(0), int64(c.Logins),
	}
}

func showStats(s *Session, t *table) {
	for _, tr := range s.Service.Traffic() {
		t.rows = append(t.rows, slices.Concat([]any{tr.Database}, tr.Total.values(), tr.Average.values(), []any{int64(tr.Total.Statements)}))
	}
}

func showTotals(s *Session, t *table) {
	for _, tr := range s.Service.Traffic() {
		t.rows = append(t.rows, append([]any{tr.Database}, tr.Total.values()...))
	}
}

func showAverages(s *Session, t *table) {
	for _, tr := range s.Service.Traffic() {
		t.rows = append(t.rows, append([]any{tr.Database}, tr.Average.values()...))
	}
}

func showSums(s *Session, t *table) {
	all := s.Service.Traffic()
	of := func(prefix string, names []string, counts func(*Traffic) *Counts) {
		sums := make([]int64, len(names))
		for i := range all {
			for j, v := range counts(&all[i]).values() {
				sums[j] += v.(int64)
			}
		}
		for j, name := range prefixed(prefix, names) {
			t.add(name, sums[j])
		}
	}
	of("total_", statNames, func(tr *Traffic) *Counts { return &tr.Total })
	of("avg_", statNames, func(tr *Traffic) *Counts { return &tr.Average })
}

func showLists(s *Session, t *table) {
	connections := 0
	for _, p := range s.Service.Pools() {
		connections += p.Used + p.Idle + p.Login
	}
	for _, l := range []struct {
		name  string
		items int
	}{
		{"databases", len(s.Service.Databases())},
		{"users", len(s.Service.Users())},
		{"peers", len(s.Service.Config().Peers)},
		{"pools", len(s.Service.Pools())},
		{"peer_pools", 0},
		{"free_clients", 0},
		{"used_clients", len(s.Service.Clients())},
		{"login_clients", 0},
		{"free_servers", 0},
		{"used_servers", connections},
		{"dns_names", 0},
		{"dns_zones", 0},
		{"dns_queries", 0},
		{"dns_pending", 0},
	} {
		t.add(l.name, int64(l.items))
	}
}

var socketColumns = slices.Concat(texts("type", "user", "database", "replication", "state", "addr"), ints("port"), texts("local_addr"),
	ints("local_port"), texts("connect_time", "request_time"), ints("wait", "wait_us", "close_needed"), texts("ptr", "link"),
	ints("remote_pid"), texts("tls", "application_name"), ints("prepared_statements", "id"))

func showClients(s *Session, t *table) {
	now := time.Now()
	for _, c := range s.Service.Clients() {
		var wait time.Duration
		if c.State == ClientWaiting {
			wait = now.Sub(c.Asked)
		}
		seconds, rest := split(wait)
		t.add("C", c.User, c.Database, "none", c.State.String(), c.Address.Host, int64(c.Address.Port), c.Local.Host, int64(c.Local.Port),
			at(c.Connected), at(c.Asked), seconds, rest, int64(0), pointer('c', c.PID), pointer('s', c.ServerPID),
			int64(c.PID), c.TLS, c.Application, int64(0), int64(c.ID))
	}
}

func showServers(s *Session, t *table) {
	for _, c := range s.Service.Connections() {
		state := "idle"
		if c.Client != 0 {
			state = "active"
		}
		t.add("S", c.User, c.Database, "none", state, c.Peer.Host, int64(c.Peer.Port), c.Local.Host, int64(c.Local.Port),
			at(c.Connected), at(c.Used), int64(0), int64(0), int64(0), pointer('s', c.PID), pointer('c', c.ClientPID),
			int64(c.PID), c.TLS, c.Application, int64(0), int64(c.PID))
	}
}

func showUsers(s *Session, t *table) {
	for _, u := range s.Service.Users() {
		var size any
		if u.PoolSize > 0 {
			size = strconv.Itoa(u.PoolSize)
		}
		t.add(u.Name, size, nil, orNull(u.PoolMode), int64(u.MaxConnections), int64(u.Connections), int64(u.MaxClients), int64(u.Clients))
	}
}

// showMemory tells of the Go runtime's memory, which has no pools of fixed sizes.
func showMemory(_ *Session, t *table) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.add("heap", int64(0), int64(m.HeapInuse), int64(m.HeapIdle-m.HeapReleased), int64(m.HeapSys-m.HeapReleased))
	t.add("stacks", int64(0), int64(m.StackInuse), int64(0), int64(m.StackSys))
	t.add("objects", int64(0), int64(m.HeapObjects), int64(0), int64(m.HeapAlloc))
}

func showState(s *Session, t *table) {
	paused := s.Service.Paused()
	t.add("active", yes(!paused))
	t.add("paused", yes(paused))
	t.add("suspended", "no")
}

func showPeers(s *Session, t *table) {
	for i, address := range s.Service.Config().Peers {
		host, port, _ := strings.Cut(address, ":")
		n, _ := strconv.Atoi(port)
		t.add(int64(i+1), host, int64(n), int64(1))
	}
}

// shownBy is the view that a SHOW asks for.
func shownBy(st statement) (view, bool) {
	if st.word(0) != "SHOW" {
		return view{}, false
	}
	name := strings.Join(st.upper[1:], " ")
	if name == "" {
		name = "HELP"
	}
	for _, v := range views {
		if v.name == name {
			return v, true
		}
	}
	return shownSetting(st), true
}

// shownSetting is for those settings that drivers ask a server for.
func shownSetting(st statement) view {
	name := strings.ToLower(strings.Join(st.text[1:], "_"))
	if name == "transaction_isolation_level" {
		name = "transaction_isolation"
	}
	if known, ok := askedSettings[name]; ok {
		return view{name, "", texts(name), func(s *Session, t *table) {
			value := known
			if told := s.Parameters[name]; told != "" {
				value = told
			}
			t.add(value)
		}}
	}
	return view{}
}

// askedSettings are what drivers ask a server for as they connect, with the console's answer where it
// was not told as a parameter.
var askedSettings = map[string]string{
	"server_version": "", "client_encoding": "", "server_encoding": "", "standard_conforming_strings": "", "datestyle": "ISO",
	"timezone": "UTC", "search_path": "", "transaction_isolation": "read committed", "transaction_read_only": "off",
	"default_transaction_isolation": "read committed", "default_transaction_read_only": "off", "in_hot_standby": "off", "is_superuser": "off",
}

// show is the answer to a SHOW.
func (v view) show(s *Session, st statement) (*table, error) {
	if v.fill == nil {
		return nil, unknown(st)
	}
	t := &table{columns: v.columns}
	v.fill(s, t)
	return t, nil
}

// columnsOf are the columns of a statement's answer; nil if it has none.
func (s *Session) columnsOf(st statement) ([]column, error) {
	if v, ok := shownBy(st); ok {
		if v.fill == nil {
			return nil, unknown(st)
		}
		if v.columns == nil {
			columns, _ := s.Service.Unfiltered()
			return texts(columns...), nil
		}
		return v.columns, nil
	}
	if find(st) == nil {
		return nil, unknown(st)
	}
	return nil, nil
}

// unknown is the error of a statement that is none of the console's.
func unknown(st statement) *wire.Error {
	if fault := malformed(st); fault != nil {
		return fault
	}
	if st.word(0) == "SHOW" {
		return wire.Errorf("42704", "the console does not show \"%s\"", strings.Join(st.text[1:], " ")).
			WithHint("SHOW HELP lists what it shows.")
	}
	return wire.Errorf("0A000", "this is the admin console of pgweir: it takes SHOW and commands, not \"%s\"", st.word(0)).
		WithHint("SHOW HELP lists them. For tables and queries connect to a database of your own.")
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func number(s string) any {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil
	}
	return n
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// split is a duration in seconds and the microseconds that are left.
func split(d time.Duration) (seconds, rest int64) {
	return int64(d / time.Second), int64(d % time.Second / time.Microsecond)
}

// at is a time as PgBouncer writes it, in UTC; NULL for none.
func at(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02 15:04:05 MST")
}

// pointer tells a connection from others; "" for none.
func pointer(kind byte, pid uint32) string {
	if pid == 0 {
		return ""
	}
	return string(kind) + strconv.FormatUint(uint64(pid), 10)
}
