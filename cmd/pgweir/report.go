package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/internal/adminclient"
	"github.com/pgweir/pgweir/proxy/shadow"
)

func reportCommand() *cobra.Command {
	var path string
	var asJSON bool
	var top int
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Show where statements would run, while routing.shadow keeps them on the primary",
		Long: `Show what the proxy that runs on this host has counted while routing.shadow was true:
where each statement would have run and why, how often no replica would have shown
in time what had been committed before, and what ties sessions to a connection.
Statements are without their literals; equal ones are counted together.

The proxy is found by the address that key http of the configuration names.`,
		Example: `  pgweir report --config pgweir.yaml
  pgweir report --config pgweir.yaml --json > week.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadHTTP(path)
			if err != nil {
				return err
			}
			answer, err := adminclient.Ask(cmd.Context(), cfg.Web, http.MethodGet, "/shadow")
			if err != nil {
				return err
			}
			if asJSON {
				_, err = fmt.Fprint(cmd.OutOrStdout(), answer)
				return err
			}
			var s shadow.Summary
			if err := json.Unmarshal([]byte(answer), &s); err != nil {
				return fmt.Errorf("what answers at %s is another program or version: %w", cfg.HTTP, err)
			}
			return writeSummary(cmd.OutOrStdout(), s, top)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write all of it as JSON")
	cmd.Flags().IntVar(&top, "top", 50, "show that many statements, the most frequent first; 0 is all")
	return cmd
}

// writeSummary writes a report for people.
func writeSummary(out io.Writer, s shadow.Summary, top int) error {
	all := s.Replica + s.Primary
	if all == 0 {
		_, err := fmt.Fprintln(out, "nothing was counted yet: routing.shadow: true has statements counted")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "since\t%s\n", s.Since.Format(time.RFC3339))
	fmt.Fprintf(w, "would run on a replica\t%d\t%s\n", s.Replica, share(s.Replica, all))
	fmt.Fprintf(w, "would run on the primary\t%d\t%s\n", s.Primary, share(s.Primary, all))
	fmt.Fprintf(w, "would be stale at the level eventual\t%d\t%s\n", s.Stale, share(s.Stale, all))
	fmt.Fprintf(w, "of sessions tied to a connection\t%d\t%s\n", s.Pinned, share(s.Pinned, all))
	if s.Left > 0 {
		fmt.Fprintf(w, "statements left out, being too many\t%d\n", s.Left)
	}
	fmt.Fprintf(w, "\ncount\tplace\treason\tstale\ttied by\tdatabase\tuser\tstatement\n")
	for i, r := range s.Rows {
		if top > 0 && i == top {
			break
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.Count, r.Place, r.Reason, r.Stale, r.Pins, r.Database, r.User, r.Statement)
	}
	return w.Flush()
}

func share(n, of uint64) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of)) }
