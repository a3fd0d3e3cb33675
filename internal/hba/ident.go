package hba

import (
	"fmt"
	"strings"
)

// Maps say which users of the system, or names of certificates, may be which users here.
// https://www.postgresql.org/docs/current/auth-username-maps.html
type Maps []mapping

type mapping struct {
	name         string
	system, user token
}

// ParseMaps reads a file of the format of pg_ident.conf.
func ParseMaps(path string, read Read) (Maps, []Fault) {
	r := reader{read: read}
	r.file(path, 0)
	var maps Maps
	for _, l := range r.lines {
		if len(l.fields) != 3 || len(l.fields[0]) != 1 || len(l.fields[1]) != 1 {
			r.fault(l.file, l.number, "want MAP SYSTEM-USER USER")
			continue
		}
		for _, user := range l.fields[2] {
			maps = append(maps, mapping{l.fields[0][0].text, l.fields[1][0], user})
		}
	}
	return maps, r.faults
}

// Has reports whether there is a map of that name.
func (m Maps) Has(name string) bool {
	for _, e := range m {
		if e.name == name {
			return true
		}
	}
	return false
}

// Allow reports whether system, as the system knows the user, may be the user of c; without
// a map only if the names are the same.
func (m Maps) Allow(name, system string, c Connection) (bool, error) {
	if name == "" {
		return system == c.User, nil
	}
	for _, e := range m {
		user := e.user
		switch {
		case e.name != name:
			continue
		case e.system.pattern != nil:
			found := e.system.pattern.FindStringSubmatch(system)
			if found == nil {
				continue
			}
			if len(found) > 1 && strings.Contains(user.text, `\1`) {
				user = token{text: strings.Replace(user.text, `\1`, found[1], 1), quoted: true}
			}
		case e.system.text != system:
			continue
		}
		if yes, err := matches([]token{user}, c, c.User); yes || err != nil {
			return yes, err
		}
	}
	return false, nil
}

// Unknown lists the maps that rules use and that are not there.
func (rules Rules) Unknown(m Maps) (faults []Fault) {
	for _, r := range rules {
		if r.Map != "" && !m.Has(r.Map) {
			faults = append(faults, Fault{r.File, r.Line, fmt.Sprintf("there is no map %q", r.Map)})
		}
	}
	return faults
}
