package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manualCommand writes the manual's pages, for packages. It is hidden: who runs pgweir has --help.
func manualCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "manual DIRECTORY",
		Short:   "Write the manual's pages, one for each command, into a directory",
		Example: `  pgweir manual /usr/local/share/man/man8`,
		Args:    cobra.ExactArgs(1),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true // it has the day of the build
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "pgweir", Manual: "pgweir"}, args[0])
		},
	}
}
