package catalog

import (
	"context"
	"flag"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/pgtest"
)

var update = flag.Bool("update", false, "rewrite the expectations; with builtin.txt, join this server's to them")

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

// connect returns a Query on a connection of its own.
func connect(t testing.TB, s *pgtest.Server, database, user string) Query {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), s.ConnString(database, user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return func(ctx context.Context, sql string, row func([][]byte) error) error {
		results := conn.Exec(ctx, sql)
		for results.NextResult() {
			rows := results.ResultReader()
			for rows.NextRow() {
				if err := row(rows.Values()); err != nil {
					results.Close()
					return err
				}
			}
		}
		return results.Close()
	}
}

func load(t testing.TB, q Query, o LoadOptions) *Snapshot {
	t.Helper()
	s, err := Load(t.Context(), q, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
