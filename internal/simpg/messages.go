package simpg

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"
)

// prepared is a prepared statement.
type prepared struct {
	text    string // the whole of what it was made of
	stmt    *stmt  // nil for an empty query
	types   []uint32
	columns []field // what it was described to return; nil is no rows
	bySQL   bool
	literal bool   // it can have no parameters
	version int64  // of the catalog when it was analyzed
	path    string // and the search_path and user then
}

// portal is a bound statement, or a cursor.
type portal struct {
	*prepared
	params  []datum
	raw     [][]byte
	formats []int16
	started bool
	rows    [][]datum
	at      int    // of rows: how many were fetched
	failed  *Error // what came behind the rows
	query   *query // the plan, once there is one
	plan    *analysis
	tag     string // empty is SELECT with the number of rows
	hold    bool   // survives its transaction
	cursor  bool
	own     bool // of the transaction under way
}

// names are a session's prepared statements and portals.
type names struct {
	statements map[string]*prepared
	portals    map[string]*portal
	skips      bool // an error came since the last Sync
}

func newNames() *names {
	return &names{statements: map[string]*prepared{}, portals: map[string]*portal{}}
}

// endTransaction closes the portals that do not survive.
func (n *names) endTransaction(committed bool) {
	maps.DeleteFunc(n.portals, func(_ string, p *portal) bool { return !p.hold || p.own && !committed })
	for _, p := range n.portals {
		p.own = false
	}
}

// fail is what an error does to portals: those of a failed transaction cannot run.
func (n *names) fail() {}

// rollbackTo keeps the portals that were there at a savepoint.
func (n *names) rollbackTo(then map[string]*portal) {
	maps.DeleteFunc(n.portals, func(name string, p *portal) bool { return then[name] != p && p.own })
}

// handle executes a message.
func (se *session) handle(typ byte, body []byte) {
	c := se.server.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if se.names.skips && typ != 'S' {
		return
	}
	se.server.advance(c.clock())
	se.text = ""
	se.busy, se.canceled, se.io.readyAt = true, nil, time.Time{}
	e := caught(func() {
		if se.ended != nil {
			panic(se.ended)
		}
		se.message(typ, body)
	})
	se.deadline = time.Time{}
	if e != nil {
		se.refused(typ, e)
	}
	se.busy, se.canceled = false, nil
}

// refused is what an error does to the session.
func (se *session) refused(typ byte, e *Error) {
	if e.Severity != "ERROR" {
		se.observe(e)
		if se.ended == nil {
			se.ended = e
		}
		return
	}
	se.observe(e)
	if e.offset > 0 && int(e.offset) <= len(se.text)+1 {
		e.Position = int32(utf8.RuneCountInString(se.text[:e.offset-1])) + 1
	}
	r := e.response()
	se.io.send(&r)
	se.io.urgent = true
	se.fail()
	switch {
	case se.ended != nil: // it has lost track of the messages
	case typ == 'Q', typ == 'F':
		se.tx.implicit, se.tx.executed = false, 0
		se.ready()
	case typ == 'S':
		se.ready()
	default:
		se.names.skips = true
	}
}

func (se *session) message(typ byte, body []byte) {
	switch typ {
	case 'Q':
		delete(se.names.statements, "") // the portal goes when it is made anew
		se.startTimer()
		text, rest := cut(body)
		if len(rest) > 0 {
			raise("08P01", "invalid message format")
		}
		se.simple(text)
		se.ready()
	case 'P':
		se.startTimer()
		var m pgproto3.Parse
		_, rest := cut(body)
		_, _ = cut(rest)
		decoded(m.Decode(body))
		se.parse(&m)
		se.io.send(&pgproto3.ParseComplete{})
	case 'B':
		se.startTimer()
		var m pgproto3.Bind
		decoded(m.Decode(body))
		se.bind(&m)
		se.io.send(&pgproto3.BindComplete{})
	case 'D':
		se.describe(body)
	case 'E':
		se.startTimer()
		var m pgproto3.Execute
		decoded(m.Decode(body))
		se.execute(m.Portal, int(m.MaxRows))
	case 'C':
		se.close(body)
	case 'S':
		se.sync()
	case 'H':
		se.io.urgent = true
	case 'F':
		raise("0A000", "simpg: function calls are not modelled")
	case 'd', 'c', 'f': // left over from a COPY that failed
	default:
		panic(&Error{Severity: "FATAL", Code: "08P01", Message: "invalid frontend message type " + strconv.Itoa(int(typ))})
	}
}

func decoded(err error) {
	if err != nil {
		raise("08P01", "invalid message format")
	}
}

func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return string(b[:i])
	}
	return string(b)
}

// cut reads a string of a message.
func cut(b []byte) (text string, rest []byte) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		raise("08P01", "invalid string in message")
	}
	return string(b[:i]), b[i+1:]
}

