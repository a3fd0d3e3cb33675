package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// Which tenants a statement names, to be compared with its session's. What cannot be
// read with certainty is not compared: a mismatch is never a guess.

// text is the parameter as text, as a value of the given type.
func (b bound) text(typ string) (string, bool) {
	switch {
	case b.value == nil:
		return "", false
	case !b.binary:
		return string(b.value), true
	}
	switch typ {
	case "int2", "int4", "int8":
		switch len(b.value) { // the client may have chosen another integer type than the column's
		case 2:
			return strconv.Itoa(int(int16(binary.BigEndian.Uint16(b.value)))), true
		case 4:
			return strconv.Itoa(int(int32(binary.BigEndian.Uint32(b.value)))), true
		case 8:
			return strconv.FormatInt(int64(binary.BigEndian.Uint64(b.value)), 10), true
		}
	case "uuid":
		if len(b.value) == 16 {
			return hex.EncodeToString(b.value), true
		}
	case "text", "varchar", "bpchar":
		return string(b.value), true
	}
	return "", false
}

// columnType is the type of a tenant column, if it is the same in all of the finding's tables.
func columnType(s *catalog.Snapshot, f *tenant.Finding, column string) string {
	typ := ""
	for i := range f.Tables {
		t := &f.Tables[i]
		if t.Column != column {
			continue
		}
		for _, known := range s.Tables(t.Schema, t.Name) {
			c, ok := known.Column(column)
			if !ok {
				continue
			}
			if typ != "" && typ != c.Type {
				return ""
			}
			typ = c.Type
		}
	}
	return typ
}

// mismatches reports whether a literal of the statement, or a parameter bound to it,
// names a tenant that is none of the session's.
func (c *client) mismatches(p *router.Plan, session []string, text, bind []byte) bool {
	f := p.Tenant
	other := func(v string, array bool) bool {
		if !array {
			return !tenant.Same(v, session)
		}
		return slices.ContainsFunc(tenant.Elements(v), func(e string) bool { return !tenant.Same(e, session) })
	}
	var params []bound
	for i := range f.Values {
		v := &f.Values[i]
		switch {
		case v.Param > 0:
			if params == nil {
				params = bindValues(bind)
			}
			if v.Param > len(params) {
				continue
			}
			typ := columnType(c.o.db.plans.Snapshot(), f, v.Column)
			if value, ok := params[v.Param-1].text(typ); ok && other(value, v.Array) {
				return true
			}
		case v.Setting == "":
			if value, ok := p.TenantLiteral(i, text); ok && other(value, v.Array) {
				return true
			}
		}
	}
	return false
}

// showUnfiltered answers SHOW pgweir.unfiltered: what the audit has seen in the
// session's database, a row each.
func (c *client) showUnfiltered() []byte {
	a := c.s.audit
	list := a.ledger.list(c.o.db.label())
	var out []byte
	for i := range list {
		out = wire.AppendTextValue(out, a.row(&list[i])...)
	}
	return wire.AppendComplete(out, "SHOW")
}

// unfilteredColumns are the columns of SHOW pgweir.unfiltered.
var unfilteredColumns = []string{
	"severity", "kind", "tables", "count", "mode", "statement", "fingerprint", "user", "application", "tenant",
	"first_seen", "last_seen", "exempt",
}

func (a *auditor) row(s *sighting) []string {
	return []string{
		s.severity.String(), s.kind, strings.Join(s.tables, ", "), strconv.FormatUint(s.count, 10), s.mode.String(),
		s.statement, s.fingerprint, s.user, s.application, a.hide(s.tenant),
		s.first.UTC().Format("2006-01-02 15:04:05.000Z"), s.at.UTC().Format("2006-01-02 15:04:05.000Z"), s.run.reason,
	}
}
