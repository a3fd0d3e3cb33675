// Package archive keeps snapshots of package insight in files: lines of JSON, compressed by
// Zstandard (RFC 8878) with a checksum. The first line is the snapshot's head, with the number of
// lines that follow; each of those is a statement, a route or a pattern. So a file that was cut
// off or damaged is told from one that is whole.
//
// A Dir is a directory of such files, bounded in number and bytes. Files appear there whole or
// not at all.
package archive

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/pgweir/pgweir/insight"
)

// format is the version of the lines.
const format = 1

// maxDecoded and maxLine bound what is read of a file that is not to be trusted, in bytes.
const (
	maxDecoded = 256 << 20
	maxLine    = 1 << 20
)

// head is the first line.
type head struct {
	Format int `json:"pgweir_insight"`
	Lines  int `json:"lines"`
	insight.Snapshot
}

// line is one of those that follow: one of its fields is there.
type line struct {
	Statement *insight.Counted     `json:"statement,omitempty"`
	Route     *insight.RouteCounts `json:"route,omitempty"`
	Pattern   *insight.Pattern     `json:"pattern,omitempty"`
}

// Write writes a snapshot.
func Write(w io.Writer, s *insight.Snapshot) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	if err != nil {
		return err
	}
	out := json.NewEncoder(z)
	err = out.Encode(head{format, len(s.Statements) + len(s.Routes) + len(s.Patterns), *s})
	for i := 0; err == nil && i < len(s.Statements); i++ {
		err = out.Encode(line{Statement: &s.Statements[i]})
	}
	for i := 0; err == nil && i < len(s.Routes); i++ {
		err = out.Encode(line{Route: &s.Routes[i]})
	}
	for i := 0; err == nil && i < len(s.Patterns); i++ {
		err = out.Encode(line{Pattern: &s.Patterns[i]})
	}
	return errors.Join(err, z.Close())
}

// Read reads a snapshot that Write wrote, and nothing else.
func Read(r io.Reader) (*insight.Snapshot, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDecoded), zstd.WithDecoderMaxWindow(16<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	lines := bufio.NewScanner(io.LimitReader(z, maxDecoded))
	lines.Buffer(nil, maxLine)
	var h head
	if !lines.Scan() {
		return nil, cmp.Or(lines.Err(), io.ErrUnexpectedEOF)
	}
	if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Format == 0 {
		return nil, errors.New("no snapshot of insight")
	}
	if h.Format != format {
		return nil, fmt.Errorf("a snapshot of another version of pgweir (format %d)", h.Format)
	}
	n := 0
	for ; lines.Scan(); n++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+2, err)
		}
		switch {
		case l.Statement != nil:
			h.Statements = append(h.Statements, *l.Statement)
		case l.Route != nil:
			h.Routes = append(h.Routes, *l.Route)
		case l.Pattern != nil:
			h.Patterns = append(h.Patterns, *l.Pattern)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if n != h.Lines {
		return nil, io.ErrUnexpectedEOF
	}
	return &h.Snapshot, nil
}

// Is reports whether data begins as a snapshot does.
func Is(data []byte) bool { return len(data) >= 4 && string(data[:4]) == "\x28\xb5\x2f\xfd" }

// Sum adds up snapshots: of one instance over time, or of several. One that was added before,
// by its ID, is left out.
type Sum struct {
	Book *insight.Book
	snap insight.Snapshot
	ids  map[string]bool
}

// NewSum begins with nothing. It keeps as many statements as there are, whatever o says.
func NewSum(o insight.Options) *Sum {
	const all = 1 << 40
	o.MaxStatements, o.MaxBytes = all, all
	return &Sum{Book: insight.New(o), ids: map[string]bool{}}
}

// Add adds a snapshot, and reports whether it was not added before.
func (s *Sum) Add(x *insight.Snapshot) bool {
	if x.ID != "" && s.ids[x.ID] {
		return false
	}
	s.ids[x.ID] = true
	s.Book.Add(x)
	s.Cover(x.Begin, x.End)
	s.snap.Lag.Add(x.Lag)
	return true
}

// Cover says that something was counted in a period.
func (s *Sum) Cover(begin, end time.Time) {
	if s.snap.Begin.IsZero() || !begin.IsZero() && begin.Before(s.snap.Begin) {
		s.snap.Begin = begin
	}
	if end.After(s.snap.End) {
		s.snap.End = end
	}
}

// Snapshot is what was added.
func (s *Sum) Snapshot() *insight.Snapshot {
	x := s.Book.Snapshot()
	x.Begin, x.End, x.Lag = s.snap.Begin, s.snap.End, s.snap.Lag
	return x
}
