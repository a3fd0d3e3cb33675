package grammar

import "testing"

func TestName(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "a": "a", "a_1": "a_1", "A": `"A"`, "order": `"order"`, "user": `"user"`, "name": "name", `a"b`: `"a""b"`, "a b": `"a b"`, "ä": `"ä"`, "1a": `"1a"`,
	} {
		if got := Name(s); got != want {
			t.Errorf("%q: %s and not %s", s, got, want)
		}
	}
}
