package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
)

// account says who the tools log in as: --user with the password of PGPASSWORD,
// or else a cluster's service account.
type account struct{ user string }

func (a *account) flag(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVarP(&a.user, "user", "U", "", usage)
}

var errNoAccount = errors.New("no account to log in with; set service.user, or give --user and PGPASSWORD")

func (a account) credentials(s config.Service) (backend.Credentials, error) {
	switch {
	case a.user != "" && a.user != s.User:
		return backend.Credentials{User: a.user, Password: os.Getenv("PGPASSWORD")}, nil
	case s.User != "":
		return backend.Credentials{User: s.User, Password: s.Password}, nil
	}
	return backend.Credentials{}, errNoAccount
}

// connect logs in to one server of a cluster. The connection's errors name no secret.
func connect(ctx context.Context, cl config.Cluster, s config.Server, cred backend.Credentials, database string) (*pgconn.PgConn, error) {
	login, err := openTo(ctx, cl, s, cred, database)
	if err != nil {
		return nil, err
	}
	return adopt(login)
}

// openTo is connect without pgconn.
func openTo(ctx context.Context, cl config.Cluster, s config.Server, cred backend.Credentials, database string) (*backend.Login, error) {
	addr, err := backend.ParseAddress(s.Address)
	if err != nil {
		return nil, err
	}
	tls, err := backend.LoadTLS(cl.TLS)
	if err != nil {
		return nil, err
	}
	return backend.Open(ctx, backend.Options{Address: addr, TLSName: s.TLSName, TLS: tls}, cred, database,
		map[string]string{"application_name": "pgweir", "client_encoding": "UTF8"})
}

// adopt puts pgconn's query functions on a fresh login. Its configuration is made
// by hand: parsing one would look at the environment and at files.
func adopt(l *backend.Login) (*pgconn.PgConn, error) {
	return pgconn.Construct(&pgconn.HijackedConn{
		Conn:              l.Conn,
		PID:               l.PID,
		SecretKey:         l.Key,
		ParameterStatuses: l.Parameters,
		TxStatus:          'I',
		Config: &pgconn.Config{
			BuildFrontend: func(r io.Reader, w io.Writer) *pgproto3.Frontend { return pgproto3.NewFrontend(r, w) },
			BuildContextWatcherHandler: func(c *pgconn.PgConn) ctxwatch.Handler {
				return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
			},
		},
	})
}

// query runs one query and hands every row over; see catalog.Query.
func query(ctx context.Context, conn *pgconn.PgConn, sql string, row func(values [][]byte) error) error {
	results := conn.Exec(ctx, sql)
	var failed error
	for results.NextResult() {
		r := results.ResultReader()
		for r.NextRow() {
			if failed == nil {
				failed = row(r.Values())
			}
		}
	}
	return errors.Join(failed, results.Close())
}
