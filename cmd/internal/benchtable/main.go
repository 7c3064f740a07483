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
}

// section measures some rows of the table. An error is a row that says so, and
// the others go on.
type section struct {
	name string
	run  func(*bench, context.Context) ([]row, error)
}

var sections = []section{
	{"proxy", (*bench).proxies},
	{"moto", (*bench).motoLoad},
	{"start", (*bench).firstAnswer},
	{"pick", (*bench).picks},
	{"allocations", (*bench).allocations},
	{"store", (*bench).stores},
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
	only := flag.String("only", "", "sections to run, separated by commas (default all)")
	flag.StringVar(&b.binary, "binary", "bin/sagelocal", "the sagelocal to measure")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds of load; the table shows medians")
	flag.DurationVar(&b.round, "round", 5*time.Second, "length of one load on one target, whole seconds")
	flag.Parse()

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

	machine := describeMachine(ctx)
	var rows []row
	for _, s := range sections {
		if *only != "" && !strings.Contains(","+*only+",", ","+s.name+",") {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", s.name)
		measured, err := s.run(&b, ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rows = append(rows, measured...)
		if err != nil {
			rows = append(rows, row{what: s.name, ours: "not measured: " + oneLine(err.Error())})
		}
	}
	text := render(rows) + "\n" + machine
	fmt.Print(text)
	if *write {
		return writeDoc("docs/benchmarks.md", text)
	}
	return nil
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
