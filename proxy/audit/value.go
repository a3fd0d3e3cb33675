package audit

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// Which tenants a statement names, to be compared with its session's. What cannot be
// read with certainty is not compared: a mismatch is never a guess.

// parameterText is a parameter as text, as a value of the given type.
func parameterText(p wire.Parameter, typ string) (string, bool) {
	switch {
	case p.Value == nil:
		return "", false
	case !p.Binary:
		return string(p.Value), true
	}
	switch typ {
	case "int2", "int4", "int8":
		switch len(p.Value) { // the client may have chosen another integer type than the column's
		case 2:
			return strconv.Itoa(int(int16(binary.BigEndian.Uint16(p.Value)))), true
		case 4:
			return strconv.Itoa(int(int32(binary.BigEndian.Uint32(p.Value)))), true
		case 8:
			return strconv.FormatInt(int64(binary.BigEndian.Uint64(p.Value)), 10), true
		}
	case "uuid":
		if len(p.Value) == 16 {
			return hex.EncodeToString(p.Value), true
		}
	case "text", "varchar", "bpchar":
		return string(p.Value), true
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

// namesOther reports whether a literal of a statement, or a parameter bound to it,
// names a tenant that is none of its session's.
func namesOther(st *Statement, by *Session) bool {
	f := st.Plan.Tenant
	other := func(v string, array bool) bool {
		if !array {
			return !tenant.Same(v, by.Tenants)
		}
		return slices.ContainsFunc(tenant.Elements(v), func(e string) bool { return !tenant.Same(e, by.Tenants) })
	}
	for i := range f.Values {
		v := &f.Values[i]
		switch {
		case v.Param > 0:
			p, ok := wire.BindParameter(st.Bind, v.Param-1)
			if !ok {
				continue
			}
			if value, ok := parameterText(p, columnType(by.Catalog, f, v.Column)); ok && other(value, v.Array) {
				return true
			}
		case v.Setting == "":
			if value, ok := st.Plan.TenantLiteral(i, st.Text); ok && other(value, v.Array) {
				return true
			}
		}
	}
	return false
}
