package catalog

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"
)

// Footprint is a set of tables, or any table at all, which is its zero value. Tables
// are told apart by name alone, and those of one inheritance or partition tree are
// one: so neither search_path nor a table made anew matters. It never changes, and
// equal sets compare equal.
type Footprint struct {
	exact bool
	ids   string // four bytes each, ascending
}

// maxTables bounds a Footprint; more are any table.
const maxTables = 32

// NoTable is the empty set.
func NoTable() Footprint { return Footprint{exact: true} }

// OneTable is the set of one table that belongs to no tree, by its name without schema.
func OneTable(name string) Footprint { return newFootprint([]uint32{tableID(name)}) }

// tableID tells tables apart. Two of equal id only wait for each other's writes.
func tableID(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum32()
}

// newFootprint is the set of ids, which it sorts.
func newFootprint(ids []uint32) Footprint {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) > maxTables {
		return Footprint{}
	}
	b := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		b = binary.BigEndian.AppendUint32(b, id)
	}
	return Footprint{exact: true, ids: string(b)}
}

// Exact reports whether the tables are known; else it may be any.
func (f Footprint) Exact() bool { return f.exact }

// Len is how many tables are in an exact set.
func (f Footprint) Len() int { return len(f.ids) / 4 }

// ID is table i's; it says nothing but whether two are the same.
func (f Footprint) ID(i int) uint32 {
	s := f.ids[4*i : 4*i+4]
	return uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
}

// Size is what the set occupies beside its own value, in bytes.
func (f Footprint) Size() int { return len(f.ids) }

// With is the union of both.
func (f Footprint) With(g Footprint) Footprint {
	switch {
	case !f.exact || !g.exact:
		return Footprint{}
	case g.ids == "" || f == g:
		return f
	case f.ids == "":
		return g
	}
	ids := make([]uint32, 0, f.Len()+g.Len())
	for _, s := range []Footprint{f, g} {
		for i := range s.Len() {
			ids = append(ids, s.ID(i))
		}
	}
	return newFootprint(ids)
}

// loose are the ways in which what a node touches cannot be known.
type loose uint8

const (
	looseReads loose = 1 << iota
	looseWrites
	looseBoth = looseReads | looseWrites
)

// quietReasons are those for which lists.txt keeps functions on the primary although
// they write to no table.
var quietReasons = map[string]bool{
	"transaction ids": true, "sequence": true, "session state of one server": true, "lock": true, "notifies": true,
	"tells which server or connection it is": true, "statistics or state of one server": true, "files of one server": true,
}

// looseness is what f's own row of pg_proc leaves open of the tables it touches. What
// must not run on a replica reads any: nobody asks.
func (f *function) looseness(hasSource bool) loose {
	extension, listed := f.listed()
	reason, primary := "", false
	if listed {
		reason, primary = known.primary.reason(extension, f.name)
	}
	_, harmless := known.harmless.reason(extension, f.name)
	switch {
	case f.unheard, primary && !quietReasons[reason]:
		return looseBoth
	case primary, f.kind == 'a', f.kind == 'w', hasSource:
		return 0 // an aggregate is what its functions are
	case listed && harmless:
		return 0
	case f.builtin():
		if f.volatility == 'v' {
			return looseBoth
		}
		return 0
	case f.language == "c" && f.volatility == 'i':
		return 0
	case f.language == "c" && f.volatility == 's':
		return looseReads // PostgreSQL lets it write nothing
	}
	return looseBoth
}

// unseen are words after which a function's source touches more than it names.
var unseen = []string{"execute", "truncate", "refresh", "copy", "create", "alter", "drop", "call", "import", "vacuum"}

// looseness is what a function's source leaves open.
func (b *body) looseness() loose {
	if b.refs != "" {
		var l loose
		eachRef(b.refs, func(field string, n uint32) {
			if field == "commandType" && n > 5 {
				l = looseBoth // a utility statement
			}
		})
		return l
	}
	if b.unclean != "" || slices.ContainsFunc(unseen, func(w string) bool { return slices.Contains(b.words, w) }) {
		return looseBoth
	}
	return 0
}

