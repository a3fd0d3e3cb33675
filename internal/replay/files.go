package replay

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/internal/progress"
	"github.com/pgweir/pgweir/internal/statements"
)

// Files are files to be looked at: snapshots of a proxy, directories of them, and what holds
// statements, in the format Input. "-" is Stdin. Progress hears of what is skipped, and every
// interval (progress.Interval if zero) of long work.
type Files struct {
	Names           []string
	Input           statements.Format
	Exempt, Columns []string
	Stdin           io.Reader
	Progress        io.Writer
	Interval        time.Duration
}

// Counted is what the files show. Proxies is that some are a proxy's, which knows where
// statements ran.
func (f *Files) Counted() (sum *archive.Sum, proxies bool, err error) {
	r := &reading{Replay: New(f.Exempt, f.Columns), Files: f}
	for _, name := range f.Names {
		if err := r.read(name); err != nil {
			return nil, false, err
		}
	}
	r.End()
	return r.Sum, r.proxies, nil
}

// reading is the looking at files.
type reading struct {
	*Replay
	*Files
	proxies bool
}

// read looks at one file, or at all snapshots of a directory.
func (r *reading) read(name string) error {
	meter := progress.Meter{To: r.Progress, Every: r.Interval}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		n := 0
		return archive.ReadDir(name, func(s *insight.Snapshot, err error) {
			if err != nil {
				_, _ = fmt.Fprintf(r.Progress, "skipped: %v\n", err)
				return
			}
			r.add(s, name)
			n++
			meter.Tell("%s: %d periods", name, n)
		})
	}
	shown, data, err := r.data(name)
	if err != nil {
		return fmt.Errorf("read statements: %w", err)
	}
	if archive.Is(data) {
		s, err := archive.Read(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("%s: %w", shown, err)
		}
		r.add(s, shown)
		return nil
	}
	list, err := statements.Read(shown, data, r.Input)
	if err != nil {
		return err
	}
	for i := range list {
		r.Add(&list[i])
		meter.Tell("%s: %d of %d statements", shown, i+1, len(list))
	}
	return nil
}

// add adds a snapshot, and says if it was there before.
func (r *reading) add(s *insight.Snapshot, name string) {
	r.proxies = true
	if !r.Sum.Add(s) {
		_, _ = fmt.Fprintf(r.Progress, "%s: a period that another file has, too, is counted once\n", name)
	}
}

func (r *reading) data(name string) (shown string, data []byte, err error) {
	if name == "-" {
		data, err = io.ReadAll(r.Stdin)
		return "stdin", data, err
	}
	data, err = os.ReadFile(name)
	return name, data, err
}
