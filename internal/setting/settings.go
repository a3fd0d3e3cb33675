// Package setting is what a session has set: Settings are values that can be
// compared, shared and carried from one server connection to another. The
// package knows no sockets and no SQL grammar.
package setting

import (
	"iter"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// Settings are setting names with their values. The zero value is none. Two
// Settings are equal (==) exactly when they hold the same names with the same
// bytes. They are immutable and safe for concurrent use.
type Settings struct {
	// all is the canonical form: "name\x00value\x00" for each name in order; values
	// cannot hold NUL because the protocol's strings cannot.
	all string
}

// From makes Settings of names (matched without regard to case, as PostgreSQL does) and values.
func From(values map[string]string) Settings {
	names := make([]string, 0, len(values))
	folded := make(map[string]string, len(values))
	for n, v := range values {
		n = Fold(n)
		names = append(names, n)
		folded[n] = v
	}
	if len(names) == 0 {
		return Settings{}
	}
	sort.Strings(names)
	var b strings.Builder
	for _, n := range names {
		b.WriteString(n)
		b.WriteByte(0)
		b.WriteString(folded[n])
		b.WriteByte(0)
	}
	return Settings{b.String()}
}

// All are the names, in order, with their values.
func (s Settings) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := s.all; rest != ""; {
			name, after, _ := strings.Cut(rest, "\x00")
			value, tail, _ := strings.Cut(after, "\x00")
			if !yield(name, value) {
				return
			}
			rest = tail
		}
	}
}

// Value is the value of one name.
func (s Settings) Value(name string) (string, bool) {
	all, from, to := s.find(name)
	if from == to {
		return "", false
	}
	return all[from+len(name)+1 : to-1], true
}

// With is s with one name set to value. It runs for every SET LOCAL of every
// transaction, and costs its text:
//
//	BenchmarkWith/of_2      48 B/op  1 allocs/op
//	BenchmarkWith/of_20    384 B/op  1 allocs/op
func (s Settings) With(name, value string) Settings {
	name = Fold(name)
	all, from, to := s.find(name)
	if from < to && all[from+len(name)+1:to-1] == value {
		return s
	}
	return Settings{all[:from] + name + "\x00" + value + "\x00" + all[to:]}
}

// Without is s without one name.
func (s Settings) Without(name string) Settings {
	all, from, to := s.find(Fold(name))
	if from == to {
		return s
	}
	return Settings{all[:from] + all[to:]}
}

// find returns the canonical form and where in it the name and its value are; from and
// to are equal if they are not there, but would be.
func (s Settings) find(name string) (all string, from, to int) {
	all = s.all
	for from < len(all) {
		n := from + strings.IndexByte(all[from:], 0)
		end := n + 1 + strings.IndexByte(all[n+1:], 0) + 1
		switch c := strings.Compare(all[from:n], name); {
		case c == 0:
			return all, from, end
		case c > 0:
			return all, from, from
		}
		from = end
	}
	return all, from, from
}

// Change is one step from one Settings to another; Reset is a return to the server's default.
type Change struct {
	Name, Value string
	Reset       bool
	Local       bool // for the transaction only
}

// Role and Authorization are the settings that say whose rights a session acts
// with. See https://www.postgresql.org/docs/current/sql-set-role.html and
// https://www.postgresql.org/docs/current/sql-set-session-authorization.html
const (
	Role          = "role"
	Authorization = "session_authorization"
)

// Recodes reports whether c decides how the bytes of what follows are read.
func (c Change) Recodes() bool { return c.Name == encoding }

// encoding decides how the bytes of other values are read.
const encoding = "client_encoding"

// Diff is what must be changed, in this order, to get from s to want: with the
// rights of the login, and then with those of want's role.
func (s Settings) Diff(want Settings) []Change {
	if s == want {
		return nil
	}
	var changes []Change
	for n := range s.All() {
		if n == Role || n == Authorization {
			changes = append(changes, Change{Name: n, Reset: true})
		}
	}
	for n := range s.All() {
		if _, ok := want.Value(n); !ok && n != Role && n != Authorization {
			changes = append(changes, Change{Name: n, Reset: true})
		}
	}
	first := len(changes)
	was, is := s.value(encoding), want.value(encoding)
	for n, v := range want.All() {
		have, ok := s.Value(n)
		switch {
		case n == Role, n == Authorization:
		case ok && have == v && (was == is || ascii(v)): // in another encoding the same bytes are other characters
		case n == encoding:
			changes = slices.Insert(changes, first, Change{Name: n, Value: v})
		default:
			changes = append(changes, Change{Name: n, Value: v})
		}
	}
	for _, n := range []string{Authorization, Role} { // the former ends the latter
		if v, ok := want.Value(n); ok {
			changes = append(changes, Change{Name: n, Value: v})
		}
	}
	return changes
}

func (s Settings) value(name string) string {
	v, _ := s.Value(name)
	return v
}

// ASCII reports whether names and values are the same bytes in every client_encoding.
func (s Settings) ASCII() bool { return ascii(s.all) }

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// Only is what s holds of the given names.
func (s Settings) Only(names ...string) Settings {
	values := map[string]string{}
	for _, n := range names {
		if v, ok := s.Value(n); ok {
			values[n] = v
		}
	}
	return From(values)
}

// IsCustom reports whether a setting's name is that of a custom one: PostgreSQL takes
// any value for it, unless an extension defines it.
func IsCustom(name string) bool { return strings.Contains(name, ".") }

// Options parses the startup parameter "options" by PostgreSQL's rules: words are
// separated by white space, a backslash takes the next character literally, and
// settings are written "-c name=value", "-cname=value" or "--name=value", with
// dashes in names read as underscores. rest is what was not a setting.
// See https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
func Options(s string) (settings map[string]string, rest []string) {
	settings = map[string]string{}
	words := splitOptions(s)
	for i := 0; i < len(words); i++ {
		w := words[i]
		var setting string
		switch {
		case w == "-c" && i+1 < len(words):
			i++
			setting = words[i]
		case strings.HasPrefix(w, "-c") && len(w) > 2:
			setting = w[2:]
		case strings.HasPrefix(w, "--") && len(w) > 2:
			setting = w[2:]
		default:
			rest = append(rest, w)
			continue
		}
		name, value, ok := strings.Cut(setting, "=")
		if !ok || name == "" {
			rest = append(rest, setting)
			continue
		}
		settings[strings.ReplaceAll(name, "-", "_")] = value
	}
	return settings, rest
}

func splitOptions(s string) []string {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '\\' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			inWord = true
		case ch == ' ' || (ch >= '\t' && ch <= '\r'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(ch)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}
