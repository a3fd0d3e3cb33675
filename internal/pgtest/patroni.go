package pgtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Patroni is a cluster that Patroni manages, with etcd as its store. As a Cluster it lives
// in one scratch directory, and a watchdog ends it. Its methods may be called concurrently.
type Patroni struct {
	Dir string

	bins  binaries
	user  account
	guard *watchdog
	etcd  string // host:port

	mu    sync.Mutex // protects the fields below
	nodes []*Node
	store *exec.Cmd
}

// Node is one member: a Patroni with its PostgreSQL server.
type Node struct {
	*Server
	API string // URL of Patroni's REST API

	p    *Patroni
	home string
	cmd  *exec.Cmd
}

// Member is what Patroni tells of a node.
type Member struct {
	Name, Role, State string
}

// patroniTimeout bounds the start of a whole cluster: each node is initdb or a base backup.
const patroniTimeout = 2 * time.Minute

// NewPatroni starts a cluster for one test, with its first node before the others, and closes
// it at the test's end. It returns when all of them run.
func NewPatroni(t TB, names ...string) *Patroni {
	t.Helper()
	SkipShort(t)
	ctx, cancel := context.WithTimeout(context.Background(), patroniTimeout)
	defer cancel()
	p, err := startPatroni(ctx, names)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range p.all() {
				t.Logf("the end of the log of %s:\n%s", n.Name, n.LogTail(40))
			}
		}
		if err := p.close(); err != nil {
			t.Logf("close Patroni's cluster: %v", err)
		}
	})
	return p
}

func startPatroni(ctx context.Context, names []string) (*Patroni, error) {
	for program, pkg := range map[string]string{"patroni": "patroni", "etcd": "etcd-server"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: install Debian's package %s (.ci/deps.sh test)", err, pkg)
		}
	}
	bins, err := findBinaries(ctx, "")
	if err != nil {
		return nil, err
	}
	user, err := currentAccount()
	if err != nil {
		return nil, err
	}
	dir, err := makeScratch("", user)
	if err != nil {
		return nil, err
	}
	p := &Patroni{Dir: dir, bins: bins, user: user}
	if p.guard, err = startWatchdog(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.build(ctx, names); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *Patroni) build(ctx context.Context, names []string) error {
	// Patroni makes and removes data directories.
	if err := errors.Join(p.user.own(p.Dir), p.user.mkdir(filepath.Join(p.Dir, "run"), 0o755)); err != nil {
		return err
	}
	if err := p.startStore(ctx); err != nil {
		return err
	}
	if _, err := p.Add(ctx, names[0]); err != nil {
		return err
	}
	var g errgroup.Group
	for _, name := range names[1:] {
		g.Go(func() error { _, err := p.Add(ctx, name); return err })
	}
	return g.Wait()
}

// startStore starts etcd.
func (p *Patroni) startStore(ctx context.Context) error {
	client, err := freePort()
	if err != nil {
		return err
	}
	peer, err := freePort()
	if err != nil {
		return err
	}
	p.etcd = loopback(client)
	home := filepath.Join(p.Dir, "etcd")
	if err := p.user.mkdir(home, 0o700); err != nil {
		return err
	}
	clients, peers := "http://"+p.etcd, "http://"+loopback(peer)
	p.store, err = p.launch(home, "etcd", "--data-dir", filepath.Join(home, "data"), "--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers)
	if err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		var health struct{ Health string }
		err := p.get(ctx, clients+"/health", &health)
		return err == nil && health.Health == "true", nil
	})
}

