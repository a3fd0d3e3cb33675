package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/indexes"
)

// indexFlags are the command line of insights indexes.
type indexFlags struct {
	config, format string
	failOn         string
	who            account
	databases      []string
	dsns           []string
	all            bool
}

func insightsIndexesCommand() *cobra.Command {
	var f indexFlags
	cmd := &cobra.Command{
		Use:   "indexes",
		Short: "Show indexes that are of no use, and those that are not there",
		Long: `Show indexes that no server scans, that do what others do, that are not valid or take
much more than they need, and those that plans want; with what they take, how often they
are scanned on all servers together, and what writes pay for them.

The servers of the configuration are asked, by the service account, or those that --dsn
names. Which indexes are missing is known to the proxy that runs on this host, if it asks
for plans (insight.plans.enabled). Nothing is changed; no literal is shown.

It exits with 1 if anything was found of a kind that --fail-on names.`,
		Example: `  pgweir insights indexes --config pgweir.yaml
  pgweir insights indexes --dsn postgres://me@primary/app --dsn postgres://me@replica/app --all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			reports, faults := f.reports(cmd)
			var err error
			switch {
			case len(reports) == 0:
			case f.format == "json":
				err = printJSON(cmd.OutOrStdout(), reports)
			case f.format == "sarif":
				err = printJSON(cmd.OutOrStdout(), f.sarif(reports))
			default:
				err = indexes.Print(cmd.OutOrStdout(), reports, f.all)
			}
			if err = errors.Join(faults, err); err != nil {
				return err
			}
			for _, r := range reports {
				if slices.ContainsFunc(r.Findings, func(x indexes.Finding) bool { return f.failOn == x.Kind || f.failOn == "any" }) {
					return errReported
				}
			}
			return nil
		},
	}
	configFlag(cmd, &f.config)
	f.who.flag(cmd, "log in to the servers as this user, with PGPASSWORD, in place of the service account")
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "table", "table, json or sarif")
	flags.StringSliceVar(&f.databases, "database", nil, "a database's name on the servers; may be repeated; by default all that clients can reach")
	flags.StringArrayVar(&f.dsns, "dsn", nil, "ask this server, a URL or key=value pairs as psql has them; give all servers of one database")
	flags.BoolVar(&f.all, "all", false, "show every index, not only what was found")
	flags.StringVar(&f.failOn, "fail-on", never, "exit with 1 if this kind was found: "+strings.Join(indexes.Kinds, ", ")+", any or never")
	return cmd
}

func (f *indexFlags) check() error {
	return checkWords([]word{
		{"format", f.format, []string{"table", "json", "sarif"}},
		{"fail-on", f.failOn, append(slices.Clone(indexes.Kinds), "any", never)},
	})
}

// indexRule begins the rules of indexes, beside those of statements.
const indexRule = "index_"

// sarif is the report for code review tools. Its place is the configuration, or - if servers
// were named.
func (f *indexFlags) sarif(reports []*indexes.Report) sarifLog {
	info, _ := debug.ReadBuildInfo()
	r := report{version: buildVersion(info), place: f.config}
	if len(f.dsns) > 0 {
		r.place = "-"
	}
	for _, of := range reports {
		for _, x := range of.Findings {
			severity := insight.Info
			if x.Kind == indexes.Missing || x.Kind == indexes.Invalid {
				severity = insight.Warning
			}
			r.Issues = append(r.Issues, issue{
				Severity: severity, Kind: indexRule + x.Kind, Tables: []string{x.Table}, Remedy: x.SQL,
				Detail: of.Database + ": " + cmp.Or(x.Index, x.Table) + ": " + x.Detail, Fingerprint: strings.Join([]string{of.Database, x.Kind, x.SQL}, " "),
			})
		}
	}
	return r.sarif()
}

// reports are one for each database; the error is of those that could not be asked.
func (f *indexFlags) reports(cmd *cobra.Command) (reports []*indexes.Report, err error) {
	ctx := cmd.Context()
	if len(f.dsns) > 0 {
		r, err := f.ofDSNs(ctx)
		if err != nil {
			return nil, err
		}
		return []*indexes.Report{r}, nil
	}
	cfg, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	sum, err := summary(cmd, &insightFlags{config: f.config}, nil)
	if err != nil {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "which indexes are missing is not known: %v\n", err)
	}
	var faults error
	for _, name := range cfg.ClusterNames() {
		of, err := f.ofCluster(ctx, cfg, name, sum.Plans)
		if reports = append(reports, of...); err != nil {
			faults = errors.Join(faults, fmt.Errorf("cluster %s: %w", name, err))
		}
	}
	return reports, faults
}

// ofDSNs is the report of the servers that --dsn names.
func (f *indexFlags) ofDSNs(ctx context.Context) (*indexes.Report, error) {
	var servers []indexes.Target
	database := ""
	for _, dsn := range f.dsns {
		cfg, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return nil, errors.New("--dsn: it is neither a URL nor key=value pairs that can be read") // the error may quote a password
		}
		if database != "" && cfg.Database != database {
			return nil, fmt.Errorf("--dsn: %q and %q are not one database", database, cfg.Database)
		}
		database = cfg.Database
		cfg.RuntimeParams["application_name"] = "pgweir"
		servers = append(servers, indexes.Target{Name: fmt.Sprintf("%s:%d", cfg.Host, cfg.Port), Ask: func(ctx context.Context, asks func(context.Context, catalog.Query) error) error {
			return askDSN(ctx, cfg, asks)
		}})
	}
	return indexes.Ask(ctx, database, servers, nil)
}

// askDSN is ask of a server that is not in the configuration.
func askDSN(ctx context.Context, cfg *pgconn.Config, asks func(context.Context, catalog.Query) error) error {
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return asks(ctx, func(ctx context.Context, sql string, row func([][]byte) error) error {
		return query(ctx, conn, sql, row)
	})
}

// ofCluster are the reports of a cluster's databases.
func (f *indexFlags) ofCluster(ctx context.Context, cfg config.Config, name string, plans []insight.PlanRow) (reports []*indexes.Report, err error) {
	cl, err := located(ctx, cfg.Clusters[name])
	if err != nil {
		return nil, err
	}
	cred, err := f.who.credentials(cl.Service)
	if err != nil {
		return nil, err
	}
	databases := f.databases
	if len(databases) == 0 {
		err = errors.New("no server")
		for i := 0; i < len(cl.Servers) && err != nil; i++ {
			databases, err = databasesOf(ctx, cfg, name, cl.Servers[i], cred)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, database := range databases {
		label := name + "/" + database
		var servers []indexes.Target
		for _, s := range cl.Servers {
			servers = append(servers, indexes.Target{Name: s.Address, Ask: func(ctx context.Context, asks func(context.Context, catalog.Query) error) error {
				return ask(ctx, cfg, cl, s, cred, database, asks)
			}})
		}
		own := slices.DeleteFunc(slices.Clone(plans), func(p insight.PlanRow) bool { return p.Database != label })
		r, fault := indexes.Ask(ctx, label, servers, own)
		if fault != nil {
			err = errors.Join(err, fault)
			continue
		}
		reports = append(reports, r)
	}
	return reports, err
}
