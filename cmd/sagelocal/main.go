// Command sagelocal is Amazon SageMaker hosting on your own machine.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sagelocal/sagelocal/dataplane/process"
)

func main() {
	// The same binary also runs as the supervisor of a worker process.
	process.Supervise()
	if err := root().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "sagelocal:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "sagelocal",
		Short:         "Amazon SageMaker hosting on your own machine",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Flags())
		},
	}
	cmd.AddCommand(serveCommand(), benchCommand(), versionCommand(), simulateCommand())
	return cmd
}

// fromEnvironment fills every flag that was not given from SAGELOCAL_<FLAG>.
func fromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "SAGELOCAL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || f.Changed || failed != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("%s: %w", name, err)
		}
	})
	return failed
}
