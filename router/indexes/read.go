// Package indexes says which indexes of a database are of no use, and which are not there.
// Read asks one server; Judge holds what all servers said, and what plans wanted, against each
// other: an index that the primary never scans may serve the replicas. Expressions and
// predicates of indexes have literals, of which nothing is kept but whether two are equal.
package indexes

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router/catalog"
)

// Server is what one server says of a database.
type Server struct {
	Name    string
	Primary bool
	Since   time.Time // its statistics were reset; zero if nobody knows
	Indexes []Index
}

// Index is one index on one server. Names are as SQL writes them.
type Index struct {
	Table  string `json:"table"`
	Name   string `json:"index"`
	Method string `json:"method"`
	// Keys are its columns, or expressions, which are told as such; Include are those it has
	// besides.
	Keys    []string `json:"columns"`
	Include []string `json:"include,omitempty"`
	Unique  bool     `json:"unique,omitempty"`
	// Needed: a constraint, replication or a partitioned index rests on it.
	Needed  bool  `json:"needed,omitempty"`
	Partial bool  `json:"partial,omitempty"`
	Valid   bool  `json:"valid"`
	Bytes   int64 `json:"bytes"`
	// Least is what it would take if it were built now, by estimate; 0 if nobody knows.
	Least int64 `json:"least_bytes,omitempty"`
	Scans int64 `json:"scans"`
	// TableScans and Writes are of its table: scans of any kind, and rows inserted, updated and
	// deleted.
	TableScans int64 `json:"-"`
	Writes     int64 `json:"writes"`

	options   []string // of each key: operator class, collation, order
	condition string   // equal for equal expressions and predicates
}

// expression stands for a key that is no column.
const expression = "(expression)"

// separator is between the columns that query returns as one value.
const separator = "\x1f"

// query asks for all indexes but those of the system and of temporary tables.
const query = `SELECT n.nspname, t.relname, i.relname, a.amname, x.indisunique,
 x.indisprimary OR x.indisreplident OR x.indisexclusion OR EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid OPERATOR(pg_catalog.=) i.oid)
  OR EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h WHERE h.inhrelid OPERATOR(pg_catalog.=) i.oid),
 x.indpred IS NOT NULL, x.indisvalid AND x.indisready, x.indnkeyatts,
 pg_catalog.array_to_string(ARRAY(SELECT coalesce(c.attname, '') FROM pg_catalog.unnest(x.indkey) WITH ORDINALITY AS k(n, o)
  LEFT JOIN pg_catalog.pg_attribute c ON c.attrelid OPERATOR(pg_catalog.=) x.indrelid AND c.attnum OPERATOR(pg_catalog.=) k.n AND k.n OPERATOR(pg_catalog.<>) 0 ORDER BY k.o), pg_catalog.chr(31)),
 x.indclass, x.indcollation, x.indoption,
 pg_catalog.hashtextextended(pg_catalog.concat(pg_catalog.pg_get_expr(x.indpred, x.indrelid), pg_catalog.chr(31), pg_catalog.pg_get_expr(x.indexprs, x.indrelid)), 0),
 coalesce(pg_catalog.pg_relation_size(i.oid), 0), coalesce(s.idx_scan, 0),
 coalesce(u.seq_scan, 0) OPERATOR(pg_catalog.+) coalesce(u.idx_scan, 0),
 coalesce(u.n_tup_ins OPERATOR(pg_catalog.+) u.n_tup_upd OPERATOR(pg_catalog.+) u.n_tup_del, 0),
 i.reltuples,
 (SELECT CASE WHEN pg_catalog.count(w.avg_width) OPERATOR(pg_catalog.=) x.indnatts THEN pg_catalog.sum(w.avg_width) END
  FROM pg_catalog.pg_attribute c JOIN pg_catalog.pg_stats w ON w.schemaname OPERATOR(pg_catalog.=) n.nspname AND w.tablename OPERATOR(pg_catalog.=) t.relname
   AND w.attname OPERATOR(pg_catalog.=) c.attname AND NOT w.inherited
  WHERE c.attrelid OPERATOR(pg_catalog.=) x.indrelid AND c.attnum OPERATOR(pg_catalog.=) ANY (x.indkey::pg_catalog.int2[]))
FROM pg_catalog.pg_index x
 JOIN pg_catalog.pg_class i ON i.oid OPERATOR(pg_catalog.=) x.indexrelid AND i.relkind OPERATOR(pg_catalog.=) 'i'
 JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) x.indrelid AND t.relpersistence OPERATOR(pg_catalog.<>) 't'
 JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.relnamespace AND n.nspname OPERATOR(pg_catalog.!~) '^(pg_|information_schema$)'
 JOIN pg_catalog.pg_am a ON a.oid OPERATOR(pg_catalog.=) i.relam
 LEFT JOIN pg_catalog.pg_stat_all_indexes s ON s.indexrelid OPERATOR(pg_catalog.=) i.oid
 LEFT JOIN pg_catalog.pg_stat_all_tables u ON u.relid OPERATOR(pg_catalog.=) t.oid
ORDER BY 1, 2, 3`

