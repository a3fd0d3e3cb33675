// Package userlist reads files of users and their secrets, as poolers have them: lines of
// "name" "secret". A name may have several lines, each a secret of its own. A line that is
// wrong spoils no other.
package userlist

import (
	"errors"
	"strings"
)

// Entry is one line that is right.
type Entry struct {
	Line         int // from 1
	Name, Secret string
}

// Bad is one line that is wrong. It quotes nothing of a secret.
type Bad struct {
	Line int
	Name string // empty where even that cannot be read
	Why  error
}

// Parse reads a file. Double quotes within a word are doubled, what follows the secret is
// ignored, and lines that start with ; or # are comments.
func Parse(text string) (entries []Entry, bad []Bad) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		name, secret, err := parseLine(line)
		if err != nil {
			bad = append(bad, Bad{n, name, err})
			continue
		}
		entries = append(entries, Entry{n, name, secret})
	}
	return entries, bad
}

func parseLine(line string) (name, secret string, err error) {
	name, rest, ok := quoted(line)
	if !ok {
		return "", "", errors.New(`want "name" "secret"`)
	}
	secret, _, ok = quoted(strings.TrimLeft(rest, " \t"))
	switch {
	case !ok:
		return name, "", errors.New(`want "name" "secret"`)
	case name == "":
		return "", "", errors.New("the name is empty")
	case strings.Contains(name, "\x00") || strings.Contains(secret, "\x00"):
		return name, "", errors.New("zero byte")
	}
	return name, secret, nil
}

// quoted cuts a double-quoted word from the start of s.
func quoted(s string) (word, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			return b.String(), s[i+1:], true
		}
	}
	return "", "", false
}
