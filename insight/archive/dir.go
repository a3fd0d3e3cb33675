package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/insight"
)

// Dir is a directory of snapshots: periods, which make room for new ones as they grow old, and
// baselines, which have names. One goroutine uses it at a time; other processes may use the
// same directory meanwhile.
type Dir struct {
	path  string
	files int   // periods that are kept
	bytes int64 // that they may take
}

// Names of files.
const (
	period   = "period-"
	baseline = "baseline-"
	suffix   = ".zst"
	unready  = ".tmp"
)

// abandoned is how old a file is that nobody writes any more.
const abandoned = time.Hour

// Open opens a directory, which it makes if there is none, for its owner only.
func Open(path string, files int, bytes int64) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	d := &Dir{path, files, bytes}
	left, err := d.list("", unready)
	for _, f := range left {
		if time.Since(f.modified) > abandoned {
			err = errors.Join(err, remove(f.path))
		}
	}
	return d, err
}

// remove removes a file, which another process may have done.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$`)

// CheckName says what is wrong with the name of a baseline.
func CheckName(name string) error {
	if !goodName.MatchString(name) {
		return fmt.Errorf("%q is no name of a baseline: letters, digits, '.', '_' and '-', at most 80", name)
	}
	return nil
}

// SavePeriod keeps a period. After an error it is not there.
func (d *Dir) SavePeriod(s *insight.Snapshot) error {
	return d.save(period+s.End.UTC().Format("20060102T150405.000Z")+"-"+s.ID, s)
}

// Prune removes old periods that have no room.
func (d *Dir) Prune() error {
	files, err := d.list(period, suffix)
	slices.Reverse(files)
	var bytes int64
	for i, f := range files {
		if bytes += f.size; i > 0 && (i >= d.files || bytes > d.bytes) {
			err = errors.Join(err, remove(f.path))
		}
	}
	return err
}

// SaveBaseline keeps a baseline in place of one of that name.
func (d *Dir) SaveBaseline(s *insight.Snapshot) error { return d.save(baseline+s.Name, s) }

// RemoveBaseline removes one.
func (d *Dir) RemoveBaseline(name string) error {
	return remove(filepath.Join(d.path, baseline+name+suffix))
}

// CopyBaseline writes a baseline's file to w.
func (d *Dir) CopyBaseline(w io.Writer, name string) error {
	f, err := os.Open(filepath.Join(d.path, baseline+name+suffix))
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

// save writes a file that is there whole or not at all, whatever ends the process or the host.
func (d *Dir) save(name string, s *insight.Snapshot) (err error) {
	path := filepath.Join(d.path, name+suffix)
	f, err := os.CreateTemp(d.path, name+"-*"+unready) // for its owner only
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(f.Name()))
		}
	}()
	if err := errors.Join(Write(f, s), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := d.sync(); err != nil {
		return errors.Join(err, remove(path))
	}
	return nil
}

// sync makes names of files last.
func (d *Dir) sync() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

type file struct {
	path, name string
	size       int64
	modified   time.Time
}

// list are the files whose names begin and end so, by name.
func (d *Dir) list(prefix, suffix string) (all []file, err error) {
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		name, isKind := strings.CutPrefix(e.Name(), prefix)
		name, ends := strings.CutSuffix(name, suffix)
		if !isKind || !ends {
			continue
		}
		if info, err := e.Info(); err == nil { // else another process has removed it
			all = append(all, file{filepath.Join(d.path, e.Name()), name, info.Size(), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(x, y file) int { return cmp.Compare(x.name, y.name) })
	return all, err
}

// Periods reads all periods, the oldest first. Of one that cannot be read, each gets the error.
func (d *Dir) Periods(each func(*insight.Snapshot, error)) error { return d.read(period, each) }

// ReadDir reads the periods of a directory as Periods does, and changes nothing there.
func ReadDir(path string, each func(*insight.Snapshot, error)) error {
	return (&Dir{path: path}).Periods(each)
}

// Baselines reads all baselines as Periods does, by name.
func (d *Dir) Baselines(each func(*insight.Snapshot, error)) error { return d.read(baseline, each) }

func (d *Dir) read(prefix string, each func(*insight.Snapshot, error)) error {
	files, err := d.list(prefix, suffix)
	if err != nil {
		return err
	}
	for _, f := range files {
		s, err := ReadFile(f.path)
		if errors.Is(err, os.ErrNotExist) {
			continue // another process has removed it
		}
		each(s, err)
	}
	return nil
}

// ReadFile reads a snapshot from a file. Errors name it.
func ReadFile(path string) (*insight.Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	s, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}