// footprints finds which tables each node's use reads and writes: those reached
// along the arrows, whatever they stand for.
type footprints struct {
	g     *graph
	loose []loose
	table []uint32 // id of the table a node is; 0 is none
	to    []int32  // to[first[n]:first[n+1]] are those n depends on
	first []int32

	seen  []int32 // the round in which a node was last visited
	round int32
	queue []int32
}

// maxVisits bounds the nodes looked at for one; what reaches more touches any table.
const maxVisits = 5000

// footprints is made when the graph is settled.
func (l *loader) footprints() *footprints {
	n := len(l.g.nodes)
	p := &footprints{g: l.g, loose: make([]loose, n), table: make([]uint32, n), seen: make([]int32, n)}
	for id, open := range l.loose {
		p.loose[id] |= open
	}
	for i := range l.sources {
		p.loose[l.sources[i].function] |= l.sources[i].body.looseness()
	}
	trees := l.trees()
	for i := range l.g.nodes {
		node := &l.g.nodes[i]
		if strings.HasPrefix(node.reason[0], "unknown ") || strings.HasPrefix(node.reason[1], "unknown ") {
			p.loose[i] = looseBoth
		}
		switch node.relkind {
		case 'f':
			p.loose[i] = looseBoth // it may lead back to this very database
		case 'r', 'p', 'm':
			name := node.name
			if root, ok := trees[relationOf(int32(i), node)]; ok {
				name = l.g.nodes[root].name
			}
			p.table[i] = tableID(name)
		}
	}
	p.order(append(l.namedTables(), l.g.arrows...))
	return p
}

// relationOf is the node of reading the relation that a node is of reading or writing.
func relationOf(id int32, n *node) int32 {
	if n.kind == kindWrite {
		return id - 1
	}
	return id
}

// order puts the arrows where they come from.
func (p *footprints) order(arrows []arrow) {
	p.first = make([]int32, len(p.g.nodes)+1)
	for _, a := range arrows {
		p.first[a.from+1]++
	}
	for i := range p.g.nodes {
		p.first[i+1] += p.first[i]
	}
	p.to = make([]int32, len(arrows))
	next := slices.Clone(p.first)
	for _, a := range arrows {
		p.to[next[a.from]] = a.to
		next[a.from]++
	}
}

// of is which tables node id's use reads and writes.
func (p *footprints) of(id int32) (reads, writes Footprint) {
	var open loose
	var read, written []uint32
	whole := p.visit(id, func(at int32) bool {
		open |= p.loose[at]
		if t := p.table[at]; t != 0 && p.g.nodes[at].kind == kindWrite {
			written = append(written, t)
		} else if t != 0 {
			read = append(read, t)
		}
		return open != looseBoth
	})
	if !whole {
		open = looseBoth
	}
	if open&looseReads == 0 {
		reads = newFootprint(read)
	}
	if open&looseWrites == 0 {
		writes = newFootprint(written)
	}
	return reads, writes
}

// visit calls f with node id and all it depends on, each once, while it returns true. It
// reports whether that were all.
func (p *footprints) visit(id int32, f func(at int32) (more bool)) bool {
	p.round++
	p.queue = append(p.queue[:0], id)
	p.seen[id] = p.round
	for i := 0; i < len(p.queue); i++ {
		at := p.queue[i]
		if !f(at) || len(p.queue) > maxVisits {
			return false
		}
		for _, next := range p.to[p.first[at]:p.first[at+1]] {
			if p.seen[next] != p.round {
				p.seen[next] = p.round
				p.queue = append(p.queue, next)
			}
		}
	}
	return true
}

