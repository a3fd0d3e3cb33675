package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"gopkg.in/yaml.v3"
)

var (
	durationType  = reflect.TypeFor[time.Duration]()
	addressesType = reflect.TypeFor[Addresses]()
	serverType    = reflect.TypeFor[Server]()
	clusterType   = reflect.TypeFor[Cluster]()
)

// suggestions bounds the unknown keys for which a similar one is looked for: a file with
// more is none of pgweir's.
const suggestions = 100

// decoder walks the nodes of one file into the structs. It never stops at a
// fault: what cannot be read keeps its default and is noted.
type decoder struct {
	env    func(string) (string, bool)
	dir    string         // where relative paths start
	lines  map[string]int // of every key and list entry by path
	faults Faults

	withoutSecrets bool // of one that cannot be had the path takes the place
}

// newDecoder is of the file called name.
func newDecoder(name string, env func(string) (string, bool)) *decoder {
	return &decoder{env: env, dir: filepath.Dir(name), lines: map[string]int{}}
}

func (d *decoder) fault(line int, path, format string, args ...any) {
	d.faults = append(d.faults, Fault{Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
}

// into decodes n into the struct dst points to.
func (d *decoder) into(n *yaml.Node, path string, dst any) {
	d.value(n, path, reflect.ValueOf(dst).Elem(), "")
}

// value decodes n into v, which holds the default. The recursion is as deep as
// the structs are, whatever the file's aliases say.
func (d *decoder) value(n *yaml.Node, path string, v reflect.Value, tag reflect.StructTag) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case v.Type() == serverType && n.Kind == yaml.ScalarNode:
		d.value(n, path, v.FieldByName("Address"), "")
	case v.Type() == addressesType && n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		v.Set(reflect.ValueOf(make(Addresses, 1)))
		d.scalar(n, path, v.Index(0), "")
	case v.Kind() == reflect.Struct:
		d.structure(n, path, v)
	case v.Kind() == reflect.Map:
		d.mapping(n, path, v)
	case v.Kind() == reflect.Slice:
		d.list(n, path, v, tag)
	default:
		d.scalar(n, path, v, tag)
	}
}

// pairs yields the keys of a mapping once each; a repeated key is a fault.
func (d *decoder) pairs(n *yaml.Node, path string, each func(key string, k, v *yaml.Node)) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // "pool:" with everything below it commented out
	}
	if n.Kind != yaml.MappingNode {
		d.fault(n.Line, path, "want keys and values, found %s", kindName(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.fault(k.Line, path, "a key must be a word, found %s", kindName(k))
			continue
		}
		at := join(path, k.Value)
		if k.Tag == "!!merge" {
			d.fault(k.Line, at, "YAML's merge keys are not read; write out the keys, or name the whole section by its alias")
			continue
		}
		if line, dup := seen[k.Value]; dup {
			d.fault(k.Line, at, "given twice, first on line %d", line)
			continue
		}
		seen[k.Value] = k.Line
		d.lines[at] = k.Line
		each(k.Value, k, v)
	}
}

func (d *decoder) structure(n *yaml.Node, path string, v reflect.Value) {
	d.pairs(n, path, func(key string, k, val *yaml.Node) {
		for _, f := range fields(v.Type()) {
			if f.Tag.Get("yaml") == key {
				d.value(val, join(path, key), v.FieldByIndex(f.Index), f.Tag)
				return
			}
		}
		var meant string
		if len(d.faults) < suggestions {
			meant = suggest(key, v.Type())
		}
		d.fault(k.Line, join(path, key), "unknown key%s", meant)
	})
}

func (d *decoder) mapping(n *yaml.Node, path string, v reflect.Value) {
	out := reflect.MakeMap(v.Type())
	d.pairs(n, path, func(key string, k, val *yaml.Node) {
		if key == "" {
			d.fault(k.Line, path, "a name must not be empty")
			return
		}
		e := element(v.Type().Elem())
		d.value(val, join(path, key), e, "")
		out.SetMapIndex(reflect.ValueOf(key), e)
	})
	if out.Len() > 0 {
		v.Set(out)
	}
}

