package catalog

import (
	"cmp"
	"hash"
	"hash/fnv"
	"slices"
	"sort"
	"strings"
)

// nameTable maps (schema, name) to facts. It holds no pointers but four, so that
// a database of a hundred thousand tables costs the garbage collector nothing,
// and about 16 bytes and its name an object. It never changes.
type nameTable struct {
	text    string     // all names, one after the other
	entries []entry    // sorted by name, then schema; one for each (schema, name)
	schemas []string   // entry.schema
	facts   []Relation // entry.fact; equal facts are stored once
}

type entry struct {
	off, schema, fact uint32
	size              uint32
}

// named is one object on its way into a nameTable.
type named struct {
	schema, name string
	fact         Relation
}

// newNameTable makes a table of objects, which it sorts. Objects of equal schema
// and name (overloads) are joined.
func newNameTable(objects []named) nameTable {
	slices.SortFunc(objects, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.schema, b.schema))
	})
	var (
		t       nameTable
		text    strings.Builder
		schemas = map[string]uint32{}
		facts   = map[Relation]uint32{}
	)
	size := 0
	for _, o := range objects {
		size += len(o.name)
	}
	text.Grow(size)
	t.entries = make([]entry, 0, len(objects))
	for i := 0; i < len(objects); {
		o := objects[i]
		off := uint32(text.Len())
		if i > 0 && objects[i-1].name == o.name { // the name is there already
			off -= uint32(len(o.name))
		} else {
			text.WriteString(o.name)
		}
		for i++; i < len(objects) && objects[i].name == o.name && objects[i].schema == o.schema; i++ {
			o.fact = join(o.fact, objects[i].fact)
		}
		t.entries = append(t.entries, entry{
			off: off, size: uint32(len(o.name)),
			schema: intern(schemas, &t.schemas, o.schema),
			fact:   intern(facts, &t.facts, o.fact),
		})
	}
	t.text = text.String()
	return t
}

func intern[T comparable](seen map[T]uint32, all *[]T, v T) uint32 {
	i, ok := seen[v]
	if !ok {
		i = uint32(len(*all))
		seen[v] = i
		*all = append(*all, v)
	}
	return i
}

func (t *nameTable) name(e entry) string { return t.text[e.off : e.off+e.size] }

// find returns the fact of schema.name, or of all schemas together if schema is empty.
func (t *nameTable) find(schema, name string) Relation {
	var r Relation
	i := sort.Search(len(t.entries), func(i int) bool { return t.name(t.entries[i]) >= name })
	for ; i < len(t.entries) && t.name(t.entries[i]) == name; i++ {
		if schema == "" || t.schemas[t.entries[i].schema] == schema {
			r = join(r, t.facts[t.entries[i].fact])
		}
	}
	return r
}

// join is the worst of both; the order of its arguments does not matter.
func join(a, b Relation) Relation {
	switch {
	case !a.Known:
		return b
	case !b.Known:
		return a
	}
	why := a.Why
	switch {
	case a.Replica != b.Replica:
		if a.Replica {
			why = b.Why
		}
	case a.Clean != b.Clean:
		if a.Clean {
			why = b.Why
		}
	case a.WriteClean != b.WriteClean:
		if a.WriteClean {
			why = b.Why
		}
	case why == "" || b.Why != "" && b.Why < why:
		why = b.Why
	}
	return Relation{
		Fact: Fact{
			Known:   true,
			Replica: a.Replica && b.Replica,
			Clean:   a.Clean && b.Clean,
			Why:     why,
			Touches: a.Touches.Union(b.Touches),
			Sets:    a.Sets || b.Sets,
			Reads:   a.Reads.With(b.Reads),
			Writes:  a.Writes.With(b.Writes),
		},
		WriteClean:   a.WriteClean && b.WriteClean,
		WriteTouches: a.WriteTouches.Union(b.WriteTouches),
		WriteSets:    a.WriteSets || b.WriteSets,
		Changes:      a.Changes.With(b.Changes),
		alone:        a.alone || b.alone,
	}
}

// sum writes all of the table's content into h.
func (t *nameTable) sum(h hash.Hash64) {
	facts := make([]uint64, len(t.facts))
	for i, f := range t.facts {
		facts[i] = f.sum()
	}
	var b []byte
	for _, e := range t.entries {
		b = append(b[:0], t.name(e)...)
		b = append(b, 0)
		b = append(b, t.schemas[e.schema]...)
		b = append(b, 0)
		for f := facts[e.fact]; f != 0; f >>= 8 {
			b = append(b, byte(f))
		}
		h.Write(b)
	}
	h.Write([]byte{1})
}

func (r Relation) sum() uint64 {
	h := fnv.New64a()
	for _, v := range []bool{r.Known, r.Replica, r.Clean, r.WriteClean, r.Sets, r.WriteSets} {
		if v {
			h.Write([]byte{1})
		} else {
			h.Write([]byte{0})
		}
	}
	h.Write([]byte(r.Why + "\x00" + r.Touches.String() + "\x00" + r.WriteTouches.String()))
	for _, f := range []Footprint{r.Reads, r.Writes, r.Changes} {
		if f.exact {
			h.Write([]byte{2})
			h.Write([]byte(f.ids))
		}
	}
	if r.alone {
		h.Write([]byte{3})
	}
	return h.Sum64()
}
