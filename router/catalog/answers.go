package catalog

import (
	"encoding/binary"
	"strings"
)

// answer is what a query said, kept for the next load. It is no less than what would be
// said then as long as the catalogs that it is made from are as they were.
type answer struct {
	of   string // their fingerprints
	rows []byte // each value with its length before it; -1 is NULL
}

// maxAnswer bounds an answer that is kept, in bytes: a catalog of PostgreSQL's own objects
// is, one of very many tables is read again.
const maxAnswer = 1 << 20

// fingerprints are those of the parts of the catalog, by their names.
type fingerprints map[string]string

// of are the fingerprints of several parts; empty if one is not known.
func (f fingerprints) of(parts string) string {
	var b strings.Builder
	for part := range strings.FieldsSeq("base " + parts) {
		v, ok := f[part]
		if !ok {
			return ""
		}
		b.WriteString(v + "/")
	}
	return b.String()
}

// kept is read for a query whose answer follows from the given parts of the catalog: where
// they have not changed, the answer of the load before is taken.
func (l *loader) kept(what, parts, sql string, width int, f func(row)) {
	of := l.parts.of(parts)
	if a, ok := l.before[what]; ok && of != "" && a.of == of && l.err == nil {
		l.answers[what] = a
		a.each(width, f)
		return
	}
	a := answer{of: of}
	l.read(what, sql, width, func(r row) {
		if len(a.rows) <= maxAnswer {
			a.add(r)
		}
		f(r)
	})
	if l.err == nil && of != "" && len(a.rows) <= maxAnswer {
		l.answers[what] = a
	}
}

func (a *answer) add(r row) {
	for _, v := range r {
		if v == nil {
			a.rows = binary.BigEndian.AppendUint32(a.rows, 1<<32-1)
			continue
		}
		a.rows = binary.BigEndian.AppendUint32(a.rows, uint32(len(v)))
		a.rows = append(a.rows, v...)
	}
}

func (a *answer) each(width int, f func(row)) {
	r := make(row, width)
	for rest := a.rows; len(rest) > 0; {
		for i := range r {
			n := binary.BigEndian.Uint32(rest)
			rest = rest[4:]
			if r[i] = nil; n != 1<<32-1 {
				r[i], rest = rest[:n:n], rest[n:]
			}
		}
		f(r)
	}
}
