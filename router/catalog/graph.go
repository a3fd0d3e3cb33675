package catalog

import (
	"slices"

	"github.com/pgweir/pgweir/internal/setting"
)

// The facts of a database are a graph: a view reads tables, a trigger calls a
// function, a function names another. A node is bad in two ways at most, and
// badness flows against the arrows until nothing changes.

// fault is a set of ways to be bad.
type fault uint8

const (
	notReplica fault = 1 << iota
	notClean
	bothFaults = notReplica | notClean
)

// faults are the single ways, as indexes of a node's arrays.
var faults = [2]fault{notReplica, notClean}

// kind is what a node stands for.
type kind uint8

const (
	kindFunction kind = iota
	kindRelation      // reading it
	kindWrite         // writing to it; of the same OID as kindRelation
	kindType
	kindOperator
	kindImplicit
	kindDDL // any command that changes the catalog
)

var kindNames = [...]string{"function", "relation", "writes to", "type", "operator", "operator class", "event trigger"}

type node struct {
	schema, name string
	kind         kind
	relkind      byte // of pg_class, for people
	bad          fault
	reason       [2]string // why it is bad in itself, by fault
	culprit      [2]int32  // the node whose badness it has; itself if in itself

	touches setting.Names // custom settings it may set
	sets    bool          // it may set settings for the session
}

type arrow struct {
	from, to int32 // from depends on to
	faults   fault // that flow
}

type graph struct {
	nodes  []node
	byOID  map[uint64]int32
	arrows []arrow
}

func newGraph() *graph { return &graph{byOID: map[uint64]int32{}} }

func oidKey(k kind, oid uint32) uint64 { return uint64(k)<<32 | uint64(oid) }

// add makes a node; oid 0 is a node that nothing refers to.
func (g *graph) add(k kind, oid uint32, schema, name string) int32 {
	id := int32(len(g.nodes))
	g.nodes = append(g.nodes, node{schema: schema, name: name, kind: k, culprit: [2]int32{id, id}})
	if oid != 0 {
		g.byOID[oidKey(k, oid)] = id
	}
	return id
}

func (g *graph) find(k kind, oid uint32) (int32, bool) {
	id, ok := g.byOID[oidKey(k, oid)]
	return id, ok
}

// condemn says that a node is bad in itself; the first reason stays.
func (g *graph) condemn(id int32, f fault, reason string) {
	n := &g.nodes[id]
	for i, one := range faults {
		if f&one != 0 && n.bad&one == 0 {
			n.bad |= one
			n.reason[i] = reason
		}
	}
}

func (g *graph) depend(from, to int32, f fault) {
	if from != to {
		g.arrows = append(g.arrows, arrow{from, to, f})
	}
}

// settle lets badness flow.
func (g *graph) settle() {
	to, first := g.incoming()
	for i, f := range faults {
		var queue []int32
		for id := range g.nodes {
			if g.nodes[id].bad&f != 0 {
				queue = append(queue, int32(id))
			}
		}
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			for _, a := range to[first[at]:first[at+1]] {
				if n := &g.nodes[a.from]; a.faults&f != 0 && n.bad&f == 0 {
					n.bad |= f
					n.culprit[i] = g.nodes[at].culprit[i]
					queue = append(queue, a.from)
				}
			}
		}
	}
}

// spread lets what nodes set flow as uncleanness does.
func (g *graph) spread() {
	to, first := g.incoming()
	var queue []int32
	for id := range g.nodes {
		if g.nodes[id].sets || g.nodes[id].touches != (setting.Names{}) {
			queue = append(queue, int32(id))
		}
	}
	for len(queue) > 0 {
		at := &g.nodes[queue[0]]
		for _, a := range to[first[queue[0]]:first[queue[0]+1]] {
			n := &g.nodes[a.from]
			touches, sets := n.touches.Union(at.touches), n.sets || at.sets
			if a.faults&notClean != 0 && (touches != n.touches || sets != n.sets) {
				n.touches, n.sets = touches, sets
				queue = append(queue, a.from)
			}
		}
		queue = queue[1:]
	}
}

// incoming orders the arrows by where they lead: to[first[n]:first[n+1]] are those to n.
func (g *graph) incoming() (to []arrow, first []int32) {
	first = make([]int32, len(g.nodes)+1)
	for _, a := range g.arrows {
		first[a.to+1]++
	}
	for i := range g.nodes {
		first[i+1] += first[i]
	}
	to = make([]arrow, len(g.arrows))
	next := slices.Clone(first)
	for _, a := range g.arrows {
		to[next[a.to]] = a
		next[a.to]++
	}
	return to, first
}

// why explains a node's badness of one kind: "nextval in view v", "unlogged".
func (g *graph) why(id int32, f fault) string {
	i := slices.Index(faults[:], f)
	n := &g.nodes[id]
	if n.bad&f == 0 {
		return ""
	}
	culprit := &g.nodes[n.culprit[i]]
	if culprit == n {
		return n.reason[i]
	}
	// PostgreSQL's own functions say enough by their name; others need the reason.
	what := culprit.title()
	if culprit.kind != kindFunction || culprit.schema != "pg_catalog" {
		what = culprit.title() + " (" + culprit.reason[i] + ")"
	}
	return what + " in " + n.sort() + " " + n.title()
}

// sort is what people call a node's kind.
func (n *node) sort() string {
	switch n.relkind {
	case 'v':
		return "view"
	case 'm':
		return "materialized view"
	case 'S':
		return "sequence"
	case 0:
		return kindNames[n.kind]
	}
	return "table"
}

func (n *node) title() string {
	if n.schema == "pg_catalog" || n.schema == "" {
		return n.name
	}
	return n.schema + "." + n.name
}

// fact is what a settled node says.
func (g *graph) fact(id int32) Fact {
	n := &g.nodes[id]
	f := Fact{
		Known: true, Replica: n.bad&notReplica == 0, Clean: n.bad&notClean == 0,
		Touches: n.touches, Sets: n.sets,
	}
	if f.Why = g.why(id, notReplica); f.Why == "" {
		f.Why = g.why(id, notClean)
	}
	return f
}
