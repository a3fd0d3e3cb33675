package proxy

import "strings"

// tenant is which tenant the session works for now: the values of the settings that
// are declared to say so. ok is whether any of them has one.
func (c *client) tenant() (value string, ok bool) {
	for i, name := range c.s.cfg.Tenant.Settings {
		v := c.inForce(strings.ToLower(name))
		ok = ok || v != ""
		if i > 0 {
			value += "\x00"
		}
		value += v
	}
	return value, ok
}

// inForce is the value a custom setting has for the session's next statement; empty
// if it has none.
func (c *client) inForce(name string) string {
	for i := len(c.tx.steps) - 1; i >= 0; i-- {
		s := &c.tx.steps[i]
		switch {
		case s.text != "" || s.set.Name != name:
			continue
		case s.set.Reset:
			v, _ := c.settings.startup.Value(name)
			return v
		}
		return s.value
	}
	v, _ := c.settings.now.Value(name)
	return v
}
