package freshness

import "github.com/pgweir/pgweir/router/catalog"

// Changes is what a transaction may have changed so far. The zero value is nothing. It
// belongs to one session.
type Changes struct {
	wrote   bool
	any     bool  // any table
	several bool  // for more tenants than one, or it is not known for which
	n       uint8 // of tables
	tables  [6]uint32
	version uint64 // of the catalog that says so
	tenant  Scope  // 0 is none
}

// Wrote reports whether there are any.
func (ch *Changes) Wrote() bool { return ch.wrote }

// Add takes in what a statement may write according to a version of the catalog. Tenant
// is the scope of the tenant it was run for, 0 for none; sure is whether that is certain.
func (ch *Changes) Add(writes catalog.Footprint, version uint64, tenant Scope, sure bool) {
	if !ch.wrote {
		ch.wrote, ch.version, ch.tenant = true, version, tenant
	}
	if !sure || !writes.Exact() || ch.tenant != tenant {
		ch.several = true
	}
	if !writes.Exact() || ch.version != version {
		ch.any = true
	}
	for i := 0; i < writes.Len() && !ch.any; i++ {
		ch.addTable(writes.ID(i))
	}
}

// AddUnknown takes in a statement of which nothing is known.
func (ch *Changes) AddUnknown() { ch.Add(catalog.Footprint{}, 0, 0, false) }

func (ch *Changes) addTable(id uint32) {
	for _, t := range ch.tables[:ch.n] {
		if t == id {
			return
		}
	}
	if int(ch.n) == len(ch.tables) {
		ch.any = true
		return
	}
	ch.tables[ch.n] = id
	ch.n++
}

// Concerns reports whether the changes may be among what is read.
func (ch *Changes) Concerns(reads catalog.Footprint) bool {
	if ch.any || !reads.Exact() {
		return true
	}
	for i := range reads.Len() {
		for _, t := range ch.tables[:ch.n] {
			if t == reads.ID(i) {
				return true
			}
		}
	}
	return false
}
