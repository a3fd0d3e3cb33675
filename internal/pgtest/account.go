package pgtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is who the servers run as and who owns their files.
type account struct {
	name     string
	uid, gid int
	other    bool // not the user of this process
}

// currentAccount is the user of this process, or, as PostgreSQL refuses to run as
// root, the user postgres or nobody.
func currentAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return account{}, err
		}
		gid, err := strconv.Atoi(u.Gid)
		return account{name: name, uid: uid, gid: gid, other: true}, err
	}
	return account{}, errors.New("PostgreSQL refuses to run as root and there is neither a user postgres nor nobody: run as another user")
}

// command prepares a program to run as the account, in a session of its own so
// that an interrupt from the terminal does not reach it.
func (a account) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	for _, kv := range os.Environ() {
		// Nothing of the caller's own PostgreSQL setup may leak in.
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return cmd
}

func (a account) own(path string) error {
	if !a.other {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

func (a account) mkdir(path string, mode fs.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		return err
	}
	return a.own(path)
}

func (a account) writeFile(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return a.own(path)
}

// copyTree copies a stopped data directory to a new place and gives it to the account.
func (a account) copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return a.mkdir(target, 0o700)
		}
		if err := copyFile(path, target); err != nil {
			return err
		}
		return a.own(target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// maxSocketDir leaves room for "/.s.PGSQL.12345.lock" and "/run" in the 107 bytes
// of a socket address.
const maxSocketDir = 80

// memoryDir is the file system in memory that every Linux has. Making the thousand
// files of a data directory takes a hundredth of a second there, and a second on some disks.
const memoryDir = "/dev/shm"

// enoughMemory is what a file system in memory must have free, in bytes: a container
// often gives it 64 MB.
const enoughMemory = 4 << 30

// defaultParents are where scratch directories may go, best first. $TMPDIR is the
// user's own word and comes before everything.
func defaultParents() []string {
	parents := []string{os.TempDir(), "/tmp"}
	var fs unix.Statfs_t
	if os.Getenv("TMPDIR") != "" || unix.Statfs(memoryDir, &fs) != nil {
		return parents
	}
	if fs.Type == unix.TMPFS_MAGIC && fs.Bavail*uint64(fs.Bsize) >= enoughMemory {
		return append([]string{memoryDir}, parents...)
	}
	return parents
}

// makeScratch makes the scratch directory. Its path has no symbolic links, because
// processes are recognised by their working directories.
func makeScratch(parent string, a account) (string, error) {
	candidates := []string{parent}
	if parent == "" {
		candidates = defaultParents()
	}
	var why error
	for _, p := range candidates {
		p, err := filepath.EvalSymlinks(p)
		if err == nil {
			p, err = filepath.Abs(p)
		}
		if err == nil {
			err = suits(p, a)
		}
		if err != nil {
			why = errors.Join(why, err)
			continue
		}
		dir, err := os.MkdirTemp(p, "pgweir-")
		if err != nil {
			return "", err
		}
		return dir, os.Chmod(dir, 0o755)
	}
	return "", fmt.Errorf("no place for a scratch directory: %w", why)
}

func suits(dir string, a account) error {
	if len(dir)+len("/pgweir-1234567890") > maxSocketDir {
		return fmt.Errorf("%s is too long a path for Unix-domain sockets: choose a shorter one", dir)
	}
	if !a.other {
		return nil
	}
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("the servers run as user %s, who may not enter %s: choose another directory", a.name, d)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}
