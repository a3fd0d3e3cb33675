package pgbouncer

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/internal/userlist"
)

// migration is one file on its way.
type migration struct {
	file     File
	doc      *document
	keys     []Key
	clusters []cluster
	secrets  map[string]string // of the user file
	looksUp  bool              // somebody is there to ask auth_query
	notes    []string          // what has no equivalent
	comment  string            // for the next value
	about    string            // whose keys the notes are on
}

// cluster is one list of hosts, with the databases on it.
type cluster struct {
	name      string
	hosts     string
	addresses []string
}

// Migrate writes f as a configuration file of pgweir. userFile takes the place of auth_file
// where it is not empty.
func Migrate(f File, userFile string) ([]byte, error) {
	m := &migration{file: f, doc: newDocument(), keys: Keys()}
	steps := []func() error{
		m.listen,
		m.findClusters, m.servers,
		func() error { return m.users(userFile) },
		m.service,
		m.general, m.databases,
		func() error { return m.entries(users, f.Users, nil) },
		m.peers,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	head := []string{"Made by pgweir migrate from a configuration of PgBouncer. It holds the passwords that were there: keep it to yourself.",
		"PgBouncer sends everything to the server named. Name its replicas too, and reads go there; see docs/pgbouncer.md."}
	var foot []string
	if len(m.notes) > 0 {
		foot = append([]string{"What is different, or has no equivalent:"}, m.notes...)
	}
	return m.doc.text(head, foot)
}

// set gives a key its value, with the comment that is due.
func (m *migration) set(path []string, value any, comments ...string) error {
	if m.comment != "" {
		comments = append(comments, m.comment)
	}
	return m.doc.set(path, value, strings.Join(comments, "; "))
}

// note adds a line on what has no equivalent.
func (m *migration) note(name, text string) error {
	m.notes = append(m.notes, "  "+m.about+name+" "+text)
	return nil
}

// listen joins the addresses with the port.
func (m *migration) listen() error {
	get := func(name, otherwise string) string {
		if v, ok := last(m.file.General, name); ok {
			return v
		}
		return otherwise
	}
	port := get("listen_port", "6432")
	var all []string
	for _, host := range strings.Split(get("listen_addr", ""), ",") {
		switch host = strings.TrimSpace(host); host {
		case "":
		case "*":
			all = append(all, ":"+port)
		default:
			all = append(all, net.JoinHostPort(host, port))
		}
	}
	switch dir := get("unix_socket_dir", "/tmp"); {
	case strings.HasPrefix(dir, "/"):
		all = append(all, dir+":"+port)
	case dir != "":
		_ = m.note("unix_socket_dir", dir+": sockets in the abstract namespace are not served")
	}
	if len(all) == 0 {
		return errors.New("neither listen_addr nor unix_socket_dir: nobody could connect")
	}
	return m.set([]string{"listen"}, all)
}

// findClusters makes one cluster of each list of hosts.
func (m *migration) findClusters() error {
	if len(m.file.Databases) == 0 {
		return errors.New("[databases] is empty: there is no server")
	}
	for _, d := range m.file.Databases {
		if i := m.clusterOf(d); i < 0 {
			hosts := hostsOf(d)
			c := cluster{name: fmt.Sprintf("c%d", len(m.clusters)+1), hosts: hosts}
			for _, address := range strings.Split(hosts, " ") {
				if strings.HasPrefix(address, "/default") {
					dir, ok := last(m.file.General, "unix_socket_dir")
					if !ok || dir == "" {
						dir = "/tmp"
					}
					address = dir + strings.TrimPrefix(address, "/default")
				}
				c.addresses = append(c.addresses, address)
			}
			m.clusters = append(m.clusters, c)
		}
	}
	return nil
}

// hostsOf are the addresses of a database; /default stands for the socket directory.
func hostsOf(d Entry) string {
	host, _ := last(d.Options, "host")
	port, _ := last(d.Options, "port")
	port = cmp.Or(port, "5432")
	var all []string
	for _, h := range strings.Split(cmp.Or(host, "/default"), ",") {
		if h = strings.TrimSpace(h); strings.HasPrefix(h, "/") {
			all = append(all, h+":"+port)
		} else {
			all = append(all, net.JoinHostPort(h, port))
		}
	}
	return strings.Join(all, " ")
}

// clusterOf is the index of a database's cluster, -1 as long as there is none.
func (m *migration) clusterOf(d Entry) int {
	return slices.IndexFunc(m.clusters, func(c cluster) bool { return c.hosts == hostsOf(d) })
}

// place is the path of a key of a cluster, which is at the top if there is only one.
func (m *migration) place(i int, names ...string) []string {
	if len(m.clusters) == 1 {
		return names
	}
	return append([]string{"clusters", m.clusters[i].name}, names...)
}

func (m *migration) servers() error {
	for i, c := range m.clusters {
		if err := m.set(m.place(i, "servers"), c.addresses); err != nil {
			return err
		}
	}
	return nil
}

// users reads the user file, for the passwords of accounts, and names it.
func (m *migration) users(given string) error {
	name, ok := last(m.file.General, "auth_file")
	if given == "" && (!ok || name == "") {
		return nil
	}
	path := given
	if path == "" {
		path = m.absolute(name)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w; name the user file behind the configuration", err)
	}
	entries, _ := userlist.Parse(string(data))
	m.secrets = map[string]string{}
	seen := map[string]int{}
	for _, e := range entries {
		m.secrets[e.Name] = e.Secret
		if seen[e.Name]++; seen[e.Name] == 2 {
			_ = m.note("auth_file", fmt.Sprintf("line %d: %q is there before; both passwords let it in here", e.Line, e.Name))
		}
	}
	return m.set([]string{"auth", "user_file"}, path)
}

// service is who looks secrets up.
func (m *migration) service() error {
	user, _ := last(m.file.General, "auth_user")
	database, _ := last(m.file.General, "auth_dbname")
	for _, d := range m.file.Databases {
		at := m.clusterOf(d)
		own, ok := last(d.Options, "auth_user")
		if !ok {
			own = user
		}
		if own == "" {
			continue
		}
		m.looksUp = true
		if !m.doc.has(m.place(at, "service", "user")...) {
			if err := m.account(at, own); err != nil {
				return err
			}
		}
		if where, ok := last(d.Options, "auth_dbname"); ok {
			database = where
		}
	}
	for i := range m.clusters {
		if at := m.place(i, "service", "user"); !m.looksUp || !m.doc.has(at...) {
			continue
		}
		for _, d := range m.file.Databases { // a name of this file is one on the servers
			if real, ok := last(d.Options, "dbname"); ok && d.Name == database {
				database = real
				break
			}
		}
		if database != "" {
			if err := m.set(m.place(i, "service", "database"), database); err != nil {
				return err
			}
		} else if err := m.note("auth_query", "runs in database postgres of the servers (service.database), not in the client's: functions that it calls must be there"); err != nil {
			return err
		}
	}
	return nil
}

func (m *migration) account(cluster int, user string) error {
	if err := m.set(m.place(cluster, "service", "user"), user); err != nil {
		return err
	}
	secret, ok := m.secrets[user]
	if !ok {
		return nil
	}
	if hashed(secret) {
		return m.note("auth_user", user+": the user file has no plain password of it; give service.password")
	}
	return m.set(m.place(cluster, "service", "password"), secret)
}

// general carries the keys of [pgbouncer], and the defaults that are others than ours.
func (m *migration) general() error {
	m.unknown(general, m.file.General)
	for _, k := range m.keys {
		if k.Section != general {
			continue
		}
		value, written := last(m.file.General, k.Name)
		if !written {
			if value = k.Default; value == "" {
				continue
			}
			m.comment = "PgBouncer's default"
		}
		if err := m.carry(k, strings.Split(k.Ours, "."), value, written); err != nil {
			return fmt.Errorf("[%s] %s: %w", general, k.Name, err)
		}
		m.comment = ""
	}
	return nil
}

// carry writes one key, or notes why not.
func (m *migration) carry(k Key, path []string, value string, written bool) error {
	switch {
	case k.carry != nil:
		return k.carry(m, path, value)
	case k.Ours == "" && written:
		return m.note(k.Name+" = "+value+":", k.Why)
	}
	return nil
}

func (m *migration) unknown(section string, options []Option) {
	for _, o := range options {
		if !slices.ContainsFunc(m.keys, func(k Key) bool { return k.Section == section && k.Name == o.Name }) {
			_ = m.note(o.Name, "is no key of PgBouncer's manual")
		}
	}
}

func (m *migration) databases() error {
	for _, d := range m.file.Databases {
		m.doc.touch("databases", d.Name)
		if len(m.clusters) > 1 {
			if err := m.set([]string{"databases", d.Name, "cluster"}, m.clusters[m.clusterOf(d)].name); err != nil {
				return err
			}
		}
	}
	return m.entries(databases, m.file.Databases, m.forcedUser)
}

// forcedUser gives a database's own user its password where only the user file has it.
func (m *migration) forcedUser(d Entry) error {
	user, ok := last(d.Options, "user")
	if _, given := last(d.Options, "password"); !ok || given {
		return nil
	}
	secret := m.secrets[user]
	if secret == "" || hashed(secret) {
		return nil
	}
	return m.set([]string{"databases", d.Name, "server_password"}, secret)
}

// entries carries the lines of a section of names.
func (m *migration) entries(section string, all []Entry, more func(Entry) error) error {
	defer func() { m.about = "" }()
	for _, e := range all {
		m.about = section + "." + e.Name + ": "
		m.unknown(section, e.Options)
		m.doc.touch(section, e.Name)
		for _, k := range m.keys {
			value, written := last(e.Options, k.Name)
			if k.Section != section || !written {
				continue
			}
			if k.Name == "pool_size" {
				value = m.within(section, e, value)
			}
			path := strings.Split(k.Ours, ".")
			for i := range path {
				if path[i] == "*" {
					path[i] = e.Name
				}
			}
			if err := m.carry(k, path, value, written); err != nil {
				return fmt.Errorf("[%s] %s: %s: %w", section, e.Name, k.Name, err)
			}
		}
		if more != nil {
			if err := more(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// within is a pool's size, which the bound on all connections bounds there without a word.
func (m *migration) within(section string, e Entry, size string) string {
	name := map[string]string{databases: "max_db_connections", users: "max_user_connections"}[section]
	bound, ok := last(e.Options, name)
	if !ok {
		bound, _ = last(m.file.General, name)
	}
	n, err := strconv.Atoi(bound)
	if own, sizeErr := strconv.Atoi(size); err == nil && sizeErr == nil && n > 0 && own > n {
		return bound
	}
	return size
}

// peers are addresses, where there is a key for them.
func (m *migration) peers() error {
	var all []string
	for _, p := range m.file.Peers {
		host, _ := last(p.Options, "host")
		port, _ := last(p.Options, "port")
		if host != "" && !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, "@") {
			all = append(all, net.JoinHostPort(host, cmp.Or(port, "6432")))
		}
	}
	if len(m.file.Peers) == 0 {
		return nil
	}
	if len(all) == 0 || !slices.ContainsFunc(m.keys, func(k Key) bool { return k.Ours == "peers" }) {
		return m.note("[peers]", "cancel requests are not handed on; let a balancer send a client's connections to one instance")
	}
	return m.set([]string{"peers"}, all)
}
