package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sagelocal/sagelocal/dataplane/routelab"
)

// benchFlags are the flags of `sagelocal bench`.
type benchFlags struct {
	target  benchTarget
	load    benchLoad
	compare benchCompare
	output  benchOutput

	repetitions int
	seed        uint64
}

func benchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure an endpoint, or compare routing strategies on your workload",
		Long: `Measure an endpoint, or compare routing strategies on your workload.

  sagelocal bench --endpoint iris --body 5.1,3.5,1.4,0.2 --content-type text/csv --users 8
  sagelocal bench --compare RANDOM,LEAST_OUTSTANDING_REQUESTS --image llm --instances 5 --users 20 --html report.html

--compare makes the endpoint configurations and endpoints itself, runs them
interleaved, and deletes what it made, also after Ctrl-C. docs/bench.md tells how
to read the figures.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench(cmd.Context(), &f, cmd.Flags().Changed, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	f.target.register(flags)
	f.load.register(flags)
	f.compare.register(flags)
	flags.IntVar(&f.repetitions, "repetitions", 0, "how often each endpoint is measured (default 5 with --compare, else 1)")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of arrivals and bodies; repetitions take the following ones")
	f.output.register(flags)
	return cmd
}

// errInterrupted makes the process's exit status tell a partial measurement.
var errInterrupted = errors.New("interrupted; the report is of what was measured until then")

func bench(ctx context.Context, f *benchFlags, changed func(string) bool, stdout, stderr io.Writer) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	load, words, err := f.load.build(f, changed)
	if err != nil {
		return err
	}
	files, err := f.output.open(stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.close()) }()

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once

	client, err := newBenchClient(ctx, &f.target, load)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "All load goes to %s\n", client.url)
	endpoints := f.target.endpoints
	if f.compare.on() {
		made, createErr := f.compare.create(ctx, client, stderr)
		defer func() { err = errors.Join(err, made.delete(stderr)) }()
		if createErr != nil {
			return createErr
		}
		endpoints = made.endpoints
	}
	subjects, err := client.subjects(ctx, endpoints, f)
	if err != nil {
		return err
	}
	if err := client.preflight(ctx, subjects, load); err != nil {
		return err
	}

	setup := f.setup(client, load, words)
	show := newBenchProgress(stderr, load, setup.Repetitions*len(subjects))
	experiment := routelab.Experiment{
		Load: *load, Subjects: subjects, Repetitions: setup.Repetitions,
		Observe: files.observe(), Begun: show.begun, Ended: show.ended,
	}
	runs, err := experiment.Run(ctx)
	if err != nil {
		return err
	}
	names := make([]string, len(subjects))
	for i, s := range subjects {
		names[i] = s.Strategy
	}
	report := routelab.NewReport(setup, names, runs)
	if err := files.write(report, stdout, stderr); err != nil {
		return err
	}
	if report.Interrupted {
		return errInterrupted
	}
	return nil
}

func (f *benchFlags) check() error {
	switch {
	case f.compare.on() && len(f.target.endpoints) > 0:
		return errors.New("--compare makes its own endpoints; leave out --endpoint")
	case !f.compare.on() && len(f.target.endpoints) == 0:
		return errors.New("give --endpoint NAME to measure, or --compare STRATEGY,STRATEGY")
	case f.repetitions < 0:
		return errors.New("--repetitions is negative")
	case f.target.timeout <= 0:
		return errors.New("--timeout must be above zero")
	}
	return f.compare.check()
}

// setup says in words what is measured.
func (f *benchFlags) setup(client *benchClient, load *routelab.Load, words loadWords) routelab.Setup {
	repetitions := f.repetitions
	if repetitions == 0 {
		repetitions = 1
		if f.compare.on() {
			repetitions = 5
		}
	}
	setup := routelab.Setup{
		Tool: "sagelocal bench " + version, URL: client.url.String(), Started: time.Now(),
		Load: words.load, Bodies: words.bodies, Seed: f.seed, WarmUp: load.WarmUp.Seconds(),
		Duration: load.Duration.Seconds(), Open: load.Arrivals != nil, Repetitions: repetitions,
		Machine: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
	}
	if f.compare.on() {
		setup.InstanceType = f.compare.instanceType
	}
	return setup
}
