package config

import (
	"path/filepath"
	"time"
)

// Succession is how a process goes on by other configurations, how it ends, and how another one serves beside or after it. It only groups keys.
type Succession struct {
	// ReloadOnChange has the configuration read again when its file changes, or one that it
	// names, or anything else in their directories.
	ReloadOnChange bool `yaml:"reload_on_change"`
	// DrainDelay is how long after SIGTERM clients are still served and let in, while
	// /readyz says already that they should not come any more.
	DrainDelay time.Duration `yaml:"drain_delay"`
	// ShutdownTimeout is how long running transactions may take after that.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
	// ReusePort lets other processes listen on the same TCP addresses; the kernel shares the
	// clients among them (SO_REUSEPORT).
	ReusePort bool    `yaml:"reuse_port" reload:"restart"`
	Upgrade   Upgrade `yaml:"upgrade"`
	// Peers are the addresses that other instances of the service listen on, host:port; a
	// name stands for all its addresses, and this instance's own may be among them. It is
	// asked of them whose session a cancel request is for, and Routing.SoleWriter is false.
	Peers Addresses `yaml:"peers"`
}

// Upgrade is how a new process takes over from the one before.
type Upgrade struct {
	// Socket is the path that the Unix-domain sockets begin with by which processes of one
	// service find each other; empty turns that off.
	Socket string `yaml:"socket" reload:"restart"`
	// Timeout is how long a process that was taken over from serves the clients it has; then
	// it ends as after SIGTERM. 0 is as long as they stay.
	Timeout time.Duration `yaml:"timeout"`
}

// maxUpgradeSocket is how long upgrade.socket may be: what is put behind it must fit into a
// socket's path too.
const maxUpgradeSocket = 107 - len(".01234567")

func (u Upgrade) check(fs *Faults) {
	switch {
	case u.Socket == "":
	case !filepath.IsAbs(u.Socket):
		fs.add("upgrade.socket", "%q must be an absolute path, such as /run/pgweir/upgrade", u.Socket)
	case len(u.Socket) > maxUpgradeSocket:
		fs.add("upgrade.socket", "is longer than %d bytes", maxUpgradeSocket)
	}
}