const serverQuery = `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.date_part('epoch', d.stats_reset)
FROM pg_catalog.pg_stat_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()`

// Read asks a server for the indexes of the database it is asked in.
func Read(ctx context.Context, q catalog.Query, name string) (*Server, error) {
	s := &Server{Name: name}
	err := q(ctx, serverQuery, func(v [][]byte) error {
		s.Primary = string(v[0]) == "f"
		if seconds, err := strconv.ParseFloat(string(v[1]), 64); err == nil {
			s.Since = time.Unix(int64(seconds), 0).UTC()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = q(ctx, query, func(v [][]byte) error {
		s.Indexes = append(s.Indexes, index(v))
		return nil
	})
	return s, err
}

// index reads a row of query.
func index(v [][]byte) Index {
	x := Index{
		Table: grammar.Name(string(v[0])) + "." + grammar.Name(string(v[1])), Name: grammar.Name(string(v[0])) + "." + grammar.Name(string(v[2])),
		Method: string(v[3]), Unique: isTrue(v[4]), Needed: isTrue(v[5]), Partial: isTrue(v[6]), Valid: isTrue(v[7]),
		condition: string(v[13]), Bytes: integer(v[14]), Scans: integer(v[15]), TableScans: integer(v[16]), Writes: integer(v[17]),
	}
	classes, collations, orders := strings.Fields(string(v[10])), strings.Fields(string(v[11])), strings.Fields(string(v[12]))
	for i, column := range strings.Split(string(v[9]), separator) {
		if column = grammar.Name(column); column == "" {
			column = expression
		}
		if i >= int(integer(v[8])) {
			x.Include = append(x.Include, column)
			continue
		}
		x.Keys = append(x.Keys, column)
		x.options = append(x.options, at(classes, i)+" "+at(collations, i)+" "+at(orders, i))
	}
	if x.Method == "btree" && v[19] != nil {
		x.Least = least(number(v[18]), number(v[19]))
	}
	return x
}

// least is what a B-tree of some rows takes, each of a width, in bytes: 8 bytes each with a
// header of 8 and a pointer of 4, in pages of 8 KiB filled to 90 %.
// https://www.postgresql.org/docs/current/storage-page-layout.html
func least(rows, width float64) int64 {
	if rows < 0 {
		return 0
	}
	entry := 8*float64(int(width+7)/8) + 8 + 4
	perPage := max(float64(int(0.9*(8192-40)/entry)), 1)
	return int64(rows/perPage+2) * 8192
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

func isTrue(v []byte) bool { return string(v) == "t" }

func integer(v []byte) int64 {
	n, _ := strconv.ParseInt(string(v), 10, 64)
	return n
}

func number(v []byte) float64 {
	n, _ := strconv.ParseFloat(string(v), 64)
	return n
}
