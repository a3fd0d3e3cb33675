package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/internal/adminclient"
	"github.com/pgweir/pgweir/internal/statements"
	"github.com/pgweir/pgweir/proxy/baselines"
)

func insightsBaselineCommand() *cobra.Command {
	var config, output string
	var remove bool
	cmd := &cobra.Command{
		Use:   "baseline [name]",
		Short: "Keep what was counted up to now, to compare with what comes",
		Long: `Keep what the proxy on this host has counted since the last baseline, or since it
began, under a name: what comes after it is compared with it by pgweir insights diff.
Without a name, list the baselines. One of the same name is replaced.

The proxy takes baselines by itself when it sees that the schema was changed, and when
another version of an application appears (application_name like shop/1.4.2).`,
		Example: `  pgweir insights baseline before --config pgweir.yaml
  pgweir insights baseline before --config pgweir.yaml --output before.zst`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && (remove || output != "") {
				return errors.New("which baseline? name one")
			}
			return cobra.MaximumNArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadHTTP(config)
			if err != nil {
				return err
			}
			ask := func(method, what string) (string, error) {
				return adminclient.Ask(cmd.Context(), cfg.Web, method, what)
			}
			switch {
			case len(args) == 0:
				return listBaselines(cmd.OutOrStdout(), ask)
			case output != "":
				data, err := ask(http.MethodGet, baselinePath(args[0]))
				if err != nil {
					return err
				}
				return os.WriteFile(output, []byte(data), 0o600)
			case remove:
				_, err = ask(http.MethodDelete, baselinePath(args[0]))
				return err
			}
			_, err = ask(http.MethodPost, baselinePath(args[0]))
			return err
		},
	}
	configFlag(cmd, &config)
	cmd.Flags().BoolVar(&remove, "remove", false, "remove it")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write a baseline that is there to a file")
	cmd.MarkFlagsMutuallyExclusive("remove", "output")
	return cmd
}

// baselinePath is where the proxy has a baseline; that without a name is what was counted since
// the last one.
func baselinePath(name string) string { return "/insights/baseline?name=" + url.QueryEscape(name) }

func listBaselines(out io.Writer, ask func(method, what string) (string, error)) error {
	answer, err := ask(http.MethodGet, "/insights/baselines")
	if err != nil {
		return err
	}
	var all []baselines.Entry
	if err := json.Unmarshal([]byte(answer), &all); err != nil {
		return fmt.Errorf("what answers is another program or version: %w", err)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "there is no baseline")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "name\tbegin\tend\tcalls\tbecause")
	for _, e := range all {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", e.Name, e.Begin.Format(time.DateTime), e.End.Format(time.DateTime), e.Calls, orDash(e.Why))
	}
	return w.Flush()
}

func insightsMergeCommand() *cobra.Command {
	var f insightFlags
	var output string
	cmd := &cobra.Command{
		Use:   "merge --output file file…",
		Short: "Add up what several instances counted, or in several periods",
		Long: `Add up snapshots into one file: directories that key insight.dir names, baselines, and
what was merged before. Files of statements, such as PostgreSQL's server log, are taken,
too. A period that several files have is counted once.

What comes out can be given to pgweir insights top, findings and diff.`,
		Example: `  pgweir insights merge --output week.zst node1/insight node2/insight`,
		RunE: func(cmd *cobra.Command, files []string) error {
			sum, _, err := f.counted(cmd, files)
			if err != nil {
				return err
			}
			var data bytes.Buffer
			if err := archive.Write(&data, sum.Snapshot()); err != nil {
				return err
			}
			return os.WriteFile(output, data.Bytes(), 0o600)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write")
	cmd.Flags().StringVar(&f.input, "input", string(statements.Auto), "what files of statements are: auto, log, csvlog, jsonlog, trace or sql")
	f.format, f.failOn = "table", never
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if output == "" {
			return errors.New("--output must name the file to write")
		}
		return cmp.Or(cobra.MinimumNArgs(1)(cmd, args), f.check([]string{"table"}))
	}
	return cmd
}
