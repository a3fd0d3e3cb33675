package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// explainFlags are what the command line says of the session.
type explainFlags struct {
	config, database, application string
	who                           account
	json, offline                 bool
}

func explainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain 'SQL'",
		Short: "Say where a statement would run and why, without running it",
		Long: `Say where a statement would run and why, without running it. The statement is
the argument, or standard input for "-".

What the database knows (functions, tables, views) is read from the first server
that answers, as the service account or as --user with PGPASSWORD. Without one,
or with --offline, only PostgreSQL's own objects are known.`,
		Example: `  pgweir explain --config pgweir.yaml --database app 'SELECT count(*) FROM orders'
  pgweir explain -c pgweir.yaml --json - < statement.sql`,
		Args: oneStatement,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := statement(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			load := loadConfig
			if f.offline {
				load = loadWithoutSecrets
			}
			cfg, err := load(f.config)
			if err != nil {
				return err
			}
			e, err := explain(cmd.Context(), cfg, f, text)
			if err != nil {
				return err
			}
			return e.print(cmd.OutOrStdout(), f.json)
		},
	}
	configFlag(cmd, &f.config)
	cmd.Flags().StringVarP(&f.database, "database", "d", "", "database as clients name it; the service account's by default")
	cmd.Flags().StringVar(&f.application, "application", "", "application_name of the session, for rules")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&f.offline, "offline", false, "ask no server")
	f.who.flag(cmd, "user of the session, for rules, and to log in as in place of the service account")
	return cmd
}

func oneStatement(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one statement in quotes, or - for standard input; found %s", count(len(args), "argument"))
	}
	return nil
}

func statement(arg string, stdin io.Reader) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	data, err := io.ReadAll(stdin)
	if err != nil {
		return "", fmt.Errorf("read the statement: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// explanation is what the command prints: the Plan in words, with Target and
// Reason as they come out for the session's route.
type explanation struct {
	router.Explanation
	Route   string `json:"route"`            // of the user, the database or the whole
	Catalog string `json:"catalog"`          // where the facts come from
	Parser  string `json:"parser,omitempty"` // why it refuses the text
}

func explain(ctx context.Context, cfg config.Config, f explainFlags, text string) (explanation, error) {
	database := f.database
	if database == "" && len(cfg.Clusters) == 1 {
		database = cfg.Clusters[cfg.ClusterNames()[0]].Service.Database
	}
	e, ok := cfg.Resolve(f.who.user, database)
	if !ok {
		return explanation{}, fmt.Errorf("no database %q in %s; name one with --database", database, f.config)
	}
	snapshot, source, err := facts(ctx, cfg, e, f)
	if err != nil {
		return explanation{}, err
	}
	plans := router.NewPlans(router.Options{
		Rules:    cfg.RulesFor(database),
		Safe:     cfg.Routing.SafeFunctions,
		Unsafe:   cfg.Routing.UnsafeFunctions,
		Snapshot: snapshot,
	})
	route, ok := router.ParseRoute(e.Route)
	if !ok {
		return explanation{}, fmt.Errorf("route %q is none of auto, primary, replica", e.Route)
	}
	plan := plans.Get([]byte(text)).For(f.who.user, f.application)
	out := explanation{Explanation: router.Explain(plan, snapshot), Route: route.String(), Catalog: source}
	if err := grammar.Valid(text); err != nil {
		out.Parser = err.Error()
	}
	if d := router.Decide(plan, router.View{Route: route}); plan.Target != router.TargetAny {
		out.Target, out.Reason = d.Target.String(), d.Reason.String()
	}
	return out, nil
}

// facts reads the catalog from the first server that answers, or takes
// PostgreSQL's own objects, and says which. It is an error if there is no such database.
func facts(ctx context.Context, cfg config.Config, e config.Effective, f explainFlags) (*catalog.Snapshot, string, error) {
	if f.offline {
		return catalog.Builtin(), "built in; objects of the database are unknown (--offline)", nil
	}
	var errs []error
	cl, err := located(ctx, cfg.Clusters[e.Cluster])
	if err != nil {
		errs = append(errs, err)
	}
	for _, s := range cl.Servers {
		snapshot, err := load(ctx, cfg, cl, s, e, f.who)
		if err == nil {
			return snapshot, fmt.Sprintf("database %s on %s", e.Database, s.Address), nil
		}
		errs = append(errs, err)
		if errors.Is(err, errNoAccount) {
			break
		}
	}
	err = errors.Join(errs...)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "3D000" {
		return nil, "", fmt.Errorf("%w; name one with --database", refused)
	}
	return catalog.Builtin(), "built in; objects of the database are unknown: " + strings.ReplaceAll(err.Error(), "\n", "; "), nil
}

// load reads the catalog as clients of the database see it.
func load(ctx context.Context, cfg config.Config, cl config.Cluster, s config.Server, e config.Effective, who account) (*catalog.Snapshot, error) {
	cred, err := who.credentials(cl.Service)
	if err != nil {
		return nil, err
	}
	dialing, cancel := context.WithTimeout(ctx, cfg.Pool.ConnectTimeout)
	defer cancel()
	conn, err := connect(dialing, cl, s, cred, e.Database)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	return catalog.Load(ctx, func(ctx context.Context, sql string, row func([][]byte) error) error {
		return query(ctx, conn, sql, row)
	}, catalog.LoadOptions{})
}

func (e explanation) print(out io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(e)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(key, value string) { _, _ = fmt.Fprintf(w, "%s\t%s\n", key, orNone(value)) }
	line("class", e.Class)
	line("target", e.Target)
	line("reason", e.Reason)
	if e.Parser != "" {
		line("parser", e.Parser)
	}
	if e.Route != router.RouteAuto.String() {
		line("route", e.Route+" (of the user, the database or routing.route)")
	}
	line("relations", listNoted(e.Relations))
	line("functions", listNoted(e.Functions))
	line("pins", strings.Join(e.Pins, ", "))
	line("settings", strings.Join(e.Settings, ", "))
	for _, x := range e.ForUsers {
		line("but", fmt.Sprintf("%s (%s) for user %s, application %s", x.Target, x.Reason, orAny(x.User), orAny(x.Application)))
	}
	line("catalog", e.Catalog)
	return w.Flush()
}

func listNoted(list []router.Noted) string {
	var out []string
	for _, n := range list {
		if n.Why != "" {
			n.Name += " (" + n.Why + ")"
		}
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return s
}
