package setting

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSettingsAreValues(t *testing.T) {
	a := From(map[string]string{"TimeZone": "UTC", "app.id": "7"})
	b := From(map[string]string{"app.id": "7", "timezone": "UTC"})
	if a != b {
		t.Error("equal settings differ")
	}
	if a == From(map[string]string{"app.id": "7", "timezone": "utc"}) {
		t.Error("values differing in case are equal")
	}
	if From(nil) != (Settings{}) {
		t.Error("no settings are not the zero value")
	}
}

func TestDiff(t *testing.T) {
	from := From(map[string]string{"a.x": "1", "timezone": "UTC", "same": "s"})
	to := From(map[string]string{"a.x": "2", "same": "s", "new": ""})
	want := []Change{{Name: "timezone", Reset: true}, {Name: "a.x", Value: "2"}, {Name: "new"}}
	if d := cmp.Diff(want, from.Diff(to)); d != "" {
		t.Error(d)
	}
	from = From(map[string]string{"role": "a", "session_authorization": "s", "work_mem": "1"})
	to = From(map[string]string{"role": "a", "work_mem": "2"})
	want = []Change{{Name: "role", Reset: true}, {Name: "session_authorization", Reset: true}, {Name: "work_mem", Value: "2"}, {Name: "role", Value: "a"}}
	if d := cmp.Diff(want, from.Diff(to)); d != "" {
		t.Error(d)
	}
	from = From(map[string]string{"app.a": "é", "app.b": "e"})
	to = From(map[string]string{"app.a": "é", "app.b": "e", "client_encoding": "LATIN1"})
	want = []Change{{Name: "client_encoding", Value: "LATIN1"}, {Name: "app.a", Value: "é"}}
	if d := cmp.Diff(want, from.Diff(to)); d != "" {
		t.Error(d)
	}
	if from.Diff(from) != nil {
		t.Error("a difference to itself")
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		in       string
		settings map[string]string
		rest     []string
	}{
		{"", map[string]string{}, nil},
		{"-c a.b=c -cx=1  --search-path=a,b", map[string]string{"a.b": "c", "x": "1", "search_path": "a,b"}, nil},
		{`-c app.name=two\ words\\`, map[string]string{"app.name": `two words\`}, nil},
		{"-c app.id=0b9f-c1d2-4f-c3", map[string]string{"app.id": "0b9f-c1d2-4f-c3"}, nil},
		{"-c eq=a=b", map[string]string{"eq": "a=b"}, nil},
		{"-c", map[string]string{}, []string{"-c"}},
		{"-e -c novalue --", map[string]string{}, []string{"-e", "novalue", "--"}},
	}
	for _, tt := range tests {
		settings, rest := Options(tt.in)
		if d := cmp.Diff(tt.settings, settings); d != "" {
			t.Errorf("%q: %s", tt.in, d)
		}
		if d := cmp.Diff(tt.rest, rest); d != "" {
			t.Errorf("%q: %s", tt.in, d)
		}
	}
}

// Settings edited one name at a time are those made of the names and values at once.
func TestEdits(t *testing.T) {
	name := rapid.SampledFrom([]string{"", "a", "A", "a.b", "a.bc", "ab", "b", "Role", "work_mem", "ä.ö", "Ä.ö", "\x01"})
	value := rapid.SampledFrom([]string{"", "a", "b", "a.b", "é", "long " + strings.Repeat("x", 300)})
	rapid.Check(t, func(t *rapid.T) {
		var s Settings
		model := map[string]string{}
		for range rapid.IntRange(0, 30).Draw(t, "edits") {
			n := name.Draw(t, "name")
			folded := n
			if n == "A" || n == "Role" { // ASCII alone has one case
				folded = strings.ToLower(n)
			}
			before := s
			had := maps.Collect(before.All())
			if rapid.Bool().Draw(t, "without") {
				delete(model, folded)
				s = s.Without(n)
			} else {
				model[folded] = value.Draw(t, "value")
				s = s.With(n, model[folded])
			}
			if s != From(model) {
				t.Fatalf("%v instead of %v", maps.Collect(s.All()), model)
			}
			want, is := model[folded]
			if v, ok := s.Value(folded); v != want || ok != is {
				t.Fatalf("%q is %q, %v", folded, v, ok)
			}
			if d := cmp.Diff(had, maps.Collect(before.All())); d != "" {
				t.Fatal("an edit changed what it was made of:", d)
			}
		}
	})
}

func BenchmarkWith(b *testing.B) {
	for _, n := range []int{2, 20} {
		values := map[string]string{"app.current_org_id": "0"}
		for i := range n - 1 {
			values[fmt.Sprintf("setting_%d", i)] = "a value"
		}
		s := From(values)
		kept := [2]Settings{s.With("app.current_org_id", "1"), s.With("app.current_org_id", "2")} // a session has them
		b.Run(fmt.Sprintf("of %d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.With("app.current_org_id", "12"[i&1:i&1+1]) != kept[i&1] {
					b.Fatal("another value")
				}
			}
		})
	}
}
