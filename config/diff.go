package config

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Change is one key whose value differs between two configurations. Secrets are not in it.
type Change struct {
	Path     string // as in "users.ann.pool_size"
	Old, New string
	Restart  bool // the process that runs keeps Old until it is started anew
}

// String is the change on one line.
func (c Change) String() string {
	return fmt.Sprintf("%s: %s -> %s", c.Path, shown(c.Old), shown(c.New))
}

// shown is a value on a line of bounded length.
func shown(value string) string {
	const limit = 200
	if value == "" {
		return `""`
	}
	if r := []rune(value); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return value
}

// Changes lists what makes c another configuration than before, in the order of the structs.
// Both must be complete.
func (c *Config) Changes(before Config) []Change {
	d := &differ{}
	d.compare("", reflect.ValueOf(before), reflect.ValueOf(*c), field{})
	return d.changes
}

// field is what the tags around a value say of it.
type field struct {
	tag     reflect.StructTag
	restart bool
}

// below is what the tags of a struct's field say, within what is said of the struct.
func (f field) below(sf reflect.StructField) field {
	return field{sf.Tag, f.restart || sf.Tag.Get("reload") == "restart"}
}

// names is what is said of the names in a map.
func (f field) names() field {
	return field{f.tag, f.restart || f.tag.Get("reload") == "names"}
}

type differ struct{ changes []Change }

func (d *differ) add(path, before, after string, f field) {
	d.changes = append(d.changes, Change{path, before, after, f.restart})
}

func (d *differ) compare(path string, before, after reflect.Value, f field) {
	if reflect.DeepEqual(before.Interface(), after.Interface()) {
		return
	}
	switch k := before.Kind(); {
	case k == reflect.Struct:
		for _, sf := range fields(before.Type()) {
			d.compare(join(path, sf.Tag.Get("yaml")), before.FieldByIndex(sf.Index), after.FieldByIndex(sf.Index), f.below(sf))
		}
	case k == reflect.Map:
		d.entries(path, before, after, f)
	case k == reflect.Slice && before.Len() == after.Len() && before.Type().Elem().Kind() == reflect.Struct:
		for i := range before.Len() {
			d.compare(fmt.Sprintf("%s[%d]", path, i), before.Index(i), after.Index(i), f)
		}
	default:
		d.add(path, written(before, f.tag), written(after, f.tag), f)
	}
}

// entries compares two maps from names.
func (d *differ) entries(path string, before, after reflect.Value, f field) {
	names := map[string]bool{}
	for _, m := range []reflect.Value{before, after} {
		for _, k := range m.MapKeys() {
			names[k.String()] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, now := before.MapIndex(reflect.ValueOf(name)), after.MapIndex(reflect.ValueOf(name))
		switch at := join(path, name); {
		case !old.IsValid():
			d.add(at, "absent", "present", f.names())
		case !now.IsValid():
			d.add(at, "present", "absent", f.names())
		default:
			d.compare(at, old, now, f)
		}
	}
}

// written is a value as a file would have it; secrets are not told.
func written(v reflect.Value, tag reflect.StructTag) string {
	switch {
	case tag.Get("secret") != "" && v.String() != "":
		return "(secret)"
	case v.Kind() == reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = written(v.Index(i), "")
		}
		return "[" + strings.Join(items, ", ") + "]"
	case v.Kind() == reflect.Struct:
		var parts []string
		for _, sf := range fields(v.Type()) {
			if value := v.FieldByIndex(sf.Index); !value.IsZero() {
				parts = append(parts, sf.Tag.Get("yaml")+": "+written(value, sf.Tag))
			}
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return format(v, tag)
}

// Keeping returns c with what a running process cannot change taken from running, which is
// what it runs under. Both must be complete; the result may be at odds with itself, which
// Validate tells.
func (c Config) Keeping(running Config) Config {
	keep(reflect.ValueOf(&c).Elem(), reflect.ValueOf(running), "")
	return c
}

// keep sets those fields of v that need a restart; tag is that of v.
func keep(v, running reflect.Value, tag reflect.StructTag) {
	switch v.Kind() {
	case reflect.Struct:
		for _, sf := range fields(v.Type()) {
			value, old := v.FieldByIndex(sf.Index), running.FieldByIndex(sf.Index)
			if sf.Tag.Get("reload") == "restart" {
				value.Set(old)
			} else {
				keep(value, old, sf.Tag)
			}
		}
	case reflect.Map:
		names := v
		if tag.Get("reload") == "names" {
			names = running
		}
		if names.IsNil() {
			return
		}
		out := reflect.MakeMap(v.Type())
		for _, k := range names.MapKeys() {
			out.SetMapIndex(k, kept(v.MapIndex(k), running.MapIndex(k), v.Type().Elem()))
		}
		v.Set(out)
	}
}

// kept is one entry of a map, of which old is not valid if it is new, and now if it is gone.
func kept(now, old reflect.Value, t reflect.Type) reflect.Value {
	e := reflect.New(t).Elem()
	if !now.IsValid() {
		now = old
	}
	e.Set(now)
	if old.IsValid() {
		keep(e, old, "")
	}
	return e
}

// Contents are digests of the files that c names, by the path of the key. A file that cannot
// be read has none.
func (c *Config) Contents() map[string]string {
	found := map[string]string{}
	eachFile("", reflect.ValueOf(*c), "", func(path, file string) {
		if data, err := readSmall(file); err == nil {
			found[path] = fmt.Sprintf("sha256:%.12x", sha256.Sum256(data))
		}
	})
	return found
}

// Files are the files that keys of c name.
func (c *Config) Files() (files []string) {
	eachFile("", reflect.ValueOf(*c), "", func(_, file string) { files = append(files, file) })
	return files
}

// eachFile calls found with every key within v that names a file, and the file.
func eachFile(path string, v reflect.Value, tag reflect.StructTag, found func(path, file string)) {
	switch v.Kind() {
	case reflect.Struct:
		for _, sf := range fields(v.Type()) {
			eachFile(join(path, sf.Tag.Get("yaml")), v.FieldByIndex(sf.Index), sf.Tag, found)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			eachFile(join(path, k.String()), v.MapIndex(k), "", found)
		}
	case reflect.String:
		if tag.Get("file") != "" && v.String() != "" {
			found(path, v.String())
		}
	}
}
