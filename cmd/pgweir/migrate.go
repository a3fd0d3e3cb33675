package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgbouncer"
)

func migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate pgbouncer.ini [userlist.txt]",
		Short: "Write a configuration of PgBouncer as one of pgweir",
		Long: `Read a configuration of PgBouncer, with the files it includes, and write what it
comes to as a configuration of pgweir to standard output. What is different or has
no equivalent is said in comments. The user file is named by auth_file, or given.

It holds the passwords that were in the files: keep it to yourself.`,
		Example: `  (umask 077; pgweir migrate /etc/pgbouncer/pgbouncer.ini > pgweir.yaml)
  PGPASSWORD=… pgweir check --config pgweir.yaml --connect --user postgres`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := pgbouncer.Read(args[0])
			if err != nil {
				return err
			}
			userFile := ""
			if len(args) > 1 {
				userFile = args[1]
			}
			text, err := pgbouncer.Migrate(file, userFile)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if _, err := cmd.OutOrStdout().Write(text); err != nil {
				return err
			}
			return faultsOf(cmd, text)
		},
	}
}

// faultsOf prints what is wrong with a configuration that was written.
func faultsOf(cmd *cobra.Command, text []byte) error {
	_, err := config.Parse("pgweir.yaml", text, os.LookupEnv)
	var faults config.Faults
	if !errors.As(err, &faults) {
		return err
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s to be mended by hand\n", count(len(faults), "fault"))
	for _, f := range faults {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "  %s\n", f)
	}
	return errReported
}
