package simpg

import (
	"maps"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// state is all the data of a cluster at one moment: what a standby has that replayed the
// log up to there, and what a snapshot shows. Once it is in the log nothing in it changes.
type state struct {
	version   int64 // counts the changes of what is not rows
	databases map[string]*database
	roles     map[string]*role
	defaults  []defaultSetting
	nextOID   uint32
}

// database is one database. Relations have the key "schema.name".
type database struct {
	oid       uint32
	schemas   map[string]bool
	relations map[string]*relation
	functions map[string]*function
	types     map[string]uint32 // enums and domains: their OID; values are text
	creators  map[string]bool   // "schema role": who may create in it
}

// role is a user or group.
type role struct {
	oid       uint32
	login     bool
	super     bool
	bypassRLS bool
	secret    string // SCRAM, empty for none
	member    []string
}

// defaultSetting is one of ALTER ROLE and ALTER DATABASE … SET; an empty role or
// database is any.
type defaultSetting struct{ role, database, name, value string }

// relation is a table, view or sequence.
type relation struct {
	oid       uint32
	schema    string
	name      string
	kind      byte // r, v, S
	owner     string
	columns   []column
	rows      []row
	by        *overlay // whose appending to rows nobody else sees
	keys      []key
	checks    []check
	policies  []policy
	rowLevel  bool // security enabled
	forced    bool
	triggers  []trigger
	view      *pg.SelectStmt
	grants    map[string]bool // "role privilege"
	onCommit  pg.OnCommitAction
	sequence  int64 // of a sequence: the last value that may have been given out
	ownedBy   uint32
	increment int64
}

type column struct {
	name     string
	typ      uint32
	notNull  bool
	def      *pg.Node
	sequence string // of a serial column, "schema.name"
	num      int16  // attnum
}

type row struct {
	id   int64
	vals []datum
}

// key is a primary key or unique constraint.
type key struct {
	name     string
	columns  []int
	primary  bool
	deferred bool
}

// check is a CHECK constraint.
type check struct {
	name string
	x    *pg.Node
}

// policy is a row-level security policy.
type policy struct {
	name       string
	command    byte // r, a, w, d, *
	permissive bool
	roles      []string // none is PUBLIC
	using      *pg.Node
	check      *pg.Node
}

type trigger struct {
	name     string
	function string // "schema.name"
	events   string // of i, u, d
	after    bool
}

// function is a function or procedure of a user.
type function struct {
	oid        uint32
	schema     string
	name       string
	args       []param
	returns    uint32
	set        bool // returns a set
	language   string
	body       string
	volatility byte
	procedure  bool
	settings   map[string]string
	compiled   *block // of LANGUAGE plpgsql
}

type param struct {
	name string
	typ  uint32
}

// firstOID is the first OID of what users make.
const firstOID = 16384

func newState() *state {
	return &state{databases: map[string]*database{}, roles: map[string]*role{}, nextOID: firstOID}
}

func newDatabase(oid uint32) *database {
	return &database{oid: oid, schemas: map[string]bool{"public": true}, relations: map[string]*relation{}, functions: map[string]*function{}, types: map[string]uint32{}}
}

// clone is a state that may be changed but for its databases: see changing.
func (s *state) clone() *state {
	c := *s
	c.databases = maps.Clone(s.databases)
	return &c
}

// cloneShared makes roles and defaults changeable too.
func (s *state) cloneShared() {
	s.version++
	s.roles, s.defaults = maps.Clone(s.roles), slices.Clone(s.defaults)
}

// changing returns a database of a state that is being made, to be changed itself.
func (s *state) changing(name string) *database {
	d := *s.databases[name]
	d.relations = maps.Clone(d.relations)
	s.databases[name] = &d
	return &d
}

// changingAll returns one whose schemas, functions and types may change as well.
func (s *state) changingAll(name string) *database {
	d := s.changing(name)
	s.version++
	d.schemas, d.functions, d.types = maps.Clone(d.schemas), maps.Clone(d.functions), maps.Clone(d.types)
	return d
}

// changing returns a relation of d to be changed.
func (d *database) changing(key string) *relation {
	r := *d.relations[key]
	d.relations[key] = &r
	return &r
}

func (r *relation) key() string { return r.schema + "." + r.name }

func (r *relation) column(name string) int {
	return slices.IndexFunc(r.columns, func(c column) bool { return c.name == name })
}

func (r *relation) row(id int64) int {
	i, ok := slices.BinarySearchFunc(r.rows, id, func(x row, id int64) int { return int(x.id - id) })
	if !ok {
		return -1
	}
	return i
}

// overlay is a state with a transaction's changes on it, made as it is asked for.
type overlay struct {
	base, view *state
	n          int // changes that view has
}

// on is base with changes, which only grow from one call to the next unless reset is
// called between them.
func (o *overlay) on(base *state, changes []change) *state {
	if o.base != base || o.view == nil {
		o.base, o.view, o.n = base, base, 0
	}
	if o.n < len(changes) {
		o.view, o.n = o.view.with(changes[o.n:], o), len(changes)
	}
	return o.view
}

func (o *overlay) reset() { *o = overlay{} }

// change is one thing a transaction did to the data; it is done again on whatever the
// data are when it commits.
type change interface{ apply(s *state, by *overlay) }

// rowChange is a new version of a row; without values it is gone.
type rowChange struct {
	database, relation string
	id                 int64
	vals               []datum
}

// catalogChange is a change of what is not rows.
type catalogChange func(s *state)

func (c catalogChange) apply(s *state, _ *overlay) { c(s) }

func (c *rowChange) apply(s *state, by *overlay) {
	d := s.databases[c.database]
	if d == nil || d.relations[c.relation] == nil {
		return // dropped since
	}
	r := *d.relations[c.relation]
	n := len(r.rows)
	i, found := n, false
	if n > 0 && c.id <= r.rows[n-1].id {
		i, found = slices.BinarySearchFunc(r.rows, c.id, func(x row, id int64) int { return int(x.id - id) })
	}
	switch {
	case i == n && c.vals != nil: // others may hold a shorter part of what is appended to
		if r.by != by || by == nil {
			r.rows, r.by = slices.Clip(r.rows), by
		}
		r.rows = append(r.rows, row{c.id, c.vals})
	case found && c.vals != nil:
		r.rows = slices.Clone(r.rows)
		r.rows[i].vals = c.vals
	case c.vals != nil:
		r.rows = slices.Insert(slices.Clone(r.rows), i, row{c.id, c.vals})
	case found:
		r.rows = slices.Delete(slices.Clone(r.rows), i, i+1)
	}
	d2 := *d
	d2.relations = maps.Clone(d.relations)
	d2.relations[c.relation] = &r
	s.databases[c.database] = &d2
}

// with is s after changes.
// by, if it is not nil, is the only one that makes states of what this returns.
func (s *state) with(changes []change, by *overlay) *state {
	if len(changes) == 0 {
		return s
	}
	n := s.clone()
	for _, c := range changes {
		c.apply(n, by)
	}
	return n
}
