package simpg

import (
	"strconv"
	"strings"
	"time"
)

const typInterval uint32 = 1186

// timeText is a timestamp with time zone as text, in ISO style.
func timeText(t time.Time) string { return t.Format("2006-01-02 15:04:05.999999-07") }

func inputTime(s string) datum {
	for _, layout := range []string{"2006-01-02 15:04:05.999999-07", "2006-01-02 15:04:05.999999", "2006-01-02"} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t
		}
	}
	raise("22007", `invalid input syntax for type timestamp with time zone: "%s"`, s)
	return nil
}

var intervalUnits = map[string]time.Duration{
	"microsecond": time.Microsecond, "millisecond": time.Millisecond, "ms": time.Millisecond, "second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour,
}

// inputInterval reads a number and a unit.
func inputInterval(s string) datum {
	number, unit, _ := strings.Cut(strings.TrimSpace(s), " ")
	n, err := strconv.ParseInt(number, 10, 64)
	d := intervalUnits[strings.TrimSuffix(unit, "s")]
	if err != nil || d == 0 {
		raise("22007", `invalid input syntax for type interval: "%s"`, s)
	}
	return time.Duration(n) * d
}

// temporal is an operator on times.
func temporal(op string, l, r uint32) (returns uint32, f func(l, r datum) datum) {
	switch {
	case op == "*" && r == typInterval && rank(l) >= 0:
		return typInterval, func(l, r datum) datum { return time.Duration(l.(int64)) * r.(time.Duration) }
	case l == typTimestamp && r == typInterval && op == "-":
		return typTimestamp, func(l, r datum) datum { return l.(time.Time).Add(-r.(time.Duration)) }
	case l == typTimestamp && r == typInterval && op == "+":
		return typTimestamp, func(l, r datum) datum { return l.(time.Time).Add(r.(time.Duration)) }
	}
	return 0, nil
}
