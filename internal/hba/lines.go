package hba

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// maxDepth bounds files that include files, as PostgreSQL does.
const maxDepth = 10

// Read returns what is in a file.
type Read func(path string) ([]byte, error)

// reader takes files apart into lines of fields, each a list of tokens.
type reader struct {
	read   Read
	lines  []line
	faults []Fault
}

type line struct {
	file   string
	number int
	text   string
	fields [][]token
}

func (r *reader) fault(file string, number int, format string, args ...any) {
	r.faults = append(r.faults, Fault{file, number, fmt.Sprintf(format, args...)})
}

// file reads a file and those it includes.
func (r *reader) file(path string, depth int) {
	data, err := r.read(path)
	if err != nil {
		r.fault(path, 0, "%v", err)
		return
	}
	number, from, text := 0, 1, ""
	for part := range strings.Lines(string(data)) {
		number++
		part = strings.TrimRight(part, "\r\n")
		if continued, ok := strings.CutSuffix(part, `\`); ok {
			text += continued
			continue
		}
		r.line(path, from, text+part, depth)
		from, text = number+1, ""
	}
	if text != "" {
		r.line(path, from, text, depth)
	}
}

// line reads a line, which may have been several.
func (r *reader) line(path string, number int, text string, depth int) {
	l := line{file: path, number: number, text: strings.Join(strings.Fields(text), " ")}
	for rest := text; ; {
		field, more, err := r.field(path, rest, depth)
		if err != nil {
			r.fault(path, number, "%v", err)
			return
		}
		if len(field) == 0 {
			break
		}
		l.fields = append(l.fields, field)
		rest = more
	}
	if len(l.fields) == 0 || r.include(l, depth) {
		return
	}
	r.lines = append(r.lines, l)
}

// include carries out a directive, and reports whether the line is one.
func (r *reader) include(l line, depth int) bool {
	directive := l.fields[0][0]
	if !directive.is("include") && !directive.is("include_if_exists") && !directive.is("include_dir") {
		return false
	}
	switch {
	case directive.is("include_dir"):
		r.fault(l.file, l.number, "include_dir is not served; name the files by include")
	case len(l.fields) != 2 || len(l.fields[1]) != 1:
		r.fault(l.file, l.number, "%s wants one file", directive.text)
	case depth >= maxDepth:
		r.fault(l.file, l.number, "more than %d files deep", maxDepth)
	default:
		path := beside(l.file, l.fields[1][0].text)
		if _, err := r.read(path); directive.is("include_if_exists") && errors.Is(err, fs.ErrNotExist) {
			return true
		}
		r.file(path, depth+1)
	}
	return true
}

// beside is a path that a file names.
func beside(file, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// field reads tokens with commas between them; no token is the end of the line.
func (r *reader) field(file, text string, depth int) (list []token, rest string, err error) {
	for {
		t, comma, more, ok := nextToken(text)
		if !ok {
			return list, "", nil
		}
		text = more
		if !t.quoted && strings.HasPrefix(t.text, "@") && len(t.text) > 1 {
			names, err := r.names(beside(file, t.text[1:]), depth)
			if err != nil {
				return nil, "", err
			}
			list = append(list, names...)
		} else {
			list = append(list, t)
		}
		if !comma {
			break
		}
	}
	for i, t := range list {
		if strings.HasPrefix(t.text, "/") && len(t.text) > 1 {
			if list[i].pattern, err = regexp.Compile(t.text[1:]); err != nil {
				return nil, "", err
			}
		}
	}
	return list, text, nil
}

// names reads a file of names, with spaces, commas or line ends between them.
func (r *reader) names(path string, depth int) (list []token, err error) {
	if depth >= maxDepth {
		return nil, fmt.Errorf("%s: more than %d files deep", path, maxDepth)
	}
	data, err := r.read(path)
	if err != nil {
		return nil, err
	}
	for text := range strings.Lines(string(data)) {
		for rest := text; ; {
			field, more, err := r.field(path, rest, depth+1)
			if err != nil || len(field) == 0 {
				if err != nil {
					return nil, err
				}
				break
			}
			list, rest = append(list, field...), more
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no name", path)
	}
	return list, nil
}

// nextToken cuts a word from a line. A comma behind it says that another follows in the same field.
func nextToken(s string) (t token, comma bool, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t\r\n,")
	var b strings.Builder
	quoted, literal := false, false // within quotes; behind one that may be the first of two
	i := 0
scan:
	for ; i < len(s); i++ {
		c := s[i]
		switch {
		case quoted:
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			break scan
		case c == '#':
			s = s[:i]
			break scan
		case c == ',':
			comma = true
			i++
			break scan
		}
		if c != '"' || literal {
			b.WriteByte(c)
		}
		literal = quoted && c == '"' && !literal
		if c == '"' {
			quoted = !quoted
			t.quoted = t.quoted || b.Len() == 0
		}
	}
	t.text = b.String()
	return t, comma, s[i:], t.text != "" || t.quoted
}
