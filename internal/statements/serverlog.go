package statements

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// severityMark divides log_line_prefix from a message:
// https://www.postgresql.org/docs/current/runtime-config-logging.html
var severityMark = regexp.MustCompile(`^(.*?)\b(DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|QUERY|CONTEXT|LOCATION|STATEMENT):  `)

// message is what a log's entry says, the same in all three formats.
var message = regexp.MustCompile(`(?s)^(?:duration: ([0-9.]+) ms  )?(?:statement|execute ([^:]*)): (.*)$`)

// who matches user@database in a log_line_prefix, and process a number in brackets.
var (
	who     = regexp.MustCompile(`([^\s\[\]=,@]+)@([^\s\[\]=,@]+)`)
	process = regexp.MustCompile(`\[(\d+)`)
)

// entry is one entry of a server log.
type entry struct {
	Statement
	line            int
	severity        string
	message, detail string
}

// take adds the statement an entry tells of, if it does.
func (r *reader) take(e *entry) {
	if e.severity != "LOG" {
		return
	}
	m := message.FindStringSubmatch(e.message)
	if m == nil || strings.HasPrefix(m[2], "fetch from ") {
		return
	}
	e.Text = m[3]
	if took, err := strconv.ParseFloat(m[1], 64); err == nil {
		e.Took = time.Duration(took * float64(time.Millisecond))
	}
	if _, list, ok := strings.Cut(e.detail, "arameters: "); ok { // Parameters, since 16
		e.Parameters = parameters(list)
	}
	r.add(e.Statement, e.line)
}

// plainLog reads the log that goes to standard error. Lines that begin with a tab
// go on with the entry before; those of another kind belong to nothing.
func (r *reader) plainLog(text string) {
	var now *entry
	var part *string
	line := 0
	for text != "" {
		var one string
		one, text, _ = strings.Cut(text, "\n")
		one = strings.TrimSuffix(one, "\r")
		line++
		if rest, ok := strings.CutPrefix(one, "\t"); ok && part != nil {
			*part += "\n" + rest
			continue
		}
		part = nil
		m := severityMark.FindStringSubmatch(one)
		if m == nil {
			continue
		}
		rest := one[len(m[0]):]
		switch m[2] {
		case "DETAIL":
			if now != nil {
				now.detail, part = rest, &now.detail
			}
		case "HINT", "QUERY", "CONTEXT", "LOCATION", "STATEMENT":
		default:
			if now != nil {
				r.take(now)
			}
			now = &entry{line: line, severity: m[2], message: rest}
			now.prefix(m[1])
			part = &now.message
		}
	}
	if now != nil {
		r.take(now)
	}
}

// prefix takes from log_line_prefix what can be recognized in it.
func (e *entry) prefix(text string) {
	if m := who.FindStringSubmatch(text); m != nil {
		e.User, e.Database = m[1], m[2]
	}
	if m := process.FindStringSubmatch(text); m != nil {
		e.Session = m[1]
	}
	e.Time = logTime(moment.FindString(text))
}

// moment matches %m and %t of a log_line_prefix; the time zone, an abbreviation, is left out.
var moment = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?`)

// logTime reads a time of a log. It is meant for differences: its zone is not looked at.
func logTime(s string) time.Time {
	t, _ := time.Parse("2006-01-02 15:04:05", s)
	return t
}

// Columns of a CSV log: PostgreSQL 13 has 24, 14 and later 26.
const (
	csvTime                                       = 0
	csvUser, csvDatabase, csvProcess, csvSeverity = 1, 2, 3, 11
	csvMessage, csvDetail, csvApplication         = 13, 14, 22
	csvLogColumns                                 = 26
)

func (r *reader) csvLog(data []byte) error {
	c := csv.NewReader(bytes.NewReader(data))
	c.FieldsPerRecord = -1
	c.ReuseRecord = true
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(row) <= csvApplication {
			line, _ := c.FieldPos(0)
			return fmt.Errorf("line %d: %d columns; a CSV log has %d", line, len(row), csvLogColumns)
		}
		line, _ := c.FieldPos(csvMessage)
		r.take(&entry{
			line: line, severity: row[csvSeverity], message: row[csvMessage], detail: row[csvDetail],
			Statement: Statement{Session: row[csvProcess], User: row[csvUser], Database: row[csvDatabase], Application: row[csvApplication], Time: logTime(moment.FindString(row[csvTime]))},
		})
	}
}

func (r *reader) jsonLog(data []byte) error {
	line := 0
	for one := range bytes.Lines(data) {
		line++
		if len(bytes.TrimSpace(one)) == 0 {
			continue
		}
		var e struct {
			Time        string `json:"timestamp"`
			User        string `json:"user"`
			Database    string `json:"dbname"`
			PID         int    `json:"pid"`
			Application string `json:"application_name"`
			Severity    string `json:"error_severity"`
			Message     string `json:"message"`
			Detail      string `json:"detail"`
		}
		if err := json.Unmarshal(one, &e); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		x := entry{
			line: line, severity: e.Severity, message: e.Message, detail: e.Detail,
			Statement: Statement{User: e.User, Database: e.Database, Application: e.Application, Time: logTime(moment.FindString(e.Time))},
		}
		if e.PID != 0 {
			x.Session = fmt.Sprint(e.PID)
		}
		before := len(r.found)
		r.take(&x)
		for i := before; i < len(r.found); i++ {
			r.found[i].Line = line // its own line breaks are escaped
		}
	}
	return nil
}

// parameters reads "$1 = 'x', $2 = NULL". What was cut off (log_parameter_max_length)
// ends in dots.
func parameters(list string) []*string {
	var values []*string
	for {
		_, rest, ok := strings.Cut(list, " = ")
		if !ok {
			return values
		}
		if after, null := strings.CutPrefix(rest, "NULL"); null {
			values, list = append(values, nil), after
			continue
		}
		if !strings.HasPrefix(rest, "'") {
			return values
		}
		value, n := quoted(rest)
		values, list = append(values, &value), rest[n:]
	}
}

// quoted reads the literal s begins with and returns its length in s.
func quoted(s string) (value string, n int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 == len(s) || s[i+1] != '\'' {
			return b.String(), i + 1
		}
		b.WriteByte('\'')
		i++
	}
	return b.String(), len(s)
}