// startTimer begins to count statement_timeout, unless that has begun.
func (se *session) startTimer() {
	ms, err := strconv.ParseInt(gucs["statement_timeout"].plain(se.set.is("statement_timeout")), 10, 64)
	if err == nil && ms > 0 && se.deadline.IsZero() {
		se.deadline = se.server.cluster.clock().Add(time.Duration(ms) * time.Millisecond)
	}
}

// ready reports what has changed and says that the session is ready.
func (se *session) ready() {
	if se.tx.block == 'I' {
		se.deliver()
	}
	se.report()
	se.io.send(&pgproto3.ReadyForQuery{TxStatus: se.tx.block})
	se.io.urgent, se.io.readyAt = true, se.server.cluster.clock()
}

// report sends the reported settings that are not what the client was last told.
func (se *session) report() {
	for _, name := range reportedNames {
		v := se.shown(name)
		if was, ok := se.set.reported[name]; !ok || was != v {
			se.set.reported[name] = v
			se.io.send(&pgproto3.ParameterStatus{Name: gucs[name].name, Value: v})
		}
	}
}

// shown is the value of a setting as SHOW shows it.
func (se *session) shown(name string) string {
	on := func(b bool) string {
		if b {
			return "on"
		}
		return "off"
	}
	switch name {
	case "is_superuser":
		return on(se.super())
	case "in_hot_standby":
		return on(se.server.recovering())
	case "transaction_isolation":
		return se.modes().isolation
	case "transaction_read_only":
		return on(se.modes().readOnly || se.server.recovering())
	case "transaction_deferrable":
		return on(se.modes().deferrable)
	}
	return se.set.is(name)
}

// modes are those of the transaction, or of the next.
func (se *session) modes() modes {
	if se.tx.id != 0 {
		return se.tx.modes
	}
	return modes{se.set.is("default_transaction_isolation"), se.set.on("default_transaction_read_only"), se.set.on("default_transaction_deferrable")}
}

// sync ends a batch of the extended protocol.
func (se *session) sync() {
	skipped := se.names.skips
	se.names.skips = false
	if se.tx.block == 'I' && !skipped {
		se.commit()
	}
	se.tx.executed = 0
	se.ready()
}

func (se *session) parse(m *pgproto3.Parse) {
	if m.Name == "" {
		delete(se.names.statements, "")
	}
	se.text = m.Query
	stmts := parse(m.Query)
	if len(stmts) > 1 {
		raise("42601", "cannot insert multiple commands into a prepared statement")
	}
	p := &prepared{text: m.Query, types: slices.Clone(m.ParameterOIDs)}
	if len(stmts) == 1 {
		p.stmt = stmts[0]
		se.refuseAborted(p.stmt)
		se.begin()
		se.analyze(p)
	} else {
		se.begin()
	}
	if m.Name != "" && se.names.statements[m.Name] != nil {
		raise("42P05", `prepared statement "%s" already exists`, m.Name)
	}
	se.names.statements[m.Name] = p
}

func (n *names) statement(name string) *prepared {
	p := n.statements[name]
	switch {
	case p != nil:
	case name == "":
		raise("26000", "unnamed prepared statement does not exist")
	default:
		raise("26000", `prepared statement "%s" does not exist`, name)
	}
	return p
}

func (n *names) portal(name string) *portal {
	p := n.portals[name]
	if p == nil {
		raise("34000", `portal "%s" does not exist`, name)
	}
	return p
}

func (se *session) bind(m *pgproto3.Bind) {
	p := se.names.statement(m.PreparedStatement)
	se.text = p.text
	if n := len(m.ParameterFormatCodes); n > 1 && n != len(m.Parameters) {
		raise("08P01", "bind message has %d parameter formats but %d parameters", n, len(m.Parameters))
	}
	if len(m.Parameters) != len(p.types) {
		raise("08P01", `bind message supplies %d parameters, but prepared statement "%s" requires %d`, len(m.Parameters), m.PreparedStatement, len(p.types))
	}
	if se.tx.block == 'E' && (p.stmt == nil || len(m.Parameters) > 0) {
		raise("25P02", aborted)
	} else if p.stmt != nil {
		se.refuseAborted(p.stmt)
	}
	if m.DestinationPortal != "" && se.names.portals[m.DestinationPortal] != nil {
		raise("42P03", `cursor "%s" already exists`, m.DestinationPortal)
	}
	se.begin()
	for _, oid := range p.types {
		if oid >= firstOID && !se.hasType(oid) {
			raise("XX000", "cache lookup failed for type %d", oid)
		}
	}
	o := &portal{prepared: p, formats: m.ResultFormatCodes, own: true}
	for i, b := range m.Parameters {
		e := caught(func() { o.params = append(o.params, decode(b, p.types[i], formatOf(m.ParameterFormatCodes, i))) })
		if e != nil {
			e.Where = "unnamed portal parameter $" + strconv.Itoa(i+1)
			if m.DestinationPortal != "" {
				e.Where = `portal "` + m.DestinationPortal + `" parameter $` + strconv.Itoa(i+1)
			}
			if b != nil && formatOf(m.ParameterFormatCodes, i) == 0 {
				e.Where += " = '...'"
			}
			panic(e)
		}
		if o.raw = append(o.raw, nil); b != nil {
			o.raw[i] = []byte(output(o.params[i]))
		}
	}
	se.revalidate(p)
	if p.stmt != nil && isQuery(p.stmt.node) && se.tx.block != 'E' {
		if se.plan(o); p.stmt.kind == "SelectStmt" {
			o.plan.permit() // the executor of what only reads starts with the portal
		}
	}
	se.names.portals[m.DestinationPortal] = o
}

