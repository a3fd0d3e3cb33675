package grammar

import "testing"

func TestIsNewNumber(t *testing.T) {
	for text, want := range map[string]bool{
		"31": false, "0": false, "-1.5e3": false, "0.5": false, "": false, "10 ": false, "'0x1F'": false,
		"0x1F": true, "0X1f": true, "0o17": true, "0b11": true, "1_000": true, "- 1_000": true, "+0x1F": true, "1.0_1": true,
	} {
		if got := IsNewNumber(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
