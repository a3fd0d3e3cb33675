package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
)

// LoadOptions say how to load; the zero value loads everything anew.
type LoadOptions struct {
	// Previous, if given, is returned as it is when nothing of the same database
	// has changed since; finding that out takes two queries. Else only what may have
	// changed is read again.
	Previous *Snapshot
	// Tables asks for the shape of users' tables too: Snapshot.Tables.
	Tables bool

	// anyVersion takes functions that builtin.txt does not hold as what pg_proc
	// says of them; for writing that file.
	anyVersion bool
}

// firstUserOID is the first OID not given by initdb (FirstNormalObjectId).
const firstUserOID = 16384

// Load reads what must be known of the database that q runs its queries in. Any
// role will do, and a standby as well as a primary, though the server's own
// settings are those of the server that is asked. Queries run one after the
// other; what changes between them is found at the next Load, and what one
// query misses is taken as unsafe. The error is that of q, or of ctx.
func Load(ctx context.Context, q Query, o LoadOptions) (*Snapshot, error) {
	l := &loader{
		ctx: ctx, query: q, g: newGraph(), loose: map[int32]loose{}, anyVersion: o.anyVersion,
		parts: fingerprints{}, answers: map[string]answer{},
	}
	s := &Snapshot{loaded: true, fingerprints: l.parts, answers: l.answers}
	// Before all else: a change after it is a change at the next Load.
	part := func(r row) { l.parts[r.text(0)] = r.text(1) }
	l.read("fingerprint", fingerprintQuery, 2, part)
	if o.Tables {
		l.read("fingerprint of tables", tablesFingerprintQuery, 2, part)
	}
	l.read("settings", settingsQuery, 3, func(r row) { s.settings.read(r) })
	if p := o.Previous; l.err == nil && p != nil && p.loaded {
		if maps.Equal(p.fingerprints, s.fingerprints) && p.settings.text() == s.settings.text() {
			return p, nil
		}
		l.before = p.answers
	}
	l.objects()
	l.arrows()
	if o.Tables {
		s.shapes = l.tables()
	}
	if l.err != nil {
		return nil, l.err
	}
	l.bodies()
	l.g.settle()
	l.g.spread()
	l.publish(s)
	return s.seal(), nil
}

// read takes one row of settingsQuery.
func (s *settings) read(r row) {
	config := r.text(2)
	if !r.null(0) {
		s.add(r.text(0), r.flag(1), config)
		return
	}
	if s.server == nil {
		s.server = map[string]string{}
	}
	name, value, _ := strings.Cut(config, "=")
	s.server[name] = value
}

// loader is one Load. After the first error it does nothing more.
type loader struct {
	ctx   context.Context
	query Query
	err   error
	g     *graph

	anyVersion bool

	parts           fingerprints
	before, answers map[string]answer // of the load before, and of this one, for the next

	implicit int32
	ddl      int32
	sources  []source // of functions, used when all names are known
	types    []typeParts
	columns  []column
	inherits []inherits
	loose    map[int32]loose // of functions, as far as their rows show
	constant []int32         // users' functions that are declared IMMUTABLE
}

// typeParts are a type's input and modifier functions, base, element, subtype, canonical
// and difference function; 0 is none. The references of its default are beside.
type typeParts struct {
	node     int32
	parts    [7]uint32
	defaults string
}

// column is a column of a user's type.
type column struct{ rowType, relation, typ uint32 }

type source struct {
	function int32
	body     body
}

var errRow = errors.New("the answer has another shape than expected")

// read runs one query whose rows have the given width.
func (l *loader) read(what, sql string, width int, f func(row)) {
	if l.err != nil {
		return
	}
	err := l.query(l.ctx, sql, func(values [][]byte) error {
		if len(values) != width {
			return errRow
		}
		f(values)
		return nil
	})
	if err == nil {
		err = l.ctx.Err()
	}
	if err != nil {
		l.err = fmt.Errorf("catalog: read %s: %w", what, err)
	}
}

// row is one row of an answer.
type row [][]byte

func (r row) text(i int) string { return string(r[i]) }
func (r row) null(i int) bool   { return r[i] == nil }
func (r row) flag(i int) bool   { return string(r[i]) == "t" }

func (r row) oid(i int) uint32 {
	n, _ := strconv.ParseUint(string(r[i]), 10, 32) // NULL and nonsense are no object
	return uint32(n)
}

// char is the first byte of a value of type "char".
func (r row) char(i int) byte {
	if len(r[i]) == 0 {
		return 0
	}
	return r[i][0]
}

