package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Key is one key a file may hold.
type Key struct {
	Path    string // names of map entries are *, list entries []: "clusters.*.servers[].weight"
	Type    string // for people: "duration", "auto, primary or replica"
	Default string // as it would be written; empty when there is none
	Restart bool   // a process that runs keeps its value
}

// Keys lists every key a file may hold, in the order of the structs.
func Keys() []Key {
	return appendKeys(nil, "", reflect.ValueOf(Default()), field{})
}

func appendKeys(keys []Key, path string, v reflect.Value, within field) []Key {
	for _, f := range fields(v.Type()) {
		at, value, said := join(path, f.Tag.Get("yaml")), v.FieldByIndex(f.Index), within.below(f)
		keys = append(keys, Key{at, typeName(f.Type, f.Tag), format(value, f.Tag), said.restart})
		switch t := f.Type; {
		case t.Kind() == reflect.Struct:
			keys = appendKeys(keys, at, value, said)
		case t.Kind() == reflect.Map:
			keys = appendKeys(keys, at+".*", element(t.Elem()), said)
		case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
			keys = appendKeys(keys, at+"[]", element(t.Elem()), said)
		}
	}
	return keys
}

// fields are a struct's; those of a struct within it that has no key are its own.
func fields(t reflect.Type) (all []reflect.StructField) {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Anonymous })
}

// typeName says in words what a value must be.
func typeName(t reflect.Type, tag reflect.StructTag) string {
	switch {
	case t == durationType && tag.Get("off") != "":
		return "a duration such as 30s, or off"
	case t == durationType:
		return "a duration such as 30s"
	case t == addressesType:
		return "an address or a list of them"
	case t == reflect.TypeFor[[]Server]():
		return "a list of servers"
	case t == reflect.TypeFor[[]Rule](), t == reflect.TypeFor[[]AuditRule]():
		return "a list of rules"
	case t == reflect.TypeFor[[]TenantTable]():
		return "a list of tables"
	case tag.Get("unit") == "bytes":
		return "a size such as 32MiB"
	case tag.Get("enum") != "":
		words := strings.Split(tag.Get("enum"), ",")
		last := len(words) - 1
		return strings.Join(words[:last], ", ") + " or " + words[last]
	case tag.Get("file") != "":
		return "a file"
	case tag.Get("secret") != "" && t.Kind() == reflect.Slice:
		return "a list of texts or {file: path}"
	case tag.Get("secret") != "":
		return "a text or {file: path}"
	}
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "keys and values"
	}
	return "a text"
}

// format writes a value as a file would.
func format(v reflect.Value, tag reflect.StructTag) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return formatDuration(x)
	case Addresses:
		return strings.Join(x, ", ")
	case int:
		if tag.Get("unit") == "bytes" {
			return formatBytes(int64(x))
		}
		return strconv.Itoa(x)
	case string:
		return x
	case bool:
		return strconv.FormatBool(x)
	}
	if k := v.Kind(); k == reflect.Struct || v.Len() == 0 {
		return ""
	}
	return fmt.Sprint(v.Interface())
}
