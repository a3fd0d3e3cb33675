package setting

import "testing"

func TestParseBool(t *testing.T) {
	for _, s := range []string{"on", "ON", "1", "t", "tr", "tru", "true", "TrUe", "y", "ye", "yes"} {
		if on, ok := ParseBool(s); !on || !ok {
			t.Errorf("%q: %v, %v", s, on, ok)
		}
	}
	for _, s := range []string{"off", "of", "0", "f", "fa", "fal", "fals", "false", "n", "no", "NO"} {
		if on, ok := ParseBool(s); on || !ok {
			t.Errorf("%q: %v, %v", s, on, ok)
		}
	}
	for _, s := range []string{"", "o", " on", "on ", "10", "01", "truely", "offf", "2", "-1", "nope", "\u212a"} {
		if on, ok := ParseBool(s); on || ok {
			t.Errorf("%q: %v, %v", s, on, ok)
		}
	}
}
