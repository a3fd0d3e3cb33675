package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/insight"
)

func insightsPlansCommand() *cobra.Command {
	var f insightFlags
	var changed bool
	cmd := &cobra.Command{
		Use:   "plans",
		Short: "Show how servers execute statements, and what changed",
		Long: `Show the execution plans of statements as replicas told them to the proxy that runs on
this host, which asks while insight.plans.enabled is true: steps with their estimates,
indexes, columns that are compared, and the plan before if it was another one. No
literal is shown.`,
		Example: `  pgweir insights plans --config pgweir.yaml
  pgweir insights plans --changed`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sum, err := summary(cmd, &f, nil)
			if err != nil {
				return err
			}
			plans := slices.DeleteFunc(sum.Plans, func(p insight.PlanRow) bool { return changed && p.Before == nil })
			if f.format == "json" {
				return printJSON(cmd.OutOrStdout(), append([]insight.PlanRow{}, plans...))
			}
			if changed && len(plans) == 0 && len(sum.Plans) > 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "no plan changed")
				return err
			}
			return insight.PrintPlans(cmd.OutOrStdout(), plans, f.top)
		},
	}
	configFlag(cmd, &f.config)
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "table", "table or json")
	flags.BoolVar(&changed, "changed", false, "show those that were others before only")
	flags.IntVar(&f.top, "top", 50, "show that many plans; 0 is all")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return errors.New("takes no arguments: plans are told by servers, not by files")
		}
		return checkWords([]word{{"format", f.format, []string{"table", "json"}}})
	}
	return cmd
}
