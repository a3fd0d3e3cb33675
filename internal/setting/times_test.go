package setting

import (
	"testing"
	"time"
)

func TestMilliseconds(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "250": 250 * time.Millisecond, "0.2s": 200 * time.Millisecond, " 10 s ": 10 * time.Second, "5min": 5 * time.Minute,
		"1d": 24 * time.Hour, "1500us": 2 * time.Millisecond, "-1": 0, "soon": 0, "3 weeks": 0,
	} {
		if got := Milliseconds(value); got != want {
			t.Errorf("%q: %v and not %v", value, got, want)
		}
	}
}