// objects makes the nodes.
func (l *loader) objects() {
	l.kept("built-in functions", "builtin_functions pg_namespace pg_language pg_extension", functionsQuery(builtinRows), 12, l.function)
	l.kept("functions", "functions pg_namespace pg_language pg_extension", functionsQuery(userRows), 12, l.function)
	l.kept("relations", "relations pg_namespace", relationsQuery, 6, l.relation)
	l.kept("types", "types composites pg_range pg_namespace", typesQuery, 11, func(r row) {
		t := typeParts{node: l.g.add(kindType, r.oid(0), r.text(1), r.text(2)), defaults: r.text(10)}
		for i := range t.parts {
			t.parts[i] = r.oid(3 + i)
		}
		l.types = append(l.types, t)
	})
	l.kept("columns", "columns relations composites types pg_namespace", columnsQuery, 5, func(r row) {
		if _, ok := l.g.find(kindType, r.oid(0)); !ok {
			l.g.add(kindType, r.oid(0), r.text(1), r.text(2))
		}
		l.columns = append(l.columns, column{rowType: r.oid(0), relation: r.oid(3), typ: r.oid(4)})
	})
	l.implicit = l.g.add(kindImplicit, 0, "", "")
	l.ddl = l.g.add(kindDDL, 0, "", "")
}

// function reads one row of functionsQuery and judges what its row alone shows.
func (l *loader) function(r row) {
	f := function{
		oid: r.oid(0), schema: r.text(1), name: r.text(2), volatility: r.char(3), kind: r.char(4),
		language: r.text(5), extension: r.text(6),
	}
	f.unheard = !l.anyVersion && f.builtin() && f.volatility != 'i' &&
		!Builtin().functions.find(f.schema, f.name).Known
	id := l.g.add(kindFunction, f.oid, f.schema, f.name)
	if why := f.keptFromReplica(); why != "" {
		l.g.condemn(id, notReplica, why)
	}
	if why := f.mayLeaveState(); why != "" {
		l.g.condemn(id, notClean, why)
	}
	if open := f.looseness(!r.null(7) || !r.null(8) || f.language == "internal" && !r.null(10)); open != 0 {
		l.loose[id] = open
	}
	if f.volatility == 'i' && !f.builtin() && f.extension == "" && f.language != "c" && f.language != "internal" {
		l.constant = append(l.constant, id)
	}
	if !r.null(7) {
		l.sources = append(l.sources, source{function: id, body: scanBody(r.text(7))})
	}
	if !r.null(11) { // its own SET clause: what it sets ends with the call, but has been touched
		l.g.nodes[id].touches = setting.Names{}.With(strings.Split(r.text(11), ","))
	}
	for i := 8; i <= 10; i++ {
		if !r.null(i) {
			l.sources = append(l.sources, source{function: id, body: body{refs: r.text(i)}})
		}
	}
	if f.oid >= firstUserOID && f.language == "internal" && r.null(10) {
		l.g.condemn(id, bothFaults, "unknown internal function")
	}
}

// relation reads one row of relationsQuery.
func (l *loader) relation(r row) {
	oid, schema, name := r.oid(0), r.text(1), r.text(2)
	id := l.g.add(kindRelation, oid, schema, name)
	write := l.g.add(kindWrite, oid, schema, name)
	l.g.nodes[id].relkind, l.g.nodes[write].relkind = r.char(3), r.char(3)
	l.g.depend(write, id, notClean)
	switch {
	case r.char(3) == 'f':
		l.g.condemn(id, notReplica, "foreign table")
	case r.char(3) == 'S':
		// A standby has replayed values ahead of those given out.
		l.g.condemn(id, notReplica, "sequence")
	case r.char(4) == 'u':
		l.g.condemn(id, notReplica, "unlogged")
	}
}

// publish moves the settled graph into the snapshot's tables.
func (l *loader) publish(s *Snapshot) {
	objects := map[kind][]named{}
	feet := l.footprints()
	for i := range l.g.nodes {
		n := &l.g.nodes[i]
		if n.kind == kindWrite {
			continue
		}
		o := named{schema: n.schema, name: n.name, fact: Relation{Fact: l.g.fact(int32(i))}}
		if n.kind == kindRelation { // its kindWrite follows it
			o.fact = feet.relation(o.fact, int32(i))
			w := &l.g.nodes[i+1]
			o.fact.WriteClean = w.bad&notClean == 0
			o.fact.WriteTouches, o.fact.WriteSets = w.touches, w.sets
			if o.fact.Why == "" {
				o.fact.Why = l.g.why(int32(i+1), notClean)
			}
		}
		if n.kind != kindRelation {
			o.fact.Reads, o.fact.Writes = feet.of(int32(i))
		}
		objects[n.kind] = append(objects[n.kind], o)
	}
	s.folding = l.folding(feet)
	s.functions = newNameTable(objects[kindFunction])
	s.relations = newNameTable(objects[kindRelation])
	s.types = newNameTable(objects[kindType])
	s.operators = newNameTable(objects[kindOperator])
	s.implicit = l.g.fact(l.implicit)
	s.implicit.Reads, s.implicit.Writes = feet.of(l.implicit)
	s.ddl = l.g.fact(l.ddl)
	s.ddl.Replica = false
}
