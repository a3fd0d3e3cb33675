package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/trial"
	"github.com/pgweir/pgweir/proxy/admin"
)

func checkCommand() *cobra.Command {
	var path string
	var ask bool
	var who account
	var client trial.Client
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, and with --connect every server in it",
		Long: `Check the configuration file and everything it names, and print what it comes to.

With --connect, also log in to every server and print its role, version,
timeline, replay lag and system identifier, and say whether it lets in what pools
may open; try auth.query, and if it is refused print the SQL that cures it; and
name the settings that row-level security policies read and the configuration
does not declare, with the lines it lacks. The account is the cluster's service
account, or --user with the password in PGPASSWORD.

With --connect --as, also make a whole login as a client does, and say each step:
the database, the method and what says so, the secret and whether PGPASSWORD fits,
and where a statement then runs and as whom. --from is where it comes from.`,
		Example: `  pgweir check --config pgweir.yaml
  PGPASSWORD=… pgweir check --config pgweir.yaml --connect --user admin
  PGPASSWORD=… pgweir check --config pgweir.yaml --connect --as app --database shop --from 10.1.2.3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadForCheck(cmd, path)
			if err != nil {
				return err
			}
			if client.User != "" && !ask {
				return errors.New("--as needs --connect")
			}
			if !ask {
				return nil
			}
			err = checkServers(cmd.Context(), cmd.OutOrStdout(), cfg, who, client.User != "")
			if client.User != "" && (err == nil || errors.Is(err, errReported)) {
				if trial.LogIn(cmd.Context(), cmd.OutOrStdout(), cfg, client) != nil {
					err = errors.Join(err, errReported)
				}
			}
			return err
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&ask, "connect", false, "log in to every server")
	cmd.Flags().StringVar(&client.User, "as", "", "make a whole login as this user, with PGPASSWORD, PGSSLCERT and PGSSLKEY")
	cmd.Flags().StringVar(&client.Database, "database", "", "the database of --as; by default named as the user")
	cmd.Flags().StringVar(&client.From, "from", "127.0.0.1", "the address that --as comes from, or local for a Unix-domain socket")
	who.flag(cmd, "log in as this user in place of the service account")
	return cmd
}

// loadForCheck loads the file and prints either what it comes to or its faults.
func loadForCheck(cmd *cobra.Command, path string) (config.Config, error) {
	cfg, err := loadConfig(path)
	var faults config.Faults
	if errors.As(err, &faults) {
		out := cmd.ErrOrStderr()
		_, _ = fmt.Fprintf(out, "%s: %s\n", path, count(len(faults), "fault"))
		for _, f := range faults {
			_, _ = fmt.Fprintf(out, "  %s\n", f)
		}
		return cfg, errReported
	}
	if err != nil {
		return cfg, err
	}
	if err := summarize(cmd.OutOrStdout(), path, cfg); err != nil {
		return cfg, err
	}
	if _, closed := cfg.Closed(); closed {
		return cfg, errReported
	}
	return cfg, admin.CheckWeb(cfg.HTTPWebConfig)
}

// summarize prints what a configuration comes to, in a few lines.
func summarize(out io.Writer, path string, c config.Config) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", key, fmt.Sprintf(format, args...))
	}
	verdict := "ok"
	if _, closed := c.Closed(); closed {
		verdict = "nothing is wrong in it, but nobody can log in"
	}
	_, _ = fmt.Fprintf(w, "%s: %s\n", path, verdict)
	line("listen", "%s", strings.Join(c.Listen, ", "))
	line("http", "%s", orNone(c.HTTP))
	for _, name := range c.ClusterNames() {
		line("cluster "+name, "%s", c.Clusters[name].Whereabouts())
	}
	line("auth", "%s, TLS %s", cmp.Or(c.Auth.HBAFile, c.Auth.Method), c.TLS.Mode)
	line("pool", "%s, %s to one server for one user and database", c.Pool.Mode, count(c.Pool.Size, "connection"))
	line("routing", "%s, %s, primary reads %s", c.Routing.Route, count(len(c.Routing.Rules), "rule"), c.Routing.PrimaryReads)
	if c.Tenant.Audited() {
		line("tenant audit", "%s, %s", c.Tenant.Audit.Mode, count(len(c.Tenant.Audit.Rules), "rule"))
	}
	if len(c.Databases)+len(c.Users) > 0 {
		line("own settings", "%s, %s", count(len(c.Databases), "database"), count(len(c.Users), "user"))
	}
	for _, warning := range c.Warnings() {
		_, _ = fmt.Fprintf(w, "  warning: %s\n", warning)
	}
	return w.Flush()
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
