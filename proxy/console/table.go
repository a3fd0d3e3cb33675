package console

import (
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// column is a column of an answer.
type column struct {
	name string
	oid  uint32
}

// texts and ints are columns of text and of whole numbers.
func texts(names ...string) []column { return columns(pgtype.TextOID, names) }
func ints(names ...string) []column  { return columns(pgtype.Int8OID, names) }

func columns(oid uint32, names []string) (cs []column) {
	for _, name := range names {
		cs = append(cs, column{name, oid})
	}
	return cs
}

// table is the answer to a SHOW. The values of a row are string, int64, or nil for NULL.
type table struct {
	columns []column
	rows    [][]any
}

func (t *table) add(values ...any) { t.rows = append(t.rows, values) }

// described is the table's RowDescription. formats are of the columns: as in Bind.
func (t *table) described(formats []int16) *pgproto3.RowDescription {
	d := &pgproto3.RowDescription{}
	for i, c := range t.columns {
		size := int16(-1)
		if c.oid == pgtype.Int8OID {
			size = 8
		}
		d.Fields = append(d.Fields, pgproto3.FieldDescription{
			Name: []byte(c.name), DataTypeOID: c.oid, DataTypeSize: size, TypeModifier: -1, Format: format(formats, i),
		})
	}
	return d
}

// format is a column's: one for each of them, one for all, or none, which is text.
func format(formats []int16, i int) int16 {
	switch len(formats) {
	case 0:
		return pgtype.TextFormatCode
	case 1:
		return formats[0]
	}
	return formats[i]
}

// row encodes a row.
func (t *table) row(types *pgtype.Map, row []any, formats []int16) (*pgproto3.DataRow, error) {
	d := &pgproto3.DataRow{Values: make([][]byte, len(row))}
	for i, v := range row {
		if v == nil {
			continue
		}
		if s, is := v.(string); is { // names come in the encoding of who said them; this session's is UTF-8
			v = strings.ToValidUTF8(s, "\uFFFD")
		}
		b, err := types.Encode(t.columns[i].oid, format(formats, i), v, []byte{})
		if err != nil {
			return nil, err
		}
		d.Values[i] = b
	}
	return d, nil
}
