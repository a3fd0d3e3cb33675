package statements

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
)

// errNoColumn is a table whose header names no column of statements.
var errNoColumn = errors.New("the first line names no column sql, query or statement")

// statementColumn finds the column of statements, -1 if there is none.
func statementColumn(header []string) int {
	return slices.IndexFunc(header, func(h string) bool {
		h = strings.ToLower(strings.Trim(strings.TrimPrefix(h, "\ufeff"), ` "`))
		return h == "sql" || h == "query" || h == "statement"
	})
}

// table reads a table with a header, as of pg_stat_statements.
func (r *reader) table(data []byte, f Format) error {
	if f == TSV {
		return r.tabs(string(data))
	}
	c := csv.NewReader(bytes.NewReader(data))
	c.FieldsPerRecord = -1
	header, err := c.Read()
	if err != nil {
		return err
	}
	column := statementColumn(header)
	if column < 0 {
		return errNoColumn
	}
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if column < len(row) {
			line, _ := c.FieldPos(column)
			r.add(Statement{Text: row[column]}, line)
		}
	}
}

// unescape undoes what COPY writes for a line break, a tab and a backslash.
var unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r")

// tabs reads a table of tab-separated values without quotes, as COPY and psql write it.
func (r *reader) tabs(text string) error {
	column, line := -1, 0
	for one := range strings.Lines(text) {
		line++
		fields := strings.Split(strings.TrimRight(one, "\r\n"), "\t")
		if line == 1 {
			if column = statementColumn(fields); column < 0 {
				return errNoColumn
			}
			continue
		}
		if column >= len(fields) {
			continue
		}
		before := len(r.found)
		r.add(Statement{Text: unescape.Replace(fields[column])}, line)
		for i := before; i < len(r.found); i++ {
			r.found[i].Line = line
		}
	}
	return nil
}
