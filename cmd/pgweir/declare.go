package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/router/catalog"
)

// databasesQuery: the databases that this login may use.
const databasesQuery = `SELECT datname FROM pg_catalog.pg_database
 WHERE datallowconn AND NOT datistemplate AND pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY datname`

// recommend prints which settings the policies of a cluster's databases read and the
// configuration does not declare, with the lines it lacks. They are asked of a server that
// answered; what cannot be asked is told and is no fault.
func recommend(ctx context.Context, out io.Writer, c config.Config, name string, server config.Server, cred backend.Credentials) {
	cl := c.Clusters[name]
	databases, err := databasesOf(ctx, c, name, server, cred)
	if err != nil {
		_, _ = fmt.Fprintf(out, "  policies could not be read: %v\n", err)
	}
	var all []string
	for _, database := range databases {
		var read []string
		err := ask(ctx, c, cl, server, cred, database, func(ctx context.Context, q catalog.Query) (err error) {
			read, err = catalog.SettingsOfPolicies(ctx, q)
			return err
		})
		if err != nil {
			_, _ = fmt.Fprintf(out, "  database %s: policies could not be read: %v\n", database, err)
			continue
		}
		missing := c.Settings.Undeclared(c.Tenant.Settings, read)
		if len(missing) == 0 {
			continue
		}
		_, _ = fmt.Fprintf(out, "  database %s: policies read settings that are not declared: %s\n", database, strings.Join(missing, ", "))
		all = append(all, missing...)
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	_, _ = fmt.Fprintf(out, "  let isolation rest on them (docs/isolation.md); those that name the tenant belong in tenant.settings:\n    settings:\n      assert: %s\n",
		c.Settings.AssertAlso(slices.Compact(all)))
}

// databasesOf are the databases of a cluster that clients can ask for: those that are
// configured, and all where others than those are served too.
func databasesOf(ctx context.Context, c config.Config, name string, server config.Server, cred backend.Credentials) (list []string, err error) {
	cl := c.Clusters[name]
	err = ask(ctx, c, cl, server, cred, cl.Service.Database, func(ctx context.Context, q catalog.Query) error {
		return q(ctx, databasesQuery, func(v [][]byte) error {
			list = append(list, string(v[0]))
			return nil
		})
	})
	served := func(database string) bool {
		for asked := range c.Databases {
			if e, ok := c.Resolve("", asked); ok && asked != "*" && e.Cluster == name && e.Database == database {
				return true
			}
		}
		e, ok := c.Resolve("", database)
		return ok && e.Cluster == name && e.Database == database
	}
	return slices.DeleteFunc(list, func(database string) bool { return !served(database) }), err
}

// ask logs in to one database of a server, within connect_timeout, and has it asked.
func ask(ctx context.Context, c config.Config, cl config.Cluster, server config.Server, cred backend.Credentials, database string,
	asks func(context.Context, catalog.Query) error,
) error {
	dialing, cancel := context.WithTimeout(ctx, c.Pool.ConnectTimeout)
	defer cancel()
	conn, err := connect(dialing, cl, server, cred, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return asks(ctx, func(ctx context.Context, sql string, row func([][]byte) error) error {
		return query(ctx, conn, sql, row)
	})
}