func (d *decoder) list(n *yaml.Node, path string, v reflect.Value, tag reflect.StructTag) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		v.SetZero()
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fault(n.Line, path, "want a list, found %s", kindName(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = item.Line
		e := element(v.Type().Elem())
		d.value(item, at, e, tag)
		out = reflect.Append(out, e)
	}
	v.Set(out)
}

// element is a new entry of a list or map with its defaults.
func element(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch t {
	case serverType:
		v.Set(reflect.ValueOf(Server{Weight: 1}))
	case clusterType:
		d := Default()
		v.Set(reflect.ValueOf(Cluster{Sources: d.Sources, TLS: d.ServerTLS, Service: d.Service}))
	}
	return v
}

func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value, tag reflect.StructTag) {
	if tag.Get("secret") != "" && n.Kind == yaml.MappingNode {
		d.secretFile(n, path, v)
		return
	}
	if n.Kind != yaml.ScalarNode {
		d.fault(n.Line, path, "want %s, found %s", typeName(v.Type(), tag), kindName(n))
		return
	}
	if n.Tag == "!!null" {
		d.fault(n.Line, path, "has no value; give one or leave the key out")
		return
	}
	text, err := expand(n.Value, d.env)
	if unset := (unsetError{}); tag.Get("secret") != "" && errors.As(err, &unset) {
		text, err = d.secretLacks(path, fmt.Errorf("environment variable %s is not set; set it, or use {file: path}", unset.name))
	}
	if err == nil {
		err = set(v, text, n.Value, tag)
	}
	if err != nil {
		d.fault(n.Line, path, "%s", err)
		return
	}
	if tag.Get("file") != "" {
		v.SetString(d.resolve(v.String()))
	}
}

// secretFile reads a secret written as {file: path}. The end of the file's last
// line is not part of it.
func (d *decoder) secretFile(n *yaml.Node, path string, v reflect.Value) {
	var from struct {
		File string `yaml:"file" file:"true"`
	}
	before := len(d.faults)
	d.into(n, path, &from)
	if len(d.faults) > before {
		return
	}
	data, err := readSmall(from.File)
	text := strings.TrimRight(string(data), "\r\n")
	if err != nil {
		text, err = d.secretLacks(path, err)
	}
	if err != nil {
		d.fault(n.Line, path, "%s", err)
		return
	}
	v.SetString(text)
}

// secretLacks is what a secret is that cannot be had, or why it cannot.
func (d *decoder) secretLacks(path string, why error) (string, error) {
	if d.withoutSecrets {
		return path, nil
	}
	return "", why
}

func (d *decoder) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(d.dir, path)
}

// readSmall reads a file the configuration names: a plain one of modest size,
// so that a slip of the pen (/dev/zero, a pipe) cannot hang the start.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a plain file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAtMost(f, path)
}

// readAtMost reads all of f, which is called path, unless that is more than any file
// here should hold.
func readAtMost(f io.Reader, path string) ([]byte, error) {
	const limit = 16 << 20
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(data) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, err
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	return fmt.Sprintf("%q", shorten(n.Value))
}

// suggest names the right key for a wrong one: a similar one beside it, or the
// same one at another place.
func suggest(key string, t reflect.Type) string {
	best, distance := "", max(2, len(key)/3)+1
	for _, f := range fields(t) {
		name := f.Tag.Get("yaml")
		if n := levenshtein.Distance(key, name, nil); n < distance {
			best, distance = name, n
		}
	}
	if best != "" {
		return "; did you mean " + best + "?"
	}
	var elsewhere []string
	for _, k := range Keys() {
		if k.Path == key || strings.HasSuffix(k.Path, "."+key) || strings.ReplaceAll(k.Path, ".", "_") == key {
			elsewhere = append(elsewhere, k.Path)
		}
	}
	slices.SortStableFunc(elsewhere, func(a, b string) int { return strings.Count(a, ".") - strings.Count(b, ".") })
	if len(elsewhere) == 0 {
		return ""
	}
	return "; did you mean " + elsewhere[0] + "?"
}
