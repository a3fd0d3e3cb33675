package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/progress"
	"github.com/pgweir/pgweir/internal/statements"
	"github.com/pgweir/pgweir/router/catalog"
	"github.com/pgweir/pgweir/router/tenant"
)

// auditFlags are the command line of audit.
type auditFlags struct {
	config, database  string
	who               account
	schema            string
	columns, settings []string
	logins            []string
	format, input     string
	failOn            string
	named             bool // --config was given
}

// never is the --fail-on that no severity reaches.
const never = "never"

func auditCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit [file…]",
		Short: "Find what lets tenants see each other's rows: in the database, or in statements",
		Long: `Without files, look at what the database itself does to keep tenants apart: tenant
tables without row-level security, policies that let everything through, roles that
bypass them, and the like. With files, judge the statements in them: SQL scripts,
PostgreSQL's server log (any log_destination), tables with a column of statements
(TSV or CSV, as of pg_stat_statements), or traces of requests. "-" is standard input.

What the database holds is read from the first server that answers, as the service
account or as --user with PGPASSWORD; or from DDL text, such as pg_dump --schema-only
writes it, with --schema, which asks no server and needs no configuration.

Tenant columns, settings and exemptions are those of the configuration's section
tenant; --column and --setting add to them.

It exits with 1 if anything was found of the severity --fail-on or above, or if no table
has a tenant column.`,
		Example: `  pgweir audit --config pgweir.yaml --database app
  pgweir audit --schema schema.sql --column organization_id --setting app.current_org_id queries.sql
  pgweir audit --schema schema.sql --column organization_id --format sarif postgresql.log > audit.sarif`,
		RunE: func(cmd *cobra.Command, files []string) error {
			f.named = cmd.Flags().Changed("config")
			return audit(cmd, f, files)
		},
	}
	configFlag(cmd, &f.config)
	flags := cmd.Flags()
	flags.StringVarP(&f.database, "database", "d", "", "database as clients name it; the service account's by default")
	f.who.flag(cmd, "log in as this user in place of the service account")
	flags.StringVar(&f.schema, "schema", "", "file of DDL to take in place of a database")
	flags.StringSliceVar(&f.columns, "column", nil, "column that holds the tenant; may be repeated")
	flags.StringSliceVar(&f.settings, "setting", nil, "setting that names the tenant; may be repeated")
	flags.StringSliceVar(&f.logins, "login", nil, "role the application logs in as; by default the configured users, or else all but superusers")
	flags.StringVar(&f.format, "format", "table", "table, json or sarif")
	flags.StringVar(&f.input, "input", string(statements.Auto), "what the files are: auto, sql, log, csvlog, jsonlog, tsv, csv or trace")
	flags.StringVar(&f.failOn, "fail-on", tenant.Warning.String(), "lowest severity that makes it exit with 1: info, warning, danger or never")
	cmd.Args = func(_ *cobra.Command, _ []string) error { return f.check() }
	return cmd
}

// check refuses words that are none of those a flag takes.
func (f *auditFlags) check() error {
	var inputs []string
	for _, x := range statements.Formats {
		inputs = append(inputs, string(x))
	}
	return checkWords([]word{
		{"format", f.format, []string{"table", "json", "sarif"}},
		{"input", f.input, inputs},
		{"fail-on", f.failOn, []string{"info", "warning", "danger", never}},
	})
}

// word is what a flag was given, and what it takes.
type word struct {
	flag, value string
	words       []string
}

// checkWords refuses the first that is none of those its flag takes.
func checkWords(words []word) error {
	for _, x := range words {
		if !slices.Contains(x.words, x.value) {
			return fmt.Errorf("--%s must be one of %s; found %q", x.flag, strings.Join(x.words, ", "), x.value)
		}
	}
	return nil
}

// audit runs the command: it gathers what is known of the database, then judges that
// or the statements of the files.
func audit(cmd *cobra.Command, f auditFlags, files []string) error {
	s, err := subject(cmd.Context(), f)
	if err != nil {
		return err
	}
	in := tenant.Inspect(s.schema, s.policy, s.roles, s.logins)
	if in.Tables == 0 {
		return s.nothing()
	}
	info, _ := debug.ReadBuildInfo()
	r := report{Source: s.source, Tables: in.Tables, place: s.place, version: buildVersion(info)}
	if len(files) == 0 {
		r.inspect(in)
	} else if err := r.judge(s, in, files, statements.Format(f.input), cmd.InOrStdin(), &progress.Meter{To: cmd.ErrOrStderr()}); err != nil {
		return err
	}
	if err := r.print(cmd.OutOrStdout(), f.format); err != nil {
		return err
	}
	if r.reaches(f.failOn) {
		return errReported
	}
	return nil
}

