package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/setup"
)

func setupCommand() *cobra.Command {
	var path, kind, cluster string
	cmd := &cobra.Command{
		Use:   "setup-sql",
		Short: "Print the SQL that gives the service account what it needs",
		Long: `Print the SQL that makes the service account of the configuration and gives it
what it needs, and no more: pg_monitor, and a function that looks up the secret
of one user. An administrator runs it on the primary, in the database that its
first lines name. Without a configuration file the account is pgweir.

Clouds refuse some of it; --for takes that into account and says what to do:
` + "  " + strings.Join(setup.Kinds(), ", "),
		Example: `  pgweir setup-sql --config pgweir.yaml | psql -d postgres
  pgweir setup-sql --for rds > setup.sql`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			account, err := setupAccount(path, cluster, cmd.Flags().Changed("config"))
			if err != nil {
				return err
			}
			sql, err := setup.SQL(kind, account)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), sql)
			return err
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&kind, "for", setup.Plain, "whose servers: "+strings.Join(setup.Kinds(), ", "))
	cmd.Flags().StringVar(&cluster, "cluster", "", "the cluster, if there are several")
	return cmd
}

// setupAccount is the service account of a cluster. Without a file that was asked for it
// is the one the documentation names.
func setupAccount(path, cluster string, asked bool) (setup.Account, error) {
	usual := setup.Account{User: "pgweir", Database: config.Default().Service.Database}
	c, err := loadWithoutSecrets(path)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return usual, nil
	}
	if err != nil {
		return usual, err
	}
	if names := c.ClusterNames(); cluster == "" && len(names) == 1 {
		cluster = names[0]
	}
	cl, ok := c.Clusters[cluster]
	if !ok {
		return usual, fmt.Errorf("no cluster %q; name one by --cluster: %s", cluster, strings.Join(c.ClusterNames(), ", "))
	}
	a := setup.Account{User: cmp.Or(cl.Service.User, usual.User), Database: cl.Service.Database}
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		if d := c.Databases[name]; name != "*" && cmp.Or(d.Cluster, cluster) == cluster {
			a.Databases = append(a.Databases, cmp.Or(d.Name, name))
		}
	}
	return a, nil
}
