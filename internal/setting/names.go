package setting

import (
	"iter"
	"slices"
	"strings"
	"unique"
)

// Names is a set of custom (dotted) setting names. PostgreSQL never forgets that a custom
// setting was defined on a connection, as a placeholder: it reads as empty there for ever
// after, not NULL. So a connection remembers the names that may be defined on it, and a
// session those it defined itself. The zero value is the empty set; Names are immutable,
// comparable, and safe for concurrent use.
type Names struct {
	h unique.Handle[string] // names in order, each followed by NUL
}

// With is the union of s and names.
func (s Names) With(names []string) Names {
	var all []string
	for _, n := range names {
		n = Fold(n)
		if !strings.Contains(n, ".") || s.Has(n) {
			continue
		}
		if all == nil {
			all = s.List()
		}
		if at, found := slices.BinarySearch(all, n); !found {
			all = slices.Insert(all, at, n)
		}
	}
	if all == nil {
		return s
	}
	return Names{unique.Make(strings.Join(all, "\x00") + "\x00")}
}

// all are the names, in order.
func (s Names) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		if s == (Names{}) {
			return
		}
		for rest := s.h.Value(); rest != ""; {
			name, tail, _ := strings.Cut(rest, "\x00")
			if !yield(name) {
				return
			}
			rest = tail
		}
	}
}

// Has reports whether name, folded, is in s.
func (s Names) Has(name string) bool {
	for n := range s.all() {
		if n >= name {
			return n == name
		}
	}
	return false
}

// Union is the union of s and o.
func (s Names) Union(o Names) Names {
	if s == o || o == (Names{}) {
		return s
	}
	return s.With(o.List())
}

// Without is s without the names of o.
func (s Names) Without(o Names) Names { return Names{}.With(o.Missing(s)) }

// Within reports whether every name of s is in o.
func (s Names) Within(o Names) bool {
	if s == (Names{}) || s == o {
		return true
	}
	for n := range s.all() {
		if !o.Has(n) {
			return false
		}
	}
	return true
}

// Missing are the names of o that are not in s.
func (s Names) Missing(o Names) (names []string) {
	if o.Within(s) {
		return nil
	}
	for n := range o.all() {
		if !s.Has(n) {
			names = append(names, n)
		}
	}
	return names
}

// String is the names in order, with commas between.
func (s Names) String() string { return strings.Join(s.List(), ",") }

// List is the names in order.
func (s Names) List() []string {
	return slices.Collect(s.all())
}

// Custom are the custom names among the settings.
func (s Settings) Custom() Names {
	var names []string
	for n := range s.All() {
		if strings.Contains(n, ".") {
			names = append(names, n)
		}
	}
	return Names{}.With(names)
}
