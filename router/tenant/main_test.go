package tenant

import (
	"context"
	"flag"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/router/catalog"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

// connect is a connection for the length of a test.
func connect(t testing.TB, s *pgtest.Server, database, user string) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), s.ConnString(database, user))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// querying makes a catalog.Query of a connection.
func querying(conn *pgconn.PgConn) catalog.Query {
	return func(ctx context.Context, sql string, row func([][]byte) error) error {
		results := conn.Exec(ctx, sql)
		for results.NextResult() {
			rows := results.ResultReader()
			for rows.NextRow() {
				if err := row(rows.Values()); err != nil {
					_ = results.Close()
					return err
				}
			}
		}
		return results.Close()
	}
}
