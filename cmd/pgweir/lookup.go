package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/setup"
	"github.com/pgweir/pgweir/pool/backend"
)

// checkLookUps tries the queries for secrets as the service account on a server of a cluster,
// and prints what is wrong and the SQL that cures it. It returns the number of faults.
func checkLookUps(ctx context.Context, out io.Writer, c config.Config, name string, server config.Server) (faults int) {
	for _, query := range c.AuthQueries(name) {
		faults += checkLookUp(ctx, out, c, c.Clusters[name], server, query)
	}
	return faults
}

func checkLookUp(ctx context.Context, out io.Writer, c config.Config, cl config.Cluster, server config.Server, query string) int {
	ctx, cancel := context.WithTimeout(ctx, c.Pool.ConnectTimeout)
	defer cancel()
	err := lookUp(ctx, cl, server, query)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintf(out, "  fault: %s: passwords cannot be looked up: %v\n", server.Address, err)
	printCure(out, cl, err, query)
	return 1
}

// printCure says what to do about what a server said to the service account, if it said something.
func printCure(out io.Writer, cl config.Cluster, err error, query string) {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return
	}
	advice, sql := setup.Cure(refused.Code, setup.Account{User: cl.Service.User, Database: cl.Service.Database}, query)
	_, _ = fmt.Fprintf(out, "  cure: %s\n", advice)
	for _, line := range sql {
		_, _ = fmt.Fprintf(out, "    %s\n", line)
	}
}

// lookUp looks up the account's own secret: whether it has one does not matter.
func lookUp(ctx context.Context, cl config.Cluster, server config.Server, query string) error {
	conn, err := connect(ctx, cl, server, backend.Credentials{User: cl.Service.User, Password: cl.Service.Password}, cl.Service.Database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	result := conn.ExecParams(ctx, query, [][]byte{[]byte(cl.Service.User)}, nil, nil, nil)
	columns := len(result.FieldDescriptions())
	if _, err := result.Close(); err != nil {
		return err
	}
	if columns < 2 {
		return fmt.Errorf("auth.query returns %s; it must return the name and the secret", count(columns, "column"))
	}
	return nil
}