// relation adds to a relation's fact what reading and writing it touches. Most are
// tables that touch nothing but themselves: those share one fact.
func (p *footprints) relation(r Relation, id int32) Relation {
	r.Reads, r.Writes = p.of(id)
	_, r.Changes = p.of(id + 1) // its kindWrite
	self := OneTable(p.g.nodes[id].name)
	if r.Reads == self && r.Changes == self && r.Writes == NoTable() {
		r.Reads, r.Changes, r.alone = NoTable(), NoTable(), true
	}
	return r
}

// named is r as found by name.
func (r Relation) named(name string) Relation {
	if r.alone {
		r.Reads, r.Changes, r.alone = r.Reads.With(OneTable(name)), r.Changes.With(OneTable(name)), false
	}
	return r
}

// namedTables are arrows from functions to the tables their sources name, which
// matter to nobody else: see index.
func (l *loader) namedTables() (arrows []arrow) {
	wanted := map[string][]int32{}
	for i := range l.sources {
		for _, w := range l.sources[i].body.words {
			wanted[w] = nil
		}
	}
	for i := range l.g.nodes {
		if n := &l.g.nodes[i]; n.kind == kindRelation {
			if at, ok := wanted[n.name]; ok {
				wanted[n.name] = append(at, int32(i))
			}
		}
	}
	for i := range l.sources {
		s := &l.sources[i]
		for _, w := range s.body.words {
			for _, relation := range wanted[w] {
				arrows = append(arrows, arrow{from: s.function, to: relation})
				if s.body.writes {
					arrows = append(arrows, arrow{from: s.function, to: relation + 1})
				}
			}
		}
	}
	return arrows
}

// trees maps each relation of an inheritance or partition tree to the root of the
// tree with the least name.
func (l *loader) trees() map[int32]int32 {
	up := map[int32]int32{} // towards one of its tree
	var find func(id int32) int32
	find = func(id int32) int32 {
		parent, ok := up[id]
		if !ok || parent == id {
			return id
		}
		top := find(parent)
		up[id] = top
		return top
	}
	child := map[int32]bool{}
	for _, c := range l.inherits {
		a, aok := l.g.find(kindRelation, c.parent)
		b, bok := l.g.find(kindRelation, c.child)
		if aok && bok {
			child[b] = true
			up[find(b)] = find(a)
			up[find(a)] = find(a)
		}
	}
	root := map[int32]int32{}
	for id := range up {
		if top := find(id); !child[id] {
			if old, ok := root[top]; !ok || l.byName(id, old) < 0 {
				root[top] = id
			}
		}
	}
	trees := make(map[int32]int32, len(up))
	for id := range up {
		if r, ok := root[find(id)]; ok {
			trees[id] = r
		}
	}
	return trees
}

func (l *loader) byName(a, b int32) int {
	x, y := &l.g.nodes[a], &l.g.nodes[b]
	return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.schema, y.schema))
}

// inherits is a row of childrenQuery.
type inherits struct{ parent, child uint32 }

// identity are the words that tell who a session acts as; tellsSetting are the numbers of
// PostgreSQL's current_setting, as a parsed body has them.
var (
	identity     = []string{"current_user", "session_user", "current_role", "user"}
	tellsSetting = []uint32{2077, 3294}
)

// asksSession reports whether a body asks for a setting or for who the session acts as.
func (b *body) asksSession() (asks bool) {
	if b.refs != "" {
		eachRef(b.refs, func(field string, n uint32) { asks = asks || field == "funcid" && slices.Contains(tellsSetting, n) })
		return asks
	}
	return slices.Contains(b.calls, "current_setting") ||
		slices.ContainsFunc(b.words, func(w string) bool { return slices.Contains(identity, w) })
}

// folding finds Snapshot.Folding.
func (l *loader) folding(p *footprints) (names []string) {
	asks := map[int32]bool{}
	for i := range l.sources {
		if s := &l.sources[i]; s.body.asksSession() {
			asks[s.function] = true
		}
	}
	for _, id := range l.constant {
		if !p.visit(id, func(at int32) bool { return !asks[at] && p.loose[at] == 0 && p.table[at] == 0 }) {
			names = append(names, l.g.nodes[id].schema+"."+l.g.nodes[id].name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
