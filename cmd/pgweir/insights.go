package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/internal/adminclient"
	"github.com/pgweir/pgweir/internal/replay"
	"github.com/pgweir/pgweir/internal/statements"
)

// insightFlags are the command line of the commands below insights.
type insightFlags struct {
	config        string
	format, input string
	failOn        string
	kinds         []string
	exempt        []string
	columns       []string
	top           int
}

func insightsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "insights",
		Short: "Show what statements cost, and which of them should be others",
		Long: `Show statistics of statements, and patterns among them that cost more than they need
to: N+1, several counts of one table, pages by OFFSET, and the like.

Without files, the proxy that runs on this host is asked, by the address that key http
of the configuration names; it counts while insight.enabled is true. With files, what is
in them is looked at: PostgreSQL's server log (any log_destination), a trace of
requests, or what proxies kept (key insight.dir). No literal of a statement is shown.`,
		Example: `  pgweir insights top --config pgweir.yaml
  pgweir insights findings postgresql.log`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(insightsTopCommand(), insightsFindingsCommand(), insightsNPlusOneCommand(), insightsPlansCommand(), insightsIndexesCommand(),
		insightsBaselineCommand(), insightsDiffCommand(), insightsMergeCommand())
	return cmd
}

func insightsTopCommand() *cobra.Command {
	var f insightFlags
	cmd := &cobra.Command{
		Use:   "top [file…]",
		Short: "Show the statements that take most time",
		Long: `Show the statements that take most time, or are sent most often where no times are
known, with their calls, rows, bytes and times.`,
		Example: `  pgweir insights top --config pgweir.yaml --top 20
  pgweir insights top --format json postgresql.csv`,
		RunE: func(cmd *cobra.Command, files []string) error {
			sum, err := summary(cmd, &f, files)
			if err != nil {
				return err
			}
			if f.format == "json" {
				sum.Findings = nil
				return printJSON(cmd.OutOrStdout(), sum)
			}
			return printTop(cmd.OutOrStdout(), &sum, f.top)
		},
	}
	f.flags(cmd, "table", "json")
	cmd.Flags().IntVar(&f.top, "top", 50, "show that many statements; 0 is all")
	return cmd
}

func insightsFindingsCommand() *cobra.Command {
	var f insightFlags
	cmd := &cobra.Command{
		Use:   "findings [file…]",
		Short: "Show statements that should be others, and what to send instead",
		Long: `Show patterns among statements that cost more than they need to, what shows them, what
they cost, and what to send instead.

It exits with 1 if anything was found of the severity --fail-on or above.`,
		Example: `  pgweir insights findings --config pgweir.yaml
  pgweir insights findings --format sarif --kind n_plus_one postgresql.log > insights.sarif`,
		RunE: func(cmd *cobra.Command, files []string) error { return f.findings(cmd, files) },
	}
	f.findingFlags(cmd)
	cmd.Flags().StringSliceVar(&f.kinds, "kind", nil, "show this kind only; may be repeated")
	return cmd
}

func insightsNPlusOneCommand() *cobra.Command {
	f := insightFlags{kinds: []string{insight.NPlusOne.String()}}
	cmd := &cobra.Command{
		Use:     "n+1 [file…]",
		Short:   "Show statements that go through rows one by one",
		Long:    "Show statements that go through rows one by one, as insights findings --kind n_plus_one does.",
		Example: "  pgweir insights n+1 --config pgweir.yaml",
		RunE:    func(cmd *cobra.Command, files []string) error { return f.findings(cmd, files) },
	}
	f.findingFlags(cmd)
	return cmd
}

// findings prints findings of the kinds that are wanted.
func (f *insightFlags) findings(cmd *cobra.Command, files []string) error {
	sum, err := summary(cmd, f, files)
	if err != nil {
		return err
	}
	sum.Findings = slices.DeleteFunc(sum.Findings, func(x insight.Finding) bool {
		return len(f.kinds) > 0 && !slices.Contains(f.kinds, x.Kind)
	})
	if err := printFindings(cmd.OutOrStdout(), &sum, f.format); err != nil {
		return err
	}
	if slices.ContainsFunc(sum.Findings, func(x insight.Finding) bool { return f.failOn == insight.Info || f.failOn == x.Severity }) {
		return errReported
	}
	return nil
}

// findingFlags are those of commands that print findings.
func (f *insightFlags) findingFlags(cmd *cobra.Command) {
	f.flags(cmd, "table", "json", "sarif")
	flags := cmd.Flags()
	flags.StringSliceVar(&f.exempt, "exempt", nil, "application of files that works row by row on purpose; may be repeated")
	flags.StringSliceVar(&f.columns, "column", nil, "column of files' tables that holds the tenant; may be repeated")
	flags.StringVar(&f.failOn, "fail-on", never, "lowest severity that makes it exit with 1: info, warning or never")
}

// flags are those that all of these commands have.
func (f *insightFlags) flags(cmd *cobra.Command, formats ...string) {
	configFlag(cmd, &f.config)
	cmd.Flags().StringVar(&f.format, "format", "table", strings.Join(formats[:len(formats)-1], ", ")+" or "+formats[len(formats)-1])
	cmd.Flags().StringVar(&f.input, "input", string(statements.Auto), "what the files are: auto, log, csvlog, jsonlog, trace or sql")
	if f.failOn == "" {
		f.failOn = never
	}
	cmd.Args = func(*cobra.Command, []string) error { return f.check(formats) }
}

func (f *insightFlags) check(formats []string) error {
	kinds := make([]string, insight.Kinds)
	for k := range insight.Kinds {
		kinds[k] = k.String()
	}
	words := []word{
		{"format", f.format, formats},
		{"input", f.input, []string{"auto", "log", "csvlog", "jsonlog", "trace", "sql"}},
		{"fail-on", f.failOn, []string{insight.Info, insight.Warning, never}},
	}
	for _, k := range f.kinds {
		words = append(words, word{"kind", k, kinds})
	}
	return checkWords(words)
}

// counted is what files hold; proxies says whether a proxy has counted some of it.
func (f *insightFlags) counted(cmd *cobra.Command, files []string) (sum *archive.Sum, proxies bool, err error) {
	of := replay.Files{
		Names: files, Input: statements.Format(f.input), Exempt: f.exempt, Columns: f.columns, Stdin: cmd.InOrStdin(), Progress: cmd.ErrOrStderr(),
	}
	return of.Counted()
}

// summary is what the proxy on this host has counted, or what files hold.
func summary(cmd *cobra.Command, f *insightFlags, files []string) (sum insight.Summary, err error) {
	if len(files) > 0 {
		counted, proxies, err := f.counted(cmd, files)
		if err != nil {
			return sum, err
		}
		if sum = counted.Book.Summary(); proxies {
			return sum, nil
		}
		sum.Since = time.Time{}
		for i := range sum.Statements {
			sum.Statements[i].Target = "" // nobody knows
		}
		return sum, nil
	}
	cfg, err := loadHTTP(f.config)
	if err != nil {
		return sum, err
	}
	answer, err := adminclient.Ask(cmd.Context(), cfg.Web, http.MethodGet, "/insights")
	if err != nil {
		return sum, err
	}
	if err := json.Unmarshal([]byte(answer), &sum); err != nil {
		return sum, fmt.Errorf("what answers at %s is another program or version: %w", cfg.HTTP, err)
	}
	return sum, nil
}
