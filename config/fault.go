package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration, or one thing to warn of.
type Fault struct {
	Line int    // in the file, from 1; 0 when the fault has no place in it
	Path string // the key, as in "clusters.main.servers[1].address"; may be empty
	Text string // what is wrong and what would be right
}

// String is the fault on one line.
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults is everything found wrong at once, in the order of the file. It is the
// error Parse returns; it is never an empty non-nil error.
type Faults []Fault

// Error is one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// add notes a fault without a line; Parse finds the line by the path.
func (fs *Faults) add(path, format string, args ...any) {
	*fs = append(*fs, Fault{Path: path, Text: fmt.Sprintf(format, args...)})
}

func (fs Faults) sorted() Faults {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path)) // those of one key, such as auth.hba_file, are in its order
	})
	return slices.Compact(fs)
}

// err is nil for no faults: a nil Faults in an error would not be nil.
func (fs Faults) err() error {
	if len(fs) == 0 {
		return nil
	}
	return fs.sorted()
}

// related reports whether one of two paths is the other or lies inside it.
func related(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return strings.HasPrefix(b, a) && (len(a) == len(b) || b[len(a)] == '.' || b[len(a)] == '[')
}

// parent is the path one step out; empty for a key at the top.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
