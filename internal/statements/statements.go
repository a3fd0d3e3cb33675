// Package statements reads SQL statements from files, each with its place: SQL
// scripts, PostgreSQL's server log in its three formats, tables with a column of
// statements, and traces of requests. It judges nothing; what is no statement is passed over. Its functions
// may be called concurrently.
package statements

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Statement is one statement and where it was found.
type Statement struct {
	Text string
	File string
	Line int // of its first word, from 1
	// Session, User, Database and Application are what a log says of who sent it;
	// Session is the process.
	Session, User, Database, Application string
	Route                                string // the request it belongs to, in a trace
	// Time is that of its entry in a log, and Took how long it ran; zero if nobody says.
	Time time.Time
	Took time.Duration
	// Parameters are the values bound to $1 …, as far as a log tells; nil is NULL.
	Parameters []*string
}

// Format is how a file holds statements.
type Format string

// The formats. Auto takes the one that the file's name or its first lines suggest.
const (
	Auto    Format = "auto"
	SQL     Format = "sql"
	Log     Format = "log"     // log_destination stderr, whatever its log_line_prefix
	CSVLog  Format = "csvlog"  // log_destination csvlog
	JSONLog Format = "jsonlog" // log_destination jsonlog
	TSV     Format = "tsv"     // tab-separated, with a header naming a column sql, query or statement
	CSV     Format = "csv"     // the same, comma-separated
	Trace   Format = "trace"   // what requests sent: a JSON object a line, with the field events
)

// Formats are all of them.
var Formats = []Format{Auto, SQL, Log, CSVLog, JSONLog, TSV, CSV, Trace}

// Read reads the statements in data, the content of the file called name, in order.
func Read(name string, data []byte, f Format) ([]Statement, error) {
	if f == Auto || f == "" {
		f = guess(name, data)
	}
	r := &reader{file: name}
	var err error
	switch f {
	case SQL:
		err = r.script(string(data))
	case Log:
		r.plainLog(string(data))
	case CSVLog:
		err = r.csvLog(data)
	case JSONLog:
		err = r.jsonLog(data)
	case Trace:
		err = r.trace(data)
	case TSV, CSV:
		err = r.table(data, f)
	default:
		err = fmt.Errorf("unknown format %q", f)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r.found, nil
}

// guess goes by the name's ending and, where that may mean several things, by the first line.
func guess(name string, data []byte) Format {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	switch strings.ToLower(filepath.Ext(name)) {
	case ".tsv":
		return TSV
	case ".csv":
		if bytes.Count(first, []byte(",")) >= csvLogColumns-4 {
			return CSVLog
		}
		return CSV
	case ".json", ".jsonl":
		if bytes.Contains(first, []byte(`"events"`)) {
			return Trace
		}
		return JSONLog
	case ".log":
		if bytes.HasPrefix(first, []byte("{")) {
			return JSONLog
		}
		return Log
	}
	if severityMark.Match(first) {
		return Log
	}
	return SQL
}

// reader gathers what one file holds.
type reader struct {
	file  string
	found []Statement
}

// add notes a statement whose text begins at a line; space and comments before its first
// word stay in the text, as they may mean something.
func (r *reader) add(s Statement, line int) {
	s.File = r.file
	s.Line = line + strings.Count(s.Text[:firstWord(s.Text)], "\n")
	s.Text = strings.TrimSpace(s.Text)
	if s.Text != "" && strings.Trim(s.Text[firstWord(s.Text):], "; \t\r\n") != "" {
		r.found = append(r.found, s)
	}
}

// firstWord is where the first word of a statement stands, behind space and comments.
func firstWord(text string) int {
	i := 0
	for i < len(text) {
		rest := text[i:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v", rest[0]) >= 0:
			i++
		case strings.HasPrefix(rest, "--"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				return len(text)
			}
			i += n + 1
		case strings.HasPrefix(rest, "/*"):
			i += blockComment(rest)
		default:
			return i
		}
	}
	return i
}

// blockComment is the length of the comment s begins with; comments may hold comments.
func blockComment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			if depth--; depth == 0 {
				return i + 2
			}
			i++
		}
	}
	return len(s)
}
