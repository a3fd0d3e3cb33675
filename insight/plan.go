package insight

import "unsafe"

// Plan is what is kept of how a server means to execute a statement. It has names and
// estimates, and nothing of a condition but the columns it compares. It never changes.
// Names are written as SQL writes them.
type Plan struct {
	// Shape is equal for plans that differ in estimates and conditions only.
	Shape string     `json:"shape"`
	Cost  float64    `json:"cost"`
	Rows  float64    `json:"rows"`
	Nodes []PlanNode `json:"nodes"` // each behind the one it is below of
	// Left is how many nodes there are besides.
	Left    int    `json:"left,omitempty"`
	Generic bool   `json:"generic,omitempty"` // made without values of parameters
	Server  string `json:"server,omitempty"`
	// Wanted are indexes that would serve conditions of the plan.
	Wanted []WantedIndex `json:"wanted,omitempty"`
}

// PlanNode is one step of a Plan.
type PlanNode struct {
	Depth      int         `json:"depth"`
	Type       string      `json:"type"` // in the words of EXPLAIN
	Relation   string      `json:"relation,omitempty"`
	Index      string      `json:"index,omitempty"`
	Cost       float64     `json:"cost"`
	Rows       float64     `json:"rows"`
	Conditions []Condition `json:"conditions,omitempty"`
	// TableRows is how many the relation has, by its statistics; 0 if that is not known.
	TableRows float64 `json:"table_rows,omitempty"`
	// Spills is what it writes to disk by estimate: what it keeps is more than work_mem.
	Spills float64 `json:"spill_bytes,omitempty"`
}

// Condition is a column that a node compares with something.
type Condition struct {
	Column  string     `json:"column"`
	Compare Comparison `json:"by"`
	// Session: with what the session says of itself, as policies of row-level security do.
	Session bool `json:"session,omitempty"`
	// Index: an index finds the rows; else each row is looked at.
	Index bool `json:"index,omitempty"`
}

// Comparison is what an index must know to serve a condition.
type Comparison string

// Comparisons.
const (
	ByEquality Comparison = "equality"
	ByRange    Comparison = "range"
	ByOther    Comparison = "other" // that B-trees do not serve
)

// WantedIndex is an index that is not there.
type WantedIndex struct {
	Relation string   `json:"relation"`
	Columns  []string `json:"columns"`
	// Verified: a server was asked what the statement would cost with it (HypoPG), and said
	// After; Used is whether it would use it.
	Verified bool    `json:"verified,omitempty"`
	Used     bool    `json:"used,omitempty"`
	Before   float64 `json:"before_cost"`
	After    float64 `json:"after_cost,omitempty"`
}

// size is the memory that p takes, about.
func (p *Plan) size() int {
	n := int(unsafe.Sizeof(*p)) + len(p.Shape) + len(p.Server)
	for i := range p.Nodes {
		x := &p.Nodes[i]
		n += int(unsafe.Sizeof(*x)) + len(x.Relation) + len(x.Index) + len(x.Type)
		for _, c := range x.Conditions {
			n += int(unsafe.Sizeof(c)) + len(c.Column)
		}
	}
	for _, w := range p.Wanted {
		n += int(unsafe.Sizeof(w)) + len(w.Relation)
		for _, c := range w.Columns {
			n += int(unsafe.Sizeof(c)) + len(c)
		}
	}
	return n
}

// Way says by which way a node reads what, or else what it does.
func (x *PlanNode) Way() string {
	way := x.Type
	if x.Index != "" {
		way += " by " + x.Index
	}
	if x.Relation != "" {
		way += " on " + x.Relation
	}
	return way
}

// Access says by which ways the plan reads its relations, in order.
func (p *Plan) Access() (ways []string) {
	for i := range p.Nodes {
		if x := &p.Nodes[i]; x.Index != "" || x.Relation != "" {
			ways = append(ways, x.Way())
		}
	}
	return ways
}
