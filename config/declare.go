package config

import (
	"slices"
	"strings"
)

// Undeclared returns those of the custom settings read that neither tenants, which are
// those of tenant.settings, nor s.Assert name, and that may be named there.
func (s Settings) Undeclared(tenants, read []string) []string {
	declared := slices.Concat(tenants, s.Assert)
	return slices.DeleteFunc(slices.Clone(read), func(name string) bool {
		var fs Faults
		checkSettingNames(&fs, "", []string{name})
		return len(fs) > 0 || slices.ContainsFunc(declared, func(d string) bool { return strings.EqualFold(d, name) })
	})
}

// AssertAlso is the value of settings.assert, as a configuration file spells it, that
// names more settings than s.Assert does.
func (s Settings) AssertAlso(more []string) string {
	list := strings.Join(slices.Concat(s.Assert, more), ", ")
	return "[" + strings.ReplaceAll(list, "$", "$$") + "]" // $ begins a variable
}