// hasType reports whether a type of users is there.
func (se *session) hasType(oid uint32) bool {
	for _, o := range se.see().databases[se.database].types {
		if o == oid {
			return true
		}
	}
	return false
}

// formatOf is the format of the value at an index.
func formatOf(formats []int16, i int) int16 {
	switch len(formats) {
	case 0:
		return 0
	case 1:
		return formats[0]
	}
	return formats[i]
}

func (se *session) describe(body []byte) {
	if len(body) < 2 {
		raise("08P01", "invalid message format")
	}
	name := cstring(body[1:])
	switch body[0] {
	case 'S':
		p := se.names.statement(name)
		se.refuseAbortedRows(p)
		se.begin()
		se.revalidate(p)
		se.io.send(&pgproto3.ParameterDescription{ParameterOIDs: p.types})
		se.describeRows(p.columns, nil)
	case 'P':
		p := se.names.portal(name)
		se.refuseAbortedRows(p.prepared)
		se.describeRows(p.columns, p.formats)
	default:
		raise("08P01", "invalid DESCRIBE message subtype %d", body[0])
	}
}

// describeRows sends a RowDescription, or NoData where there are no rows.
func (se *session) describeRows(columns []field, formats []int16) {
	if columns == nil {
		se.io.send(&pgproto3.NoData{})
		return
	}
	m := &pgproto3.RowDescription{}
	for i, c := range columns {
		m.Fields = append(m.Fields, pgproto3.FieldDescription{
			Name: []byte(c.name), TableOID: c.table, TableAttributeNumber: uint16(c.num), DataTypeOID: c.typ,
			DataTypeSize: infoOf(c.typ).size, TypeModifier: -1, Format: formatOf(formats, i),
		})
	}
	se.io.send(m)
}

func (se *session) close(body []byte) {
	if len(body) < 2 {
		raise("08P01", "invalid message format")
	}
	if name := cstring(body[1:]); body[0] == 'S' {
		delete(se.names.statements, name)
	} else {
		delete(se.names.portals, name)
	}
	se.io.send(&pgproto3.CloseComplete{})
}

// execute runs a portal up to so many rows; 0 is all.
func (se *session) execute(name string, limit int) {
	p := se.names.portal(name)
	se.text = p.text
	if p.stmt == nil {
		se.observing(p.text, nil, nil)
		se.observe(nil)
		se.io.send(emptyQuery)
		return
	}
	se.refuseAborted(p.stmt)
	if p.started && p.columns == nil {
		raise("55000", `portal "%s" cannot be run`, name)
	}
	se.begin()
	se.observing(p.text, p.stmt, p.raw)
	if !p.started {
		p.started = true
		se.run(p)
		se.tx.executed++
	}
	rest := p.rows[p.at:]
	if limit > 0 && limit <= len(rest) {
		se.rest(p, rest[:limit])
		p.at += limit
		se.observe(nil)
		se.io.send(&pgproto3.PortalSuspended{})
		return
	}
	p.at = len(p.rows)
	se.rest(p, rest)
	if e := p.failed; e != nil {
		p.failed = nil
		panic(e)
	}
	if se.tx.immediate || p.stmt.transactional() != nil {
		if se.tx.block == 'I' {
			se.commit()
		}
		se.tx.executed = 0
	}
	se.complete(p.tagFor(len(rest)))
}

// rest sends rows.
func (se *session) rest(p *portal, rows [][]datum) {
	for _, r := range rows {
		se.row(p.columns, p.formats, r)
	}
}

func (se *session) row(columns []field, formats []int16, r []datum) {
	m := pgproto3.DataRow{Values: make([][]byte, len(r))}
	for i, d := range r {
		if t, ok := d.(time.Time); ok {
			d = t.In(se.zone())
		}
		m.Values[i] = encode(d, columns[i].typ, formatOf(formats, i))
	}
	se.io.send(&m)
}

// zone is the session's time zone.
func (se *session) zone() *time.Location {
	if l, err := time.LoadLocation(se.set.is("timezone")); err == nil {
		return l
	}
	return time.UTC
}

func (se *session) complete(tag string) {
	se.observe(nil)
	se.io.send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
}

var emptyQuery = &pgproto3.EmptyQueryResponse{}
