// Command pgweir is the proxy and the operator's tools around it. Every
// subcommand is one file; a new one is a function that returns a *cobra.Command,
// named in newRoot.
//
// Exit codes: 0 done, 1 it failed or something is wrong, 2 it was called wrongly.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program but for the process around it. It returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var started bool
	root := newRoot(&started)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	switch {
	case err == nil:
		return 0
	case !started:
		if cmd == root && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			err = noSuchCommand(root, args) // whatever flags it was given
		}
		_, _ = fmt.Fprintf(stderr, "pgweir: %s; see %s --help\n", oneLine(err), cmd.CommandPath())
		return exitUsage
	case !errors.Is(err, errReported):
		_, _ = fmt.Fprintf(stderr, "pgweir: %s\n", err)
	}
	return exitFailure
}

// oneLine drops the suggestions cobra adds below its message.
func oneLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// newRoot makes the command tree. started becomes true once arguments and flags
// were accepted: an error before that is one of usage.
func newRoot(started *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "pgweir",
		Short: "PostgreSQL proxy: reads on replicas, writes on the primary, few connections for many clients",
		Example: `  pgweir check --config pgweir.yaml
  pgweir serve --config pgweir.yaml`,
		SilenceErrors:         true,
		DisableFlagsInUseLine: true,
		SilenceUsage:          true,
		Args:                  noSuchCommand,
		Version:               versions(),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRun:      func(*cobra.Command, []string) { *started = true },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(serveCommand(), reloadCommand(), reportCommand(), checkCommand(), setupCommand(), migrateCommand(), explainCommand(), auditCommand(), insightsCommand(), demoCommand(), versionCommand(), manualCommand())
	return root
}

// noSuchCommand refuses what is no command, and names one that may have been meant.
func noSuchCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if similar := root.SuggestionsFor(args[0]); len(similar) > 0 {
		text += " (did you mean " + strings.Join(similar, " or ") + "?)"
	}
	return errors.New(text)
}
