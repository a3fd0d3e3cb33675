package reload

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
)

// settle is how long files are left alone after the last change: several are written one
// after the other, and a certificate without its key is a fault. Where something is written
// all the time they are read settleWithin after the first.
const (
	settle       = 500 * time.Millisecond
	settleWithin = 5 * time.Second
)

// Watch reloads when the file at path changes, or one that the configuration names, as long as
// the configuration in force says so (reload_on_change). It returns when ctx has ended. Directories are watched, not
// files: these are replaced, and in Kubernetes a link to their directory is.
func (r *Reloader) Watch(ctx context.Context, path string) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.o.Log.Warn("configuration: files cannot be watched", zap.Error(err))
		return
	}
	defer func() { _ = w.Close() }()
	due := time.NewTimer(time.Hour)
	due.Stop()
	var first time.Time // change that was not followed yet; zero for none
	changed := func() {
		if first.IsZero() {
			first = time.Now()
		}
		due.Reset(max(min(settle, settleWithin-time.Since(first)), 0))
	}
	r.watchAll(w, path)
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-w.Events:
			if !ok {
				return
			}
			changed()
		case err := <-w.Errors:
			if err != nil {
				r.o.Log.Warn("configuration: watching files", zap.Error(err))
			}
			changed() // something may have been missed
		case <-due.C:
			first = time.Time{}
			if ctx.Err() == nil && r.running().ReloadOnChange {
				_ = r.reload(ifChanged) // it says in the log what is wrong
				r.watchAll(w, path)
			}
		}
	}
}

// watchAll watches the directories of all files concerned. One that is watched already stays so.
func (r *Reloader) watchAll(w *fsnotify.Watcher, path string) {
	running := r.running()
	for _, f := range append(running.Files(), path) {
		if err := w.Add(filepath.Dir(f)); err != nil {
			r.o.Log.Warn("configuration: a directory cannot be watched", zap.String("directory", filepath.Dir(f)), zap.Error(err))
		}
	}
}

func (r *Reloader) running() config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.o.Running
}
