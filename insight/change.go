package insight

import (
	"strings"
	"unicode"
)

// Changed notes that something changed which may change what statements cost, such as the
// schema.
func (b *Book) Changed(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == "" {
		b.changed = why
	}
}

// TakeChange is the first change since it was last asked for; empty if there was none.
func (b *Book) TakeChange() (why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	why, b.changed = b.changed, ""
	return why
}

// maxVersions bounds the versions that are known, of all applications.
const maxVersions = 1000

// splitVersion takes apart an application_name like "shop/1.4.2". The version is empty if
// there is none.
func splitVersion(application string) (name, version string) {
	name, version, ok := strings.Cut(application, "/")
	if number := strings.TrimPrefix(version, "v"); !ok || name == "" || number == "" || !unicode.IsDigit(rune(number[0])) {
		return application, ""
	}
	return name, version
}

// sawVersion notes a version of an application. It is a change if it is new and others are known.
func (b *Book) sawVersion(name, version string) {
	if version == "" {
		return
	}
	b.mu.Lock()
	seen, known := b.versions[name]
	if seen == nil {
		seen = map[string]bool{}
	}
	isNew := !seen[version] && b.versionCount < maxVersions
	if isNew {
		seen[version] = true
		b.versions[name] = seen
		b.versionCount++
	}
	b.mu.Unlock()
	if isNew && known {
		b.Changed(name + "/" + version)
	}
}
