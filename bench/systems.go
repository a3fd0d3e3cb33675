package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// The systems compared.
const (
	direct    = "direct"
	pgbouncer = "pgbouncer"
	pgweir    = "pgweir"
	base      = "base" // an older pgweir
)

// title is a system's name for people.
func title(system string) string {
	return map[string]string{direct: "direct", pgbouncer: "PgBouncer", pgweir: "pgweir", base: "base"}[system]
}

// system is one way to the servers: an address and, unless it is the primary itself,
// the process behind it.
type system struct {
	name     string
	addr     string
	http     string // of pgweir's metrics
	version  string
	prepared bool // prepared statements work under transaction pooling

	cmd    *exec.Cmd
	output *os.File
	ended  chan struct{} // closed when the process has ended
}

// start starts a system. It may be called again for a further instance.
func (l *lab) start(ctx context.Context, name string) (*system, error) {
	if name == direct {
		return &system{name: name, addr: l.cluster.Primary.Addr(), prepared: true}, nil
	}
	begin := l.startPgweir
	if name == pgbouncer {
		begin = l.startPgbouncer
	}
	s, err := begin(ctx, name)
	return s.up(ctx, name, err)
}

// up returns a system that was started once it answers.
func (s *system) up(ctx context.Context, name string, err error) (*system, error) {
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := s.ready(ctx); err != nil {
		s.stop()
		return nil, fmt.Errorf("start %s: %w\n%s", name, err, s.tail())
	}
	progress("%s is up on %s, process %d", name, s.addr, s.pid())
	return s, nil
}

// startPgbouncer starts Debian's PgBouncer with the least it needs beside its defaults.
func (l *lab) startPgbouncer(ctx context.Context, name string) (*system, error) {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer"
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w: install the package pgbouncer", path, err)
	}
	s := &system{name: name}
	s.version, _, _ = strings.Cut(string(out), "\n")
	s.prepared = poolsPrepared(s.version)
	if s.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(s.addr) // it was just made
	ini := filepath.Join(l.dir, "pgbouncer-"+port+".ini")
	users := filepath.Join(l.dir, "userlist.txt")
	err = errors.Join(
		os.WriteFile(users, []byte(strconv.Quote(role)+` ""`+"\n"), 0o644),
		os.WriteFile(ini, []byte(l.bouncerConfig(port, users, s.prepared)), 0o644),
	)
	if err != nil {
		return nil, err
	}
	return s, l.run(s, []string{path, ini}, nil)
}

func (l *lab) bouncerConfig(port, users string, prepared bool) string {
	p := l.cluster.Primary
	text := fmt.Sprintf(`[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = %d
max_client_conn = 5000
`, p.Host, p.Port, port, users, l.options.poolSize)
	if prepared {
		text += "max_prepared_statements = 500\n"
	}
	return text
}

// poolsPrepared tells from "PgBouncer 1.18.0" whether it is 1.21 or later, the first
// version to follow prepared statements in transaction mode.
func poolsPrepared(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "PgBouncer %d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 1 || minor >= 21
}

// startPgweir starts pgweir with its smallest configuration.
func (l *lab) startPgweir(ctx context.Context, name string) (*system, error) {
	return l.startWeir(ctx, name, l.cluster.Servers(), "")
}

// startWeir starts pgweir with some servers and further lines of configuration.
func (l *lab) startWeir(ctx context.Context, name string, servers []*pgtest.Server, more string) (*system, error) {
	s := &system{name: name, prepared: true}
	path, err := l.weirBinary(ctx, name)
	if err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, path, "version").Output(); err == nil {
		s.version, _, _ = strings.Cut(string(out), "\n")
		if name == base {
			s.version = "base: " + s.version
		}
	}
	if s.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	if s.http, err = freeAddr(); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(s.addr) // it was just made
	file := filepath.Join(l.dir, "pgweir-"+port+".yaml")
	if err := os.WriteFile(file, []byte(l.weirConfig(s, servers)+more), 0o644); err != nil {
		return nil, err
	}
	args := []string{path, "serve", "--config", file}
	if l.options.wants("profile") {
		args = append(args, "--pprof")
	}
	var env []string
	if name == pgweir {
		env = l.options.weirEnv
	}
	return s, l.run(s, args, env)
}

func (l *lab) weirBinary(ctx context.Context, name string) (string, error) {
	given := l.options.binary
	if name == base {
		given = l.options.baseBinary
	}
	if given != "" {
		return filepath.Abs(given)
	}
	return l.buildPgweir(ctx)
}

func (l *lab) weirConfig(s *system, servers []*pgtest.Server) string {
	var addresses []string
	for _, server := range servers {
		addresses = append(addresses, server.Addr())
	}
	text := fmt.Sprintf("listen: %s\nhttp: %s\nservers: [%s]\nauth: {method: trust}\n",
		s.addr, s.http, strings.Join(addresses, ", "))
	if l.options.poolSize != 20 { // the default
		text += fmt.Sprintf("pool: {size: %d}\n", l.options.poolSize)
	}
	return text
}

// run starts a system's process in the lab's directory. PgBouncer refuses to run as
// root, so under root every proxy runs as the servers' user.
func (l *lab) run(s *system, args, env []string) error {
	output, err := os.CreateTemp(l.dir, s.name+"-*.log")
	if err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt is this process's matter
	if cmd.SysProcAttr.Credential, err = ordinaryUser(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errors.Join(err, output.Close())
	}
	s.cmd, s.output, s.ended = cmd, output, make(chan struct{})
	go s.reap()
	return nil
}

func ordinaryUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}

func (s *system) reap() {
	_ = s.cmd.Wait() // how it ended is told by its log
	close(s.ended)
}

func (s *system) pid() int { return s.cmd.Process.Pid }

// cpu is the probe of the system's process.
func (s *system) cpu() probe {
	if s.cmd == nil {
		return nothing
	}
	return cpuOf(s.pid())
}

// stop ends the process, if there is one, and waits for its end.
func (s *system) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case <-s.ended:
	case <-patience.C:
		progress("%s does not stop and is killed", s.name)
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	_ = s.output.Close() // only ever written by the process
}

// tail is the end of what the process wrote.
func (s *system) tail() string {
	text, err := os.ReadFile(s.output.Name())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

// ready returns when a query through the system succeeds.
func (s *system) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.tryQuery(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer to a query: %w", err)
		case <-s.ended:
			return errors.New("the process ended")
		case <-tick.C:
		}
	}
}

func (s *system) tryQuery(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "select count(*) from pgbench_branches").ReadAll()
	return err
}

// connect logs in through the system.
func (s *system) connect(ctx context.Context) (*pgconn.PgConn, error) {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return nil, err
	}
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable", host, port, role, database))
}
