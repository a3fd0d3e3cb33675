package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Restore runs what pg_dump wrote in plain format, as psql would, up to the first error. An error
// with which the server refuses a statement is passed over if tolerated says so.
func Restore(ctx context.Context, conn *pgconn.PgConn, dump string, tolerated func(sql, sqlstate string) bool) error {
	for dump != "" {
		sql, rest, _ := strings.Cut(dump, ";\n")
		dump = rest
		var err error
		if strings.HasSuffix(sql, "FROM stdin") {
			rows, rest, _ := strings.Cut(dump, `\.`+"\n")
			dump = rest
			_, err = conn.CopyFrom(ctx, strings.NewReader(rows), sql[strings.LastIndex(sql, "COPY "):])
		} else {
			_, err = conn.Exec(ctx, sql).ReadAll()
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && tolerated(sql, refused.Code) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