// launch starts a program in a directory, by which the watchdog knows it. What it says goes
// to a file beside that.
func (p *Patroni) launch(home, program string, args ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(home+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := p.user.command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, log, log
	cmd.Env = append(cmd.Env, "HOME="+home)
	return cmd, cmd.Start()
}

// Add starts one more node and returns when it runs and serves.
func (p *Patroni) Add(ctx context.Context, name string) (*Node, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	api, err := freePort()
	if err != nil {
		return nil, err
	}
	n := &Node{p: p, home: filepath.Join(p.Dir, name+".patroni"), API: "http://" + loopback(api)}
	n.Server = &Server{
		Name: name, Host: "127.0.0.1", Port: port, SocketDir: filepath.Join(p.Dir, "run"), Version: p.bins.major,
		DataDir: filepath.Join(p.Dir, name), LogFile: n.home + ".log", cluster: &Cluster{},
	}
	if err := p.user.mkdir(n.home, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(n.home, "patroni.json") // JSON is YAML
	text, err := json.Marshal(n.configuration(loopback(api)))
	if err != nil {
		return nil, err
	}
	if err := p.user.writeFile(file, text); err != nil {
		return nil, err
	}
	if n.cmd, err = p.launch(n.home, "patroni", file); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.nodes = append(p.nodes, n)
	p.mu.Unlock()
	err = until(ctx, func() (bool, error) {
		members, err := p.Members(ctx)
		m := members[name]
		return err == nil && (m.State == "running" || m.State == "streaming"), nil // streaming since Patroni 3.1
	})
	if err == nil {
		err = until(ctx, func() (bool, error) { return n.serves(ctx), nil })
	}
	if err != nil {
		err = fmt.Errorf("node %s of Patroni does not run: %w\n%s", name, err, n.LogTail(30))
	}
	return n, err
}

func (n *Node) serves(ctx context.Context) bool {
	_, err := n.Value(ctx, "postgres", "select 1")
	return err == nil
}

// configuration is Patroni's: what it has learned it tells soon, and a crashed primary is
// succeeded at once.
// https://patroni.readthedocs.io/en/latest/yaml_configuration.html
func (n *Node) configuration(api string) any {
	type m map[string]any
	trust := []string{"local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"}
	login := func(user string) m { return m{"username": user, "password": "secret"} }
	return m{
		"scope": "pgweir", "name": n.Name,
		"restapi": m{"listen": api, "connect_address": api},
		"etcd3":   m{"host": n.p.etcd},
		"bootstrap": m{
			"dcs": m{
				"ttl": 8, "loop_wait": 1, "retry_timeout": 3, "primary_start_timeout": 0, "synchronous_mode": true,
				"postgresql": m{"use_pg_rewind": true, "parameters": m{"wal_log_hints": "on", "max_connections": 100}},
			},
			"initdb": []any{m{"encoding": "UTF8"}, m{"locale": "C"}, m{"auth": "trust"}},
		},
		"postgresql": m{
			"listen": n.Addr(), "connect_address": n.Addr(), "data_dir": n.DataDir, "bin_dir": n.p.bins.dir,
			"pgpass": filepath.Join(n.home, "pgpass"), "pg_hba": trust, "basebackup": []any{m{"checkpoint": "fast"}},
			"authentication": m{"superuser": login(Superuser), "replication": login("replicator"), "rewind": login("rewinder")},
			"parameters":     m{"unix_socket_directories": n.SocketDir, "fsync": "off", "shared_buffers": "16MB"},
		},
	}
}

// Members is what Patroni tells of all nodes, by name.
func (p *Patroni) Members(ctx context.Context) (map[string]Member, error) {
	var errs []error
	for _, n := range p.all() {
		var answer struct{ Members []Member }
		if err := p.get(ctx, n.API+"/cluster", &answer); err != nil {
			errs = append(errs, err)
			continue
		}
		members := map[string]Member{}
		for _, m := range answer.Members {
			members[m.Name] = m
		}
		return members, nil
	}
	return nil, errors.Join(errs...)
}

// Having returns a node of a role, as soon as there is one.
func (p *Patroni) Having(ctx context.Context, role string) (found *Node, err error) {
	err = until(ctx, func() (bool, error) {
		members, err := p.Members(ctx)
		if err != nil {
			return false, nil
		}
		for _, n := range p.all() {
			if members[n.Name].Role == role {
				found = n
			}
		}
		return found != nil, nil
	})
	return found, err
}

// Switchover makes the synchronous standby the leader, and returns when it is.
func (p *Patroni) Switchover(ctx context.Context) (next *Node, err error) {
	leader, err := p.Having(ctx, "leader")
	if err != nil {
		return nil, err
	}
	if next, err = p.Having(ctx, "sync_standby"); err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]string{"leader": leader.Name, "candidate": next.Name})
	if err != nil {
		return nil, err
	}
	return next, p.do(ctx, http.MethodPost, leader.API+"/switchover", body, nil)
}

// Crash ends the node's PostgreSQL server as SIGKILL does. Patroni goes on.
func (n *Node) Crash() { signalAll(processesIn(n.DataDir), unix.SIGKILL) }

// Leave stops the node's Patroni, which stops its server.
func (n *Node) Leave() error {
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	if n.cmd == nil {
		return nil
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go reap(n.cmd, done)
	n.cmd = nil
	select {
	case <-done:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("node %s of Patroni did not stop within %v", n.Name, stopTimeout)
	}
}

func (p *Patroni) all() []*Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Node(nil), p.nodes...)
}

// close ends everything at once: the watchdog kills what works in the scratch directory.
func (p *Patroni) close() error {
	err := p.guard.finish()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		if n.cmd != nil {
			_ = n.cmd.Wait()
		}
	}
	if p.store != nil {
		_ = p.store.Wait()
	}
	return err
}

func (p *Patroni) get(ctx context.Context, url string, to any) error {
	return p.do(ctx, http.MethodGet, url, nil, to)
}

func (p *Patroni) do(ctx context.Context, method, url string, body []byte, to any) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, answer)
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(answer, to)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
