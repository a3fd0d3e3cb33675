package main

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/insight/compare"
	"github.com/pgweir/pgweir/internal/adminclient"
)

// diffFlags are the command line of insights diff.
type diffFlags struct {
	insightFlags
	failOn  []string
	all     bool
	rules   compare.Rules
	options compare.Options
}

func insightsDiffCommand() *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff before [after]",
		Short: "Show which statements became slower or faster, new or gone",
		Long: `Compare two periods: which statements take longer or less, which are new or gone, for
which of the application's requests more statements are sent, and which findings came
or went. What differs by chance is no difference.

Each period is the name of a baseline of the proxy that runs on this host, or a file: a
baseline's, what pgweir insights merge wrote, a directory that key insight.dir names, or
PostgreSQL's server log. Without the second, it is what the proxy has counted since its
last baseline.

It exits with 1 if anything of --fail-on is found: slower=20% is a statement that takes so
much longer, more-queries=10% a kind of request that sends so many more statements, and
new-findings a warning that was not there before.`,
		Example: `  pgweir insights diff before --config pgweir.yaml
  pgweir insights diff before after --config pgweir.yaml --format markdown
  pgweir insights diff --fail-on slower=20% --fail-on new-findings main.log branch.log`,
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := f.period(cmd, args[0])
			if err != nil {
				return err
			}
			after, err := f.period(cmd, slices.Concat(args, []string{""})[1])
			if err != nil {
				return err
			}
			r := compare.Compare(before, after, f.options)
			if f.format == "json" {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				err = r.Print(cmd.OutOrStdout(), f.format == "markdown", f.all)
			}
			if err != nil {
				return err
			}
			if failures := f.rules.Broken(r); len(failures) > 0 {
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), strings.Join(failures, "\n"))
				return errReported
			}
			return nil
		},
	}
	f.insightFlags.flags(cmd, "table", "json", "markdown")
	flags := cmd.Flags()
	flags.StringSliceVar(&f.failOn, "fail-on", nil, "what makes it exit with 1: slower=20%, more-queries=10% or new-findings; may be repeated")
	flags.Uint64Var(&f.options.MinCalls, "min-calls", 30, "calls that both periods must have of a statement to judge it")
	flags.BoolVar(&f.all, "all", false, "show statements and routes without a difference, too")
	words := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		var err error
		f.rules, err = compare.ParseRules(f.failOn)
		f.options.Slower, f.options.More = f.rules.Smallest()
		return cmp.Or(cobra.RangeArgs(1, 2)(cmd, args), words(cmd, args), err)
	}
	return cmd
}

// period is what a name on the command line stands for; none is what the proxy counts now.
func (f *diffFlags) period(cmd *cobra.Command, name string) (*insight.Snapshot, error) {
	if _, err := os.Stat(name); name != "" && (err == nil || name == "-") {
		sum, _, err := f.counted(cmd, []string{name})
		if err != nil {
			return nil, err
		}
		s := sum.Snapshot()
		s.Name = name
		return s, nil
	}
	cfg, err := loadHTTP(f.config)
	if err != nil {
		if name != "" {
			return nil, fmt.Errorf("%s is no file, and no proxy can be asked for a baseline of that name: %w", name, err)
		}
		return nil, err
	}
	data, err := adminclient.Ask(cmd.Context(), cfg.Web, http.MethodGet, baselinePath(name))
	if err != nil {
		return nil, err
	}
	s, err := archive.Read(bytes.NewReader([]byte(data)))
	if err != nil {
		return nil, fmt.Errorf("what answers at %s is another program or version: %w", cfg.HTTP, err)
	}
	return s, nil
}
