package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// expand replaces ${NAME} and ${NAME:-default} in s; $$ is a dollar sign, and a
// dollar sign before anything else is itself, so that stored secrets, regular
// expressions and $1 need no escapes. The default counts for a variable that is
// unset or empty and is taken as it stands.
func expand(s string, env func(string) (string, bool)) (string, error) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String(), nil
		}
		b.WriteString(s[:i])
		switch s = s[i+1:]; s[0] {
		case '$':
			b.WriteByte('$')
			s = s[1:]
		case '{':
			ref, rest, ok := strings.Cut(s[1:], "}")
			if !ok {
				return "", errors.New("${ without a closing brace; write $$ for a dollar sign")
			}
			value, err := lookup(ref, env)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			s = rest
		default:
			b.WriteByte('$')
		}
	}
}

func lookup(ref string, env func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(ref, ":-")
	if !isName(name) {
		return "", fmt.Errorf("${%s}: want ${NAME} or ${NAME:-default}", shorten(ref))
	}
	value, ok := env(name)
	switch {
	case ok && value != "":
		return value, nil
	case hasFallback:
		return fallback, nil
	case ok:
		return "", nil
	}
	return "", unsetError{name}
}

// unsetError is that of a variable which nobody has set.
type unsetError struct{ name string }

func (e unsetError) Error() string {
	return fmt.Sprintf("environment variable %s is not set; set it or write ${%s:-default}", e.name, e.name)
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// set reads text into v as its type and tag say. written is what the file holds
// for it; a fault quotes that, never a value from the environment.
func set(v reflect.Value, text, written string, tag reflect.StructTag) error {
	want := typeName(v.Type(), tag)
	wrong := fmt.Errorf("want %s, found %q", want, shorten(written))
	switch {
	case v.Type() == durationType && tag.Get("off") != "" && text == "off":
		v.SetInt(int64(Off))
	case v.Type() == durationType:
		n, err := parseDuration(text)
		switch {
		case errors.Is(err, errNegative):
			return fmt.Errorf("must not be negative, found %q", shorten(written))
		case err != nil:
			return wrong
		}
		v.SetInt(int64(n))
	case tag.Get("unit") == "bytes":
		n, ok := parseBytes(text)
		if !ok {
			return wrong
		}
		v.SetInt(n)
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return wrong
		}
		if n < 0 {
			return fmt.Errorf("must not be negative, found %d", n)
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return wrong
		}
		v.SetBool(text == "true")
	default:
		if strings.ContainsRune(text, 0) {
			return errors.New("must not hold a zero byte")
		}
		if words := tag.Get("enum"); words != "" && text != "" && !slices.Contains(strings.Split(words, ","), text) {
			return wrong
		}
		v.SetString(text)
	}
	return nil
}

var errNegative = errors.New("negative")

// parseDuration reads what time.ParseDuration reads, and nothing negative.
func parseDuration(s string) (time.Duration, error) {
	n, err := time.ParseDuration(s)
	if err == nil && n < 0 {
		return 0, errNegative
	}
	return n, err
}

var byteUnits = []struct {
	suffix string
	shift  uint
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"kB", 10}, {"MB", 20}, {"GB", 30}, {"B", 0}, {"", 0}}

// parseBytes reads "32MiB" or plain bytes. kB, MB and GB are powers of 1024, as
// in PostgreSQL's own settings.
func parseBytes(s string) (int64, bool) {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		return n << u.shift, err == nil && n >= 0 && n <= math.MaxInt64>>u.shift
	}
	return 0, false
}

// formatBytes is the shortest text parseBytes reads back.
func formatBytes(n int64) string {
	for _, u := range []int{2, 1, 0} {
		if s := byteUnits[u]; n != 0 && n%(1<<s.shift) == 0 {
			return strconv.FormatInt(n>>s.shift, 10) + s.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration is like time.Duration's String without trailing zero units.
func formatDuration(d time.Duration) string {
	s := d.String()
	if d == 0 {
		return "0"
	}
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// shorten keeps what a fault quotes to a readable length.
func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
