package setting

import (
	"strconv"
	"strings"
	"time"
)

// units are those of PostgreSQL's settings that are times.
// https://www.postgresql.org/docs/current/config-setting.html
var units = map[string]time.Duration{
	"us": time.Microsecond, "": time.Millisecond, "ms": time.Millisecond, "s": time.Second,
	"min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}

// Milliseconds reads the value of a setting that is in milliseconds where it has no unit;
// 0 if it cannot be read.
func Milliseconds(value string) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" || value == "0" {
		return 0
	}
	number := strings.TrimRight(value, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	unit, known := units[value[len(number):]]
	if err != nil || !known || n <= 0 {
		return 0
	}
	return (time.Duration(n*float64(unit)) + time.Millisecond/2).Truncate(time.Millisecond)
}
