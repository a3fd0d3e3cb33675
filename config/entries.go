package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Entry is a key with its value.
type Entry struct {
	Path           string
	Value, Default string // as a file would have them; secrets are not told
	Restart        bool   // a process that runs keeps its value
}

// Entries are all keys of c with a value of their own or a default, in the order of the structs.
func (c *Config) Entries() (all []Entry) {
	usual := map[string]string{}
	for _, k := range Keys() {
		usual[k.Path] = k.Default
	}
	appendEntries(&all, "", "", reflect.ValueOf(*c), field{})
	for i := range all {
		all[i].Default = usual[all[i].Default]
	}
	return all
}

// appendEntries appends what is at a path, leaving the path of the key in Default.
func appendEntries(to *[]Entry, path, key string, v reflect.Value, f field) {
	switch v.Kind() {
	case reflect.Struct:
		for _, sf := range fields(v.Type()) {
			name := sf.Tag.Get("yaml")
			appendEntries(to, join(path, name), join(key, name), v.FieldByIndex(sf.Index), f.below(sf))
		}
	case reflect.Map:
		names := make([]string, 0, v.Len())
		for _, k := range v.MapKeys() {
			names = append(names, k.String())
		}
		slices.Sort(names)
		for _, name := range names {
			appendEntries(to, join(path, name), key+".*", v.MapIndex(reflect.ValueOf(name)), f)
		}
	default:
		if key == path || !v.IsZero() { // of names only what was given
			*to = append(*to, Entry{path, written(v, f.tag), key, f.restart})
		}
	}
}

// With is c with another value for one key, which stands in text as in a file. The key is one that
// is followed while a process runs, and no secret; names in its path must be there. c is complete,
// and not changed; so is the result, which Validate may find faulty.
func (c Config) With(path, text string) (Config, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) != 1 {
		return c, fmt.Errorf("%s: %q is no value", path, text)
	}
	d := &decoder{env: func(string) (string, bool) { return "", false }, lines: map[string]int{}}
	if err := d.replace(doc.Content[0], path, strings.Split(path, "."), reflect.ValueOf(&c).Elem(), field{}); err != nil {
		return c, err
	}
	if len(d.faults) > 0 {
		return c, fmt.Errorf("%s: %s", path, d.faults[0].Text)
	}
	return c.Complete(), nil
}

// replace decodes n into what is at the rest of a path within v. Maps on the way are copied.
func (d *decoder) replace(n *yaml.Node, path string, rest []string, v reflect.Value, f field) error {
	switch {
	case len(rest) > 0 && v.Kind() == reflect.Struct:
		for _, sf := range fields(v.Type()) {
			if sf.Tag.Get("yaml") == rest[0] {
				return d.replace(n, path, rest[1:], v.FieldByIndex(sf.Index), f.below(sf))
			}
		}
		return fmt.Errorf("%s: unknown key%s", path, suggest(rest[0], v.Type()))
	case len(rest) > 0 && v.Kind() == reflect.Map:
		name := reflect.ValueOf(rest[0])
		old := v.MapIndex(name)
		if !old.IsValid() {
			return fmt.Errorf("%s: there is no %s", path, rest[0])
		}
		e := reflect.New(v.Type().Elem()).Elem()
		e.Set(old)
		if err := d.replace(n, path, rest[1:], e, f); err != nil {
			return err
		}
		out := reflect.MakeMap(v.Type())
		for _, k := range v.MapKeys() {
			out.SetMapIndex(k, v.MapIndex(k))
		}
		out.SetMapIndex(name, e)
		v.Set(out)
		return nil
	case len(rest) > 0, v.Kind() == reflect.Struct, v.Kind() == reflect.Map:
		return fmt.Errorf("%s: is no key with a value", path)
	case f.restart:
		return fmt.Errorf("%s: needs a restart: change it in the file", path)
	case f.tag.Get("secret") != "":
		return fmt.Errorf("%s: is a secret: change it in the file", path)
	}
	d.value(n, path, v, f.tag)
	return nil
}
