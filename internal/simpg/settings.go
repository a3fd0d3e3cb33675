package simpg

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/internal/setting"
)

// guc is what the model knows of a built-in setting.
type guc struct {
	name     string // as PostgreSQL spells it
	context  string // of pg_settings
	boot     string
	shown    string   // boot with its unit
	kind     byte     // s string, b bool, i integer, e enumeration, l list
	unit     string   // of an integer: kB, ms, s
	values   []string // of an enumeration
	reported bool
}

var gucs = func() map[string]*guc {
	isolation := []string{"serializable", "repeatable read", "read committed", "read uncommitted"}
	all := map[string]*guc{}
	for _, g := range []guc{
		{name: "application_name", context: "user", reported: true},
		{name: "bytea_output", context: "user", boot: "hex", kind: 'e', values: []string{"escape", "hex"}},
		{name: "client_encoding", context: "user", boot: "UTF8", reported: true},
		{name: "client_min_messages", context: "user", boot: "notice", kind: 'e', values: []string{"debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"}},
		{name: "DateStyle", context: "user", boot: "ISO, MDY", reported: true},
		{name: "default_transaction_deferrable", context: "user", boot: "off", kind: 'b'},
		{name: "default_transaction_isolation", context: "user", boot: "read committed", kind: 'e', values: isolation},
		{name: "default_transaction_read_only", context: "user", boot: "off", kind: 'b', reported: true},
		{name: "enable_seqscan", context: "user", boot: "on", kind: 'b'},
		{name: "extra_float_digits", context: "user", boot: "1", kind: 'i'},
		{name: "idle_in_transaction_session_timeout", context: "user", boot: "0", kind: 'i', unit: "ms"},
		{name: "idle_session_timeout", context: "user", boot: "0", kind: 'i', unit: "ms"},
		{name: "in_hot_standby", context: "internal", boot: "off", kind: 'b', reported: true},
		{name: "integer_datetimes", context: "internal", boot: "on", kind: 'b', reported: true},
		{name: "IntervalStyle", context: "user", boot: "postgres", kind: 'e', values: []string{"postgres", "postgres_verbose", "sql_standard", "iso_8601"}, reported: true},
		{name: "is_superuser", context: "internal", boot: "off", kind: 'b', reported: true},
		{name: "jit", context: "user", boot: "on", kind: 'b'},
		{name: "lock_timeout", context: "user", boot: "0", kind: 'i', unit: "ms"},
		{name: "log_statement", context: "superuser", boot: "none", kind: 'e', values: []string{"none", "ddl", "mod", "all"}},
		{name: "max_connections", context: "postmaster", boot: "100", kind: 'i'},
		{name: "role", context: "user", boot: "none"},
		{name: "row_security", context: "user", boot: "on", kind: 'b'},
		{name: "search_path", context: "user", boot: `"$user", public`, kind: 'l'},
		{name: "server_encoding", context: "internal", boot: "UTF8", reported: true},
		{name: "server_version", context: "internal", boot: "15.18", reported: true},
		{name: "server_version_num", context: "internal", boot: "150018", kind: 'i'},
		{name: "session_authorization", context: "user", reported: true},
		{name: "session_replication_role", context: "superuser", boot: "origin", kind: 'e', values: []string{"origin", "replica", "local"}},
		{name: "standard_conforming_strings", context: "user", boot: "on", kind: 'b', reported: true},
		{name: "statement_timeout", context: "user", boot: "0", kind: 'i', unit: "ms"},
		{name: "synchronize_seqscans", context: "user", boot: "on", kind: 'b'},
		{name: "synchronous_commit", context: "user", boot: "on", kind: 'e', values: []string{"local", "remote_write", "remote_apply", "on", "off"}},
		{name: "tcp_keepalives_count", context: "user", boot: "0", kind: 'i'},
		{name: "tcp_keepalives_idle", context: "user", boot: "0", kind: 'i', unit: "s"},
		{name: "tcp_keepalives_interval", context: "user", boot: "0", kind: 'i', unit: "s"},
		{name: "TimeZone", context: "user", boot: "GMT", reported: true},
		{name: "timezone_abbreviations", context: "user", boot: ""},
		{name: "transaction_deferrable", context: "user", boot: "off", kind: 'b'},
		{name: "transaction_isolation", context: "user", boot: "read committed", kind: 'e', values: isolation},
		{name: "transaction_read_only", context: "user", boot: "off", kind: 'b'},
		{name: "wal_block_size", context: "internal", boot: "8192", kind: 'i'},
		{name: "wal_segment_size", context: "internal", boot: "16777216", kind: 'i', unit: "B"},
		{name: "wal_writer_delay", context: "sighup", boot: "200", kind: 'i', unit: "ms"},
		{name: "work_mem", context: "user", boot: "4096", kind: 'i', unit: "kB"},
	} {
		g.shown = g.show(g.boot)
		all[setting.Fold(g.name)] = &g
	}
	return all
}()

