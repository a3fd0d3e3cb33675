package setting_test

import (
	"testing"

	"github.com/pgweir/pgweir/internal/setting"
)

// TestFold: no letter beyond ASCII becomes one of ASCII, nor another one.
func TestFold(t *testing.T) {
	for name, want := range map[string]string{
		"app.a": "app.a", "App.A_Z": "app.a_z", "": "", "@[`{": "@[`{",
		"app.\u212Aey": "app.\u212Aey", "App.\u0130d": "app.\u0130d", "app.Ä": "app.Ä", "app.\xff": "app.\xff",
	} {
		if got := setting.Fold(name); got != want {
			t.Errorf("Fold(%q) = %q, want %q", name, got, want)
		}
	}
	s := setting.From(map[string]string{"app.id": "1", "app.\u0130d": "2", "APP.KEY": "3"})
	for name, want := range map[string]string{"app.id": "1", "app.\u0130d": "2", "app.key": "3", "app.\u212Aey": ""} {
		if got, _ := s.Value(name); got != want {
			t.Errorf("Value(%q) = %q, want %q", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { setting.Fold("app.current_org_id") }); n > 0 {
		t.Errorf("%v allocations for a name that is folded", n)
	}
}
