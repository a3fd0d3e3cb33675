package config

import (
	"slices"
	"testing"
)

// TestUndeclared: what is read and nowhere declared is found, and the line that is given
// for it declares it.
func TestUndeclared(t *testing.T) {
	s := Settings{Assert: []string{"app.admin"}}
	tenants := []string{"App.Org"}
	read := []string{"app.admin", "app.org", "app.role$", "app.user", "no name.at all", "pgweir.trace", "timezone"}
	missing := s.Undeclared(tenants, read)
	if want := []string{"app.role$", "app.user"}; !slices.Equal(missing, want) {
		t.Errorf("%q, want %q", missing, want)
	}
	text := "servers: [a]\nauth: {method: trust}\nsettings: {assert: " + s.AssertAlso(missing) + "}\n"
	c, err := Parse("x.yaml", []byte(text), environment)
	if err != nil {
		t.Fatal(err)
	}
	if more := c.Settings.Undeclared(tenants, read); len(more) > 0 {
		t.Errorf("%q are missing with %s", more, text)
	}
}