// values are settings that a session has set, by folded name, over what it began with.
type values map[string]string

// settings are a session's, by PostgreSQL's rules for transactions told naively: what can
// be returned to is a copy.
type settings struct {
	conf      map[string]string // of the server's configuration
	began     map[string]string // what RESET returns to, where it is not the built-in default
	source    map[string]string // of what it began with, as pg_settings has it
	committed values            // what ROLLBACK returns to
	now       values            // in force
	kept      values            // in force after COMMIT
	defined   map[string]string // placeholders of custom settings: the name as it was first spelled
	reported  map[string]string // what the client was last told
}

func newSettings() *settings {
	return &settings{began: map[string]string{}, source: map[string]string{}, committed: values{}, now: values{}, kept: values{}, defined: map[string]string{}, reported: map[string]string{}}
}

// value is a setting in force, as SHOW shows it; ok is false if there is no such setting.
// name is folded.
func (s *settings) value(name string) (v string, ok bool) {
	if v, ok = s.now[name]; ok {
		return v, true
	}
	if v, ok = s.began[name]; ok {
		return v, true
	}
	if v, ok = s.conf[name]; ok {
		return v, true
	}
	if g := gucs[name]; g != nil {
		return g.shown, true
	}
	_, ok = s.defined[name]
	return "", ok
}

func (s *settings) is(name string) string {
	v, _ := s.value(name)
	return v
}

func (s *settings) on(name string) bool { return s.is(name) == "on" }

// put sets a value, canonical already; a reset has none.
func (s *settings) put(name, value string, reset, local bool) {
	one := func(v values) {
		if reset {
			delete(v, name)
		} else {
			v[name] = value
		}
	}
	if one(s.now); !local {
		one(s.kept)
	}
}

// resetAll returns what was set to what the session began with. What has its default by
// SET LOCAL counts as not set: COMMIT brings back what it hides.
func (s *settings) resetAll() {
	for name := range maps.Clone(s.now) {
		if name != "role" && name != "session_authorization" && !strings.HasPrefix(name, "transaction_") {
			delete(s.now, name)
			delete(s.kept, name)
		}
	}
}

// discard is what DISCARD ALL does.
func (s *settings) discard() {
	s.now, s.kept = values{}, values{}
}

// end ends the transaction.
func (s *settings) end(commit bool) {
	if commit {
		s.committed = s.kept
	}
	s.now, s.kept = maps.Clone(s.committed), maps.Clone(s.committed)
}

// settingName is the folded name of a setting that may be set, with its definition, nil
// for a custom one.
func settingName(name string) (string, *guc) {
	low := setting.Fold(name)
	if g := gucs[low]; g != nil {
		return low, g
	}
	if !strings.Contains(name, ".") {
		raise("42704", `unrecognized configuration parameter "%s"`, name)
	}
	for part := range strings.SplitSeq(name, ".") {
		if !validPart(part) {
			panic(&Error{Severity: "ERROR", Code: "42602", Message: fmt.Sprintf(`invalid configuration parameter name "%s"`, name),
				Detail: `Custom parameter names must be two or more simple identifiers separated by dots.`})
		}
	}
	return low, nil
}

func validPart(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
		if !letter && (i == 0 || !(c >= '0' && c <= '9') && c != '$') {
			return false
		}
	}
	return s != ""
}

// canonical is how a server keeps a value.
func (g *guc) canonical(value string) string {
	bad := func(hint string) {
		panic(&Error{Severity: "ERROR", Code: "22023", Message: fmt.Sprintf(`invalid value for parameter "%s": "%s"`, g.name, value), Hint: hint})
	}
	switch g.kind {
	case 'b':
		on, ok := setting.ParseBool(value)
		if !ok {
			panic(&Error{Severity: "ERROR", Code: "22023", Message: fmt.Sprintf(`parameter "%s" requires a Boolean value`, g.name)})
		}
		if on {
			return "on"
		}
		return "off"
	case 'i':
		return g.show(g.integer(value, bad))
	case 'e':
		for _, v := range g.values {
			if strings.EqualFold(v, value) {
				return v
			}
		}
		if g.name == "synchronous_commit" {
			if on, ok := setting.ParseBool(value); ok && on {
				return "on"
			} else if ok {
				return "off"
			}
		}
		bad("Available values: " + strings.Join(g.values, ", ") + ".")
	}
	switch g.name {
	case "TimeZone":
		if strings.EqualFold(value, "utc") {
			return strings.ToUpper(value)
		}
		if _, err := time.LoadLocation(value); err != nil || value == "" || value == "Local" {
			bad("")
		}
	case "DateStyle":
		return g.dateStyle(value)
	case "client_encoding":
		v, ok := encodings[strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(value))]
		if !ok {
			bad("")
		}
		return v
	}
	return value
}

