// Package pgbouncer reads configuration files of PgBouncer and writes what they come to as
// one of pgweir's, with a word on whatever has no equivalent. It knows every key of PgBouncer's
// manual; the page of the documentation is made from the same table.
// https://www.pgbouncer.org/config.html
package pgbouncer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/ini.v1"
)

// Section names.
const (
	general   = "pgbouncer"
	databases = "databases"
	users     = "users"
	peers     = "peers"
)

// File is a configuration of PgBouncer.
type File struct {
	Dir     string // where relative paths start
	General []Option
	// By name, in the order of the file.
	Databases, Users, Peers []Entry
}

// Entry is one line of a section of names.
type Entry struct {
	Name    string
	Options []Option
}

// Option is one key with its value, as written.
type Option struct{ Name, Value string }

// maxIncludes bounds the files that one file leads to.
const maxIncludes = 100

// Read reads a file and those it includes.
func Read(path string) (File, error) {
	text, err := included(path, new(int))
	if err != nil {
		return File{}, err
	}
	parsed, err := ini.LoadSources(ini.LoadOptions{
		IgnoreInlineComment: true, IgnoreContinuation: true, PreserveSurroundedQuote: true, KeyValueDelimiters: "=",
	}, text)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	f := File{Dir: filepath.Dir(path)}
	for _, section := range parsed.Sections() {
		name := strings.ToLower(section.Name())
		for _, key := range section.Keys() {
			switch name {
			case general, databases, users, peers:
			default:
				return File{}, fmt.Errorf("%s: section [%s] is none of PgBouncer's", path, section.Name())
			}
			if name == general {
				f.General = append(f.General, Option{strings.ToLower(key.Name()), key.Value()})
				continue
			}
			options, err := connectionString(key.Value())
			if err != nil {
				return File{}, fmt.Errorf("%s: [%s] %s: %w", path, name, key.Name(), err)
			}
			e := Entry{strings.Trim(key.Name(), `"`), options}
			switch name {
			case databases:
				f.Databases = append(f.Databases, e)
			case users:
				f.Users = append(f.Users, e)
			case peers:
				f.Peers = append(f.Peers, e)
			}
		}
	}
	return f, nil
}

// included is the text of a file with what it includes in place.
func included(path string, files *int) ([]byte, error) {
	if *files++; *files > maxIncludes {
		return nil, fmt.Errorf("%s: more than %d files are included", path, maxIncludes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(data)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "%include ")
		if !ok {
			out.WriteString(line)
			continue
		}
		if name = strings.TrimSpace(name); !filepath.IsAbs(name) {
			// Of the working directory, which is PgBouncer's and not ours: beside the file, most likely.
			name = filepath.Join(filepath.Dir(path), name)
		}
		text, err := included(name, files)
		if err != nil {
			return nil, err
		}
		out.Write(append(text, '\n'))
	}
	return out.Bytes(), nil
}

// connectionString reads key=value pairs; a value may stand in single quotes, which are
// doubled within.
func connectionString(s string) (options []Option, err error) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		name, rest, ok := strings.Cut(s, "=")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("want key=value, found %q", name)
		}
		rest = strings.TrimLeft(rest, " \t")
		var value strings.Builder
		if !strings.HasPrefix(rest, "'") {
			end := strings.IndexAny(rest+" ", " \t")
			value.WriteString(rest[:end])
			s = rest[end:]
		} else if s, err = unquote(rest[1:], &value); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		options = append(options, Option{strings.ToLower(name), value.String()})
	}
	return options, nil
}

// unquote reads up to a single quote that is not doubled.
func unquote(s string, value *strings.Builder) (rest string, err error) {
	for {
		part, after, ok := strings.Cut(s, "'")
		if !ok {
			return "", fmt.Errorf("a quote is not closed")
		}
		value.WriteString(part)
		if !strings.HasPrefix(after, "'") {
			return after, nil
		}
		value.WriteByte('\'')
		s = after[1:]
	}
}

// last is the value of a key, the last one if there are several.
func last(options []Option, name string) (value string, ok bool) {
	for _, o := range options {
		if o.Name == name {
			value, ok = o.Value, true
		}
	}
	return value, ok
}
