package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sagelocal/sagelocal/dataplane/routelab/sim"
)

type simulateFlags struct {
	workload    string
	strategies  []string
	reference   bool
	instances   []int
	users       []int
	seed        uint64
	repetitions int
	requests    int
	warmUp      int
	format      string
	calibrate   string
	list        bool
}

func simulateCommand() *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Compare routing strategies in virtual time",
		Long: "Compare routing strategies in virtual time, on the router that serves invocations.\n" +
			"A seed fixes every result. docs/routing.md says what the models and figures mean.",
		Example: "  sagelocal simulate --list\n" +
			"  sagelocal simulate --workload codegen2-7b-g5.24xlarge --reference\n" +
			"  sagelocal simulate --calibrate samples.jsonl > mine.yaml && sagelocal simulate --workload mine.yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return simulate(cmd.Context(), &f, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.workload, "workload", "", "a built-in workload's name or a file (YAML)")
	flags.BoolVar(&f.list, "list", false, "list the built-in workloads")
	flags.StringSliceVar(&f.strategies, "strategies", nil, "strategies to compare: "+strings.Join(sim.Strategies, ", ")+" (default AWS's that suit the workload)")
	flags.BoolVar(&f.reference, "reference", false, "add those that no endpoint offers: "+strings.Join(sim.Reference, ", "))
	flags.IntSliceVar(&f.instances, "instances", nil, "numbers of instances instead of the workload's sizes")
	flags.IntSliceVar(&f.users, "users", nil, "numbers of users, one for each of --instances (default as many an instance as the workload's first size)")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of every random choice")
	flags.IntVar(&f.repetitions, "repetitions", 10, "independent runs of each size and strategy, for the confidence intervals")
	flags.IntVar(&f.requests, "requests", 100_000, "requests measured in each run")
	flags.IntVar(&f.warmUp, "warm-up", 0, "requests before those (default a tenth as many, and at least 25 a user and 100 an instance)")
	flags.StringVar(&f.format, "format", "table", "table, json or csv")
	flags.StringVar(&f.calibrate, "calibrate", "", "fit a workload to recorded requests (JSON lines of sagelocal bench, or CSV) and print it")
	cmd.MarkFlagsOneRequired("workload", "list", "calibrate")
	cmd.MarkFlagsMutuallyExclusive("workload", "list", "calibrate")
	return cmd
}

func simulate(ctx context.Context, f *simulateFlags, out io.Writer) error {
	switch {
	case !slices.Contains([]string{"table", "json", "csv"}, f.format):
		return fmt.Errorf("--format %q is not table, json or csv", f.format)
	case f.list:
		return listWorkloads(out)
	case f.calibrate != "":
		return calibrate(f, out)
	}
	w, err := loadWorkload(f.workload)
	if err != nil {
		return err
	}
	if err := f.resize(w); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := sim.Experiment{
		Workload: w, Strategies: f.chosen(w), Seed: f.seed,
		Repetitions: f.repetitions, Requests: f.requests, WarmUp: f.warmUp,
	}.Do(ctx)
	if err != nil {
		return err
	}
	switch f.format {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	case "csv":
		return printCSV(out, report)
	}
	return printTable(out, w, report)
}