var encodings = map[string]string{"utf8": "UTF8", "unicode": "UTF8", "latin1": "LATIN1", "iso88591": "LATIN1", "latin9": "LATIN9", "sqlascii": "SQL_ASCII", "win1252": "WIN1252"}

var dateFormats = map[string]string{"iso": "ISO", "sql": "SQL", "german": "German", "postgres": "Postgres"}

var dateOrders = map[string]string{"mdy": "MDY", "dmy": "DMY", "ymd": "YMD", "us": "MDY", "european": "DMY", "euro": "DMY", "noneuropean": "MDY"}

// dateStyle is a value that says a format, an order or both; what it does not say is the
// default's, and German has DMY.
func (g *guc) dateStyle(value string) string {
	format, order := "ISO", "MDY"
	for part := range strings.SplitSeq(value, ",") {
		part = strings.ToLower(strings.TrimSpace(part))
		if f, ok := dateFormats[part]; ok {
			if format = f; f == "German" && !strings.Contains(strings.ToLower(value), "y") {
				order = "DMY"
			}
		} else if o, ok := dateOrders[part]; ok {
			order = o
		} else {
			panic(&Error{Severity: "ERROR", Code: "22023", Message: fmt.Sprintf(`invalid value for parameter "DateStyle": "%s"`, value),
				Detail: fmt.Sprintf("Unrecognized key word: \"%s\".", part)})
		}
	}
	return format + ", " + order
}

// factors are how many of a setting's unit others are.
var factors = map[string]map[string]int64{
	"kB": {"kB": 1, "MB": 1 << 10, "GB": 1 << 20, "TB": 1 << 30},
	"B":  {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30},
	"s":  {"s": 1, "min": 60, "h": 3600, "d": 86400},
	"ms": {"ms": 1, "s": 1000, "min": 60000, "h": 3600000, "d": 86400000},
}

func (g *guc) integer(value string, bad func(hint string)) string {
	v := strings.TrimSpace(value)
	n := len(v)
	for n > 0 && (v[n-1] >= 'a' && v[n-1] <= 'z' || v[n-1] >= 'A' && v[n-1] <= 'Z') {
		n--
	}
	factor := int64(1)
	if unit := v[n:]; unit != "" {
		f, ok := factors[g.unit][unit]
		if !ok {
			bad(`Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".`)
		}
		factor = f
	}
	i, err := strconv.ParseInt(strings.TrimSpace(v[:n]), 0, 64)
	if err != nil {
		bad("")
	}
	i *= factor
	lowest, unit := int64(0), ""
	switch {
	case g.name == "work_mem":
		lowest, unit = 64, " kB"
	case g.unit != "":
		unit = " " + g.unit
	case g.name == "extra_float_digits":
		lowest = -15
	}
	if most := int64(2147483647); i < lowest || i > most {
		raise("22023", `%d%s is outside the valid range for parameter "%s" (%d .. %d)`, i, unit, g.name, lowest, most)
	}
	return strconv.FormatInt(i, 10)
}

// show is a value in the largest unit that divides it.
func (g *guc) show(value string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	if g.kind != 'i' || g.unit == "" || err != nil || n == 0 {
		return value
	}
	best, by := g.unit, int64(1)
	for unit, f := range factors[g.unit] {
		if f > by && n%f == 0 {
			best, by = unit, f
		}
	}
	return strconv.FormatInt(n/by, 10) + best
}

// plain is a value in force as pg_settings has it: without a unit.
func (g *guc) plain(shown string) string {
	if g.kind != 'i' || g.unit == "" {
		return shown
	}
	return g.integer(shown, func(string) {})
}

// names of the settings that are reported, in the order in which PostgreSQL reports them.
var reportedNames = func() (names []string) {
	for low, g := range gucs {
		if g.reported {
			names = append(names, low)
		}
	}
	slices.Sort(names)
	return names
}()
