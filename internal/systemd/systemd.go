// Package systemd is what a service manager passes to this process and is told by it:
// sockets, that the service is ready, reloads, stops or is alive. Without one nothing happens.
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Listeners are the sockets that were passed, once. They stay systemd's: the file of a
// Unix-domain socket is not removed with one.
func Listeners() ([]net.Listener, error) {
	listeners, err := activation.Listeners()
	for i, l := range listeners {
		if l == nil {
			err = errors.Join(err, fmt.Errorf("socket %d that systemd passed cannot be listened on: ListenStream= is what is wanted", i))
		}
	}
	return listeners, err
}

// Ready says that the service is ready, or is so again after Reloading.
func Ready() { tell(daemon.SdNotifyReady) }

// Reloading says that the configuration is being read; Ready must follow.
func Reloading() {
	tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the service is ending.
func Stopping() { tell(daemon.SdNotifyStopping) }

// Succeeded says that another process is the service from now on.
func Succeeded(by int) { tell(fmt.Sprintf("MAINPID=%d\n%s", by, daemon.SdNotifyReady)) }

// tell sends a message. That nobody hears it changes nothing: the manager has a timeout for
// everything it waits for.
func tell(state string) { _, _ = daemon.SdNotify(false, state) }

// Watchdog tells the service manager regularly that the service is alive, as long as it is, until ctx
// ends. It returns at once if none wants to hear it.
func Watchdog(ctx context.Context, alive func() error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	ticker := time.NewTicker(interval / 3)
	defer ticker.Stop()
	for {
		if alive() == nil {
			tell(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
