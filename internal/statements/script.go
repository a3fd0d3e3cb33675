package statements

import (
	"fmt"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// script reads an SQL script, with what psql itself would act on passed over.
func (r *reader) script(text string) error {
	text = blankPsql(text)
	parts, err := pg.SplitWithScanner(text, false)
	if err != nil {
		return fmt.Errorf("split into statements: %s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	at, line := 0, 1
	for _, part := range parts {
		i := strings.Index(text[at:], part) // in order, so each is found where it stands
		line += strings.Count(text[at:at+i], "\n")
		r.add(Statement{Text: part}, line)
		line += strings.Count(part, "\n")
		at += i + len(part)
	}
	return nil
}

// blankPsql empties the lines that hold psql's own commands or rows of COPY … FROM
// stdin; all others keep their places.
func blankPsql(text string) string {
	lines := strings.SplitAfter(text, "\n")
	rows := false
	for i, line := range lines {
		trimmed := strings.TrimRight(line, "\r\n")
		switch {
		case rows:
			rows = trimmed != `\.`
			lines[i] = line[len(trimmed):]
		case strings.HasPrefix(trimmed, `\`):
			lines[i] = line[len(trimmed):]
		default:
			rows = copiesFromStdin(trimmed)
		}
	}
	return strings.Join(lines, "")
}

func copiesFromStdin(line string) bool {
	lower := strings.ToLower(strings.TrimSpace(line))
	return strings.HasPrefix(lower, "copy ") && strings.HasSuffix(lower, ";") && strings.Contains(lower, "from stdin")
}
