// Command benchtable measures sagelocal beside its counterparts, each pair in
// the same run, and prints one table of ratios. `make bench` runs it; with
// --write the table goes into docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the whole table.
type bench struct {
	binary string // sagelocal
	echo   string // the echoing model server
	dir    string // temporary; configuration files
	rounds int
	round  time.Duration // of load on one target

	samples []sample // ratios, by round
}

// section measures some rows of the table. An error is a row that says so, and
// the others go on.
type section struct {
	name string
	// table is the table it is a part of, named by the Makefile's target.
	table string
	run   func(*bench, context.Context) ([]row, error)
}

// defaultTable is measured unless --only names something else.
const defaultTable = "bench"

var sections = []section{
	{"proxy", defaultTable, (*bench).proxies},
	{"moto", defaultTable, (*bench).motoLoad},
	{"start", defaultTable, (*bench).firstAnswer},
	{"taps", defaultTable, (*bench).taps},
	{"pick", defaultTable, (*bench).picks},
	{"allocations", defaultTable, (*bench).allocations},
	{"plane", defaultTable, (*bench).plane},
	{"store", defaultTable, (*bench).stores},
	{"async", defaultTable, (*bench).asyncQueue},
	{"matrix", "bench-matrix", (*bench).matrix},
	{"scale", "bench-scale", (*bench).scale},
	{"stream", "bench-stream", (*bench).streams},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var b bench
	write := flag.Bool("write", false, "write the table into docs/benchmarks.md")
	only := flag.String("only", "", "sections to run, separated by commas (default all but matrix, scale and stream)")
	benchfmt := flag.String("benchfmt", "", "file to write the ratios of every round to, in Go's benchmark format")
	compare := flag.String("compare", "", "with --benchfmt: file of recorded ratios; a significant loss is an error")
	flag.StringVar(&b.binary, "binary", "bin/sagelocal", "the sagelocal to measure")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds of load; the table shows medians")
	flag.DurationVar(&b.round, "round", 5*time.Second, "length of one load on one target, whole seconds")
	flag.Parse()
	if *compare != "" && *benchfmt == "" {
		return errors.New("--compare needs --benchfmt")
	}

	if b.dir, err = os.MkdirTemp("", "benchtable-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("%w; `make build` makes it", err)
	}
	if err := b.buildEcho(ctx); err != nil {
		return err
	}

	chosen := func(s section) bool {
		return *only == "" && s.table == defaultTable || slices.Contains(strings.Split(*only, ","), s.name)
	}
	all := func() error { return b.tables(ctx, chosen, *write, *benchfmt) }
	if err := all(); err != nil || *compare == "" {
		return err
	}
	return guard(ctx, *compare, *benchfmt, all)
}

// tables measures, prints and writes everything that is chosen.
func (b *bench) tables(ctx context.Context, chosen func(section) bool, write bool, benchfmt string) error {
	b.samples = nil
	for _, table := range []string{defaultTable, "bench-matrix", "bench-scale", "bench-stream"} {
		text, err := b.measure(ctx, table, chosen)
		if err != nil {
			return err
		}
		if fmt.Print(text); write && text != "" {
			if err := writeDoc("docs/benchmarks.md", table, text); err != nil {
				return err
			}
		}
	}
	if benchfmt == "" {
		return nil
	}
	return writeSamples(benchfmt, b.samples, describeMachine(ctx, "bench-record"))
}

// measure runs the chosen sections of one table; without any there is no text.
func (b *bench) measure(ctx context.Context, table string, chosen func(section) bool) (string, error) {
	machine := describeMachine(ctx, table)
	var rows []row
	for _, s := range sections {
		if s.table != table || !chosen(s) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", s.name)
		measured, err := s.run(b, ctx)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		rows = append(rows, measured...)
		if err != nil {
			rows = append(rows, row{what: s.name, ours: "not measured: " + oneLine(err.Error())})
		}
	}
	if len(rows) == 0 {
		return "", nil
	}
	return render(rows) + "\n" + machine, nil
}

func (b *bench) buildEcho(ctx context.Context) error {
	b.echo = filepath.Join(b.dir, "echogo")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.echo, "./testdata/models/echogo")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build echogo: %w: %s", err, out)
	}
	return nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
