// Package execplan reads what EXPLAIN (VERBOSE, FORMAT JSON) says of a statement. Of that it
// keeps the steps with their estimates, names of relations and indexes, and of a condition
// the columns that it compares: conditions, sort keys and output have literals, and nothing
// of their text is kept, whatever it is.
package execplan

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/grammar"
)

// Memory is what a step of a plan may use before it writes to disk, in bytes; 0 is that
// nobody knows.
type Memory struct {
	Work float64 // work_mem
	Hash float64 // that times hash_mem_multiplier
}

// maxNodes is how many nodes of a plan are kept.
const maxNodes = 60

// node is one of EXPLAIN's. What is not named here is not read.
type node struct {
	Type      string  `json:"Node Type"`
	Parallel  bool    `json:"Parallel Aware"`
	Schema    string  `json:"Schema"`
	Relation  string  `json:"Relation Name"`
	Alias     string  `json:"Alias"`
	Index     string  `json:"Index Name"`
	Join      string  `json:"Join Type"`
	Strategy  string  `json:"Strategy"`
	Mode      string  `json:"Partial Mode"`
	Operation string  `json:"Operation"`
	Command   string  `json:"Command"`
	Direction string  `json:"Scan Direction"`
	Cost      float64 `json:"Total Cost"`
	Rows      float64 `json:"Plan Rows"`
	Width     float64 `json:"Plan Width"`
	Filter    string  `json:"Filter"`
	IndexCond string  `json:"Index Cond"`
	Plans     []node  `json:"Plans"`
}

// Parse is the plan that EXPLAIN's answer tells.
func Parse(answer []byte, m Memory) (*insight.Plan, error) {
	var list []struct {
		Plan node `json:"Plan"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, errors.New("read the plan: it is not what EXPLAIN (FORMAT JSON) writes") // the error may quote it
	}
	if len(list) != 1 || list[0].Plan.Type == "" {
		return nil, fmt.Errorf("read the plan: %d plans", len(list))
	}
	r := reader{memory: m}
	top := &list[0].Plan
	r.plan.Cost, r.plan.Rows = top.Cost, top.Rows
	r.node(top, above{})
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(r.shape.String()))
	r.plan.Shape = hex.EncodeToString(sum.Sum(nil))
	return &r.plan, nil
}

// reader is the reading of one plan.
type reader struct {
	memory Memory
	plan   insight.Plan
	shape  strings.Builder
}

// above is what a node must know of those it is below of.
type above struct {
	depth int
	limit float64 // how many rows are taken at most; 0 is all
	alias string  // of the relation whose rows are looked for
}

// node reads one and those below it.
func (r *reader) node(n *node, up above) {
	fmt.Fprintf(&r.shape, "%d %q\n", up.depth, []string{n.kind(), n.Schema, n.Relation, n.Index, n.Join, n.Mode, n.Operation, n.Command, n.Direction})
	below := above{depth: up.depth + 1}
	switch {
	case n.Type == "Limit":
		below.limit = n.Rows
	case strings.HasPrefix(n.Type, "Gather"):
		below.limit = up.limit
	case n.Alias != "":
		below.alias = n.Alias
	case strings.HasPrefix(n.Type, "Bitmap"): // below a Bitmap Heap Scan
		below.alias = up.alias
		n.Alias = up.alias
	}
	if len(r.plan.Nodes) < maxNodes {
		r.plan.Nodes = append(r.plan.Nodes, r.kept(n, up))
	} else {
		r.plan.Left++
	}
	for i := range n.Plans {
		r.node(&n.Plans[i], below)
	}
}

// kept is what is kept of a node.
func (r *reader) kept(n *node, up above) insight.PlanNode {
	x := insight.PlanNode{Depth: up.depth, Type: n.kind(), Index: grammar.Name(n.Index), Cost: n.Cost, Rows: n.Rows, Spills: r.spills(n, up.limit)}
	if n.Relation != "" {
		x.Relation = grammar.Name(n.Relation)
		if n.Schema != "" {
			x.Relation = grammar.Name(n.Schema) + "." + x.Relation
		}
	}
	if n.Alias != "" {
		x.Conditions = append(conditions(n.IndexCond, n.Alias, true), conditions(n.Filter, n.Alias, false)...)
	}
	return x
}

// kind is the node's type in the words of EXPLAIN's text format.
func (n *node) kind() string {
	kind := n.Type
	if n.Type == "Aggregate" {
		kind = map[string]string{"Sorted": "GroupAggregate", "Hashed": "HashAggregate", "Mixed": "MixedAggregate"}[n.Strategy]
		if kind == "" {
			kind = n.Type
		}
	}
	if n.Parallel {
		kind = "Parallel " + kind
	}
	return kind
}

// rowHeader is what a row takes in memory beside its columns, as the planner reckons.
const rowHeader = 24

// spills is what a node writes to disk by estimate, in bytes.
func (r *reader) spills(n *node, limit float64) float64 {
	rows := n.Rows
	if limit > 0 {
		rows = min(rows, limit)
	}
	bytes := rows * (8*float64(int(n.Width+7)/8) + rowHeader)
	memory := r.memory.Work
	switch {
	case n.Type == "Sort", n.Type == "Materialize":
	case n.Type == "Hash", n.Type == "Aggregate" && n.Strategy == "Hashed":
		memory = r.memory.Hash
	default:
		return 0
	}
	if memory == 0 || bytes <= memory {
		return 0
	}
	return bytes
}

// Wanted are the indexes that would serve what reads a big table from end to end.
func Wanted(p *insight.Plan) (wanted []insight.WantedIndex) {
	for i := range p.Nodes {
		x := &p.Nodes[i]
		if !x.WantsIndex() {
			continue
		}
		w := insight.WantedIndex{Relation: x.Relation, Columns: columns(x.Conditions), Before: p.Cost}
		if len(w.Columns) == 0 || slices.ContainsFunc(wanted, func(other insight.WantedIndex) bool { return other.SQL() == w.SQL() }) {
			continue
		}
		wanted = append(wanted, w)
	}
	return wanted
}

// maxColumns is how many columns an index is proposed with.
const maxColumns = 4

// columns are those of an index for some conditions: what the session says first, which every
// statement on the table compares, then what else must be equal, then one range.
func columns(all []insight.Condition) (list []string) {
	for _, want := range []insight.Condition{
		{Compare: insight.ByEquality, Session: true}, {Compare: insight.ByEquality}, {Compare: insight.ByRange, Session: true}, {Compare: insight.ByRange},
	} {
		for _, c := range all {
			if c.Compare == want.Compare && c.Session == want.Session && len(list) < maxColumns && !slices.Contains(list, c.Column) {
				if list = append(list, c.Column); c.Compare == insight.ByRange {
					return list
				}
			}
		}
	}
	return list
}
