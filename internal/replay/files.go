package replay

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/internal/statements"
)

// Files are files to be looked at: snapshots of a proxy, directories of them, and what holds
// statements, in the format Input. "-" is Stdin. Progress hears of long work, and of what is
// skipped.
type Files struct {
	Names           []string
	Input           statements.Format
	Exempt, Columns []string
	Stdin           io.Reader
	Progress        io.Writer
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

// progressEvery is how often long work says how far it is.
const progressEvery = 2 * time.Second

// read looks at one file, or at all snapshots of a directory.
func (r *reading) read(name string) error {
	next := time.Now().Add(progressEvery)
	tell := func(format string, args ...any) {
		if time.Now().After(next) {
			next = time.Now().Add(progressEvery)
			_, _ = fmt.Fprintf(r.Progress, format, args...)
		}
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		n := 0
		return archive.ReadDir(name, func(s *insight.Snapshot, err error) {
			if err != nil {
				_, _ = fmt.Fprintf(r.Progress, "skipped: %v\n", err)
				return
			}
			r.add(s, name)
			n++
			tell("%s: %d periods\n", name, n)
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
		if i%100 == 0 {
			tell("%s: %d of %d statements\n", shown, i, len(list))
		}
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
