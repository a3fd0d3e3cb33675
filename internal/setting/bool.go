package setting

import "strings"

// ParseBool reads the value of a Boolean setting by PostgreSQL's rules: on, off, 1, 0,
// or a prefix of true, false, yes, no or off that leaves no doubt, in any case.
// https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
func ParseBool(value string) (on, ok bool) {
	s := strings.ToLower(value)
	switch {
	case s == "", s == "o":
		return false, false
	case s == "on", s == "1", strings.HasPrefix("true", s), strings.HasPrefix("yes", s):
		return true, true
	case s == "0", strings.HasPrefix("false", s), strings.HasPrefix("no", s), strings.HasPrefix("off", s):
		return false, true
	}
	return false, false
}
