package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	pg_query "github.com/pganalyze/pg_query_go/v5"
	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of pgweir, Go and the SQL parser",
		Example: `  pgweir version`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versions())
			return err
		},
	}
}

// versions are those of pgweir, Go and the SQL parser.
func versions() string {
	info, _ := debug.ReadBuildInfo()
	return fmt.Sprintf("pgweir %s\n%s %s/%s\nPostgreSQL parser %s",
		buildVersion(info), runtime.Version(), runtime.GOOS, runtime.GOARCH, parserVersion())
}

// buildVersion is the module's version with the commit it was built from, as far
// as the build knows them.
func buildVersion(info *debug.BuildInfo) string {
	if info == nil {
		return "unknown"
	}
	version, commit, dirty := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = ", modified"
		}
	}
	if version == "" {
		version = "(devel)"
	}
	if commit == "" {
		return version
	}
	return fmt.Sprintf("%s (commit %.12s%s)", version, commit, dirty)
}

// parserVersion is the PostgreSQL release whose grammar is built in.
func parserVersion() string {
	tree, err := pg_query.Parse("SELECT 1")
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d", tree.Version/10000, tree.Version%10000)
}
