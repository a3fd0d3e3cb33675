package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// StopMode is one of PostgreSQL's ways to shut down.
type StopMode syscall.Signal

// The modes of pg_ctl stop.
const (
	Smart     = StopMode(syscall.SIGTERM) // waits for all clients to leave
	Fast      = StopMode(syscall.SIGINT)  // ends all clients, writes a checkpoint
	Immediate = StopMode(syscall.SIGQUIT) // ends at once, recovers at the next start
)

// stopTimeout is how long a server may take to stop before it is killed.
const stopTimeout = 30 * time.Second

// Server is one PostgreSQL server of a Cluster. Its methods may be called concurrently.
type Server struct {
	Name      string // also its cluster_name and, for a replica, its application_name
	Host      string // always 127.0.0.1
	Port      int
	SocketDir string
	DataDir   string
	LogFile   string
	Version   string // the major version

	cluster *Cluster

	mu   sync.Mutex // protects the fields below
	cmd  *exec.Cmd  // nil while the server is stopped
	kept *pgx.Conn  // see onKept
}

func (c *Cluster) newServer(name string) *Server {
	return &Server{
		Name: name, Host: "127.0.0.1", SocketDir: c.SocketDir, Version: c.bins.major,
		DataDir: filepath.Join(c.Dir, name),
		LogFile: filepath.Join(c.Dir, name+".log"),
		cluster: c,
	}
}

// Addr is the server's address, host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// PID is the process id of the postmaster, 0 while the server is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// first configures and starts the server for the first time. Another process may
// take the chosen port before the server does; then it tries another.
func (s *Server) first(ctx context.Context, upstream *Server) error {
	var err error
	for range 5 {
		if s.Port, err = freePort(); err != nil {
			return err
		}
		if err = s.configure(upstream); err != nil {
			return err
		}
		err = s.Start(ctx)
		if err == nil || !strings.Contains(s.LogTail(20), "already in use") {
			return err
		}
	}
	return err
}

// Start starts a stopped server and returns when it accepts connections. If it
// fails the server is stopped and the error holds the end of its log.
func (s *Server) Start(ctx context.Context) error {
	if err := s.launch(); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	if err := s.WaitReady(ctx); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w\n%s", s.Name, err, s.LogTail(20)), s.Kill())
	}
	return nil
}

// launch starts a stopped server without waiting until it accepts connections.
func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("is running already")
	}
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.cluster.user.command(s.cluster.bins.path("postgres"), "-D", s.DataDir)
	cmd.Dir = s.DataDir // by which the watchdog knows the process from its first moment
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	return nil
}

// WaitReady returns when the server accepts connections, or an error when its
// process has ended.
func (s *Server) WaitReady(ctx context.Context) error {
	return until(ctx, func() (bool, error) {
		if s.exited() {
			return false, errors.New("the server ended")
		}
		conn, err := s.connect(ctx, "postgres")
		if err != nil {
			return false, nil
		}
		return true, conn.Close(ctx)
	})
}

// exited tells whether the postmaster is gone; it leaves the collecting to Stop.
func (s *Server) exited() bool {
	pid := s.PID()
	if pid == 0 {
		return true
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

// Stop stops the server and waits for its end. A server that does not stop within
// 30 seconds is killed, which is an error. Stopping a stopped server does nothing.
func (s *Server) Stop(mode StopMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	if s.kept != nil { // a smart one waits for it
		_ = s.kept.PgConn().Conn().Close()
		s.kept = nil
	}
	// A frozen process would not see the signal.
	signalAll(processesIn(s.DataDir), unix.SIGCONT)
	_ = s.cmd.Process.Signal(syscall.Signal(mode)) // it may have ended by itself
	cmd := s.cmd
	s.cmd = nil
	done := make(chan struct{})
	go reap(cmd, done)
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-done:
		return nil
	case <-timeout.C:
		killTree(cmd.Process, s.DataDir)
		<-done
		return fmt.Errorf("%s did not stop within %v and was killed", s.Name, stopTimeout)
	}
}

func reap(cmd *exec.Cmd, done chan<- struct{}) {
	_ = cmd.Wait() // an exit status is the log's matter
	close(done)
}

// Kill ends the postmaster and all its children with SIGKILL, as a crash would.
// Start recovers the server.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	killTree(s.cmd.Process, s.DataDir)
	_ = s.cmd.Wait()
	s.cmd = nil
	return nil
}

// Restart stops the server and starts it on the same port.
func (s *Server) Restart(ctx context.Context, mode StopMode) error {
	if err := s.Stop(mode); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Freeze halts all processes of the server with SIGSTOP: connections stay open
// and nothing answers, as with a machine that hangs. Thaw undoes it.
func (s *Server) Freeze() {
	if pid := s.PID(); pid != 0 {
		// The postmaster first, or it could start further processes.
		signalAll([]int{pid}, unix.SIGSTOP)
		signalAll(processesIn(s.DataDir), unix.SIGSTOP)
	}
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { signalAll(processesIn(s.DataDir), unix.SIGCONT) }

// killTree kills a postmaster, then the children it leaves behind.
func killTree(postmaster *os.Process, dataDir string) {
	_ = postmaster.Kill()
	for {
		pids := processesIn(dataDir)
		signalAll(pids, unix.SIGKILL)
		// A killed postmaster stays visible until it is waited for, without a
		// working directory, so only its children are counted here.
		if len(pids) == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func signalAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = unix.Kill(pid, sig) // it may have ended meanwhile
	}
}

// processesIn finds the processes whose working directory is dir: every process of
// a PostgreSQL server works in its data directory.
func processesIn(dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cwd, err := os.Readlink("/proc/" + e.Name() + "/cwd")
		if err == nil && strings.TrimSuffix(cwd, " (deleted)") == dir {
			pids = append(pids, pid)
		}
	}
	return pids
}

// LogTail returns the last n lines of the server's log.
func (s *Server) LogTail(n int) string {
	data, err := os.ReadFile(s.LogFile)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