// audited is what is known of the database that is audited.
type audited struct {
	schema tenant.Schema
	policy *tenant.Policy
	exempt config.Exempt
	roles  *tenant.Roles // nil if only text is known
	logins []string
	source string // in words
	place  string // the file that stands for it

	columns []string // that hold the tenant, as they were given
	others  []string // further databases of the configuration
}

// nothing is the error of who would be told that nothing was found where nothing was looked at.
func (s *audited) nothing() error {
	hint := "check the name"
	if s.roles != nil {
		hint += "; if they are in another database: --database " + cmp.Or(strings.Join(s.others, ", --database "), "NAME")
	}
	return fmt.Errorf("%s: no table has a column %s; %s", s.source, strings.Join(s.columns, " or "), hint)
}

func subject(ctx context.Context, f auditFlags) (*audited, error) {
	var cfg config.Config
	load := loadConfig
	if f.schema != "" {
		load = loadWithoutSecrets
	}
	if f.schema == "" || f.named {
		var err error
		if cfg, err = load(f.config); err != nil {
			return nil, err
		}
	}
	cfg.Tenant.Columns = append(slices.Clone(cfg.Tenant.Columns), f.columns...)
	cfg.Tenant.Settings = append(slices.Clone(cfg.Tenant.Settings), f.settings...)
	if !cfg.Tenant.Audited() {
		return nil, errors.New("no tenant column is known; set tenant.columns in the configuration, or give --column")
	}
	s := &audited{policy: tenant.NewPolicy(cfg.Tenant), exempt: cfg.Tenant.Exempt, logins: f.logins, columns: slices.Clone(cfg.Tenant.Columns)}
	for _, t := range cfg.Tenant.Tables {
		s.columns = append(s.columns, t.Table+"."+t.Column)
	}
	if f.schema != "" {
		return s, s.readText(f.schema)
	}
	return s, s.readServer(ctx, cfg, f)
}

func (s *audited) readText(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	s.source, s.place = "schema "+path, path
	if s.schema, err = tenant.ParseSchema(string(text)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readServer reads the catalog from the first server that answers.
func (s *audited) readServer(ctx context.Context, cfg config.Config, f auditFlags) error {
	database := f.database
	if database == "" && len(cfg.Clusters) == 1 {
		database = cfg.Clusters[cfg.ClusterNames()[0]].Service.Database
	}
	e, ok := cfg.Resolve(f.who.user, database)
	if !ok {
		return fmt.Errorf("no database %q in %s; name one with --database", database, f.config)
	}
	s.place = f.config
	if len(s.logins) == 0 {
		for user := range cfg.Users {
			if u, ok := cfg.Resolve(user, database); ok && !slices.Contains(s.logins, u.ServerUser) {
				s.logins = append(s.logins, u.ServerUser)
			}
		}
		slices.Sort(s.logins)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Databases)) {
		if cmp.Or(cfg.Databases[name].Name, name) != e.Database && name != "*" {
			s.others = append(s.others, name)
		}
	}
	cl, err := located(ctx, cfg.Clusters[e.Cluster])
	if err != nil {
		return err
	}
	var errs []error
	for _, server := range cl.Servers {
		err := s.readOne(ctx, cfg, cl, server, e, f.who)
		if err == nil {
			s.source = fmt.Sprintf("database %s on %s", e.Database, server.Address)
			return nil
		}
		errs = append(errs, err)
		if errors.Is(err, errNoAccount) {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *audited) readOne(ctx context.Context, cfg config.Config, cl config.Cluster, server config.Server, e config.Effective, who account) error {
	cred, err := who.credentials(cl.Service)
	if err != nil {
		return err
	}
	return ask(ctx, cfg, cl, server, cred, e.Database, func(ctx context.Context, q catalog.Query) (err error) {
		if s.schema, err = catalog.Load(ctx, q, catalog.LoadOptions{Tables: true}); err != nil {
			return err
		}
		s.roles, err = tenant.LoadRoles(ctx, q)
		return err
	})
}

// readFile reads a file named on the command line; "-" is standard input.
func readFile(name string, stdin io.Reader) (shown string, data []byte, err error) {
	if name == "-" {
		data, err = io.ReadAll(stdin)
		return "stdin", data, err
	}
	data, err = os.ReadFile(name)
	return name, data, err
}