// loadWorkload reads a file if there is one of that name.
func loadWorkload(name string) (*sim.Workload, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, `/\`) {
		return sim.Builtin(name)
	} else if err != nil {
		return nil, err
	}
	w, err := sim.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return w, nil
}

// resize puts the flags' sizes in place of the workload's.
func (f *simulateFlags) resize(w *sim.Workload) error {
	if len(f.instances) == 0 {
		if len(f.users) > 0 {
			return errors.New("--users goes with --instances")
		}
		return nil
	}
	if len(f.users) > 0 && len(f.users) != len(f.instances) {
		return fmt.Errorf("--users has %d numbers and --instances %d", len(f.users), len(f.instances))
	}
	first := w.Sizes[0]
	w.Sizes = nil
	for i, n := range f.instances {
		size := sim.Size{Instances: n, Users: first.Users * n / first.Instances}
		if len(f.users) > 0 {
			size.Users = f.users[i]
		}
		w.Sizes = append(w.Sizes, size)
	}
	return w.Validate()
}

func (f *simulateFlags) chosen(w *sim.Workload) []string {
	chosen := slices.Clone(f.strategies)
	if !f.reference {
		return chosen
	}
	if len(chosen) == 0 {
		chosen = w.DefaultStrategies()
	}
	for _, s := range sim.Reference {
		if !slices.Contains(chosen, s) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

func listWorkloads(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, name := range sim.Names() {
		w, err := sim.Builtin(name)
		if err != nil {
			return fmt.Errorf("workload %s: %w", name, err)
		}
		fmt.Fprintf(t, "%s\t%s\n", name, w.Description)
	}
	return t.Flush()
}

// printTable shows each size's strategies, and how they compare with the first.
func printTable(out io.Writer, w *sim.Workload, report *sim.Report) error {
	fmt.Fprintf(out, "%s: %s\nseed %d, %d repetitions, %.1f s; ± is a 95 %% confidence interval, %% is against %s\n\n",
		report.Workload, w.Description, report.Seed, report.Repetitions, report.WallSeconds, report.Strategies()[0])
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "instances\tusers\tstrategy\tP50 s\tP90 s\tP99 s\tP99.9 s\tmean s\t/min/instance\timbalance\tP99\tthroughput\terrors\t")
	for _, row := range report.Rows {
		base := row.Strategies[report.Strategies()[0]]
		for _, name := range report.Strategies() {
			s := row.Strategies[name]
			p99, throughput := "", ""
			if s != base {
				p99 = percent(s.Against(base, func(f sim.Figures) float64 { return f.P99 }))
				throughput = percent(s.Against(base, func(f sim.Figures) float64 { return f.Throughput }))
			}
			fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t\n", row.Instances, row.Users, name,
				plusMinus(s.P50, s.P50CI), plusMinus(s.P90, s.P90CI), plusMinus(s.P99, s.P99CI), plusMinus(s.P999, s.P999CI),
				plusMinus(s.Mean, s.MeanCI), plusMinus(s.Throughput, s.ThroughputCI), plusMinus(s.Imbalance, s.ImbalanceCI),
				p99, throughput, s.Errors)
		}
	}
	return t.Flush()
}

func plusMinus(value sim.Value, ci sim.Interval) string {
	return known(float64(value), "%.3g") + known(ci.Half(), " ±%.1g")
}

func percent(change sim.Value, ci sim.Interval) string {
	return known(100*float64(change), "%+.1f%%") + known(100*ci.Half(), " ±%.1f")
}

// known is empty for what is not.
func known(v float64, format string) string {
	if math.IsNaN(v) {
		return ""
	}
	return fmt.Sprintf(format, v)
}

func printCSV(out io.Writer, report *sim.Report) error {
	w := csv.NewWriter(out)
	header := []string{"instances", "users", "strategy", "requests", "errors"}
	for _, name := range []string{"p50_seconds", "p90_seconds", "p99_seconds", "p999_seconds", "mean_seconds", "throughput_per_instance_per_minute", "load_imbalance"} {
		header = append(header, name, name+"_ci95_low", name+"_ci95_high")
	}
	_ = w.Write(header) // Flush's error is this one's too
	for _, row := range report.Rows {
		for _, name := range report.Strategies() {
			s := row.Strategies[name]
			line := []string{strconv.Itoa(row.Instances), strconv.Itoa(row.Users), name, strconv.Itoa(s.Requests), strconv.Itoa(s.Errors)}
			for _, v := range []struct {
				value sim.Value
				ci    sim.Interval
			}{
				{s.P50, s.P50CI},
				{s.P90, s.P90CI},
				{s.P99, s.P99CI},
				{s.P999, s.P999CI},
				{s.Mean, s.MeanCI},
				{s.Throughput, s.ThroughputCI},
				{s.Imbalance, s.ImbalanceCI},
			} {
				for _, x := range []sim.Value{v.value, v.ci[0], v.ci[1]} {
					line = append(line, known(float64(x), "%.6g"))
				}
			}
			_ = w.Write(line)
		}
	}
	w.Flush()
	return w.Error()
}

// calibrate prints a workload that --workload reads, under comments that say how
// well it fits.
func calibrate(f *simulateFlags, out io.Writer) error {
	records, err := sim.ReadRecordsFile(f.calibrate)
	if err != nil {
		return err
	}
	fit, err := sim.Calibrate(records, f.seed)
	if err != nil {
		return fmt.Errorf("%s: %w", f.calibrate, err)
	}
	if f.format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(fit)
	}
	return fit.Print(out)
}
