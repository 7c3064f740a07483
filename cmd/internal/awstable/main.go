// Command awstable is the live half of `make bench-aws-table`: AWS's routing
// table measured on a running daemon whose simulated workers are 27 times as
// fast as the model of docs/routing.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// sizes are AWS's: instances, each with four users.
var sizes = []int{1, 5, 10, 15, 20}

const usersPerInstance = 4

func main() {
	binary := flag.String("binary", "bin/sagelocal", "the program to measure")
	config := flag.String("config", "testdata/routing.yaml", "configuration with the image codegen2-7b")
	repetitions := flag.Int("repetitions", 5, "runs of each strategy at each size")
	duration := flag.Duration("duration", 8*time.Second, "length of a run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, *config, *repetitions, *duration, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "awstable:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, config string, repetitions int, duration time.Duration, out io.Writer) (err error) {
	url, end, err := serve(ctx, binary, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	fmt.Fprintf(out, "LEAST_OUTSTANDING_REQUESTS against RANDOM, live, %d × %v each, 95 %% confidence\n\n", repetitions, duration)
	fmt.Fprintln(out, "| instances | users | throughput per instance | P99 |\n|---:|---:|---:|---:|")
	for _, n := range sizes {
		r, err := compare(ctx, binary, url, n, repetitions, duration)
		if err != nil {
			return fmt.Errorf("%d instances: %w", n, err)
		}
		fmt.Fprintf(out, "| %d | %d | %s | %s |\n", n, n*usersPerInstance,
			r.change("throughput_per_instance_per_minute"), r.change("p99_seconds"))
	}
	return nil
}

// serve starts a daemon and returns its URL and what ends it.
func serve(ctx context.Context, binary, config string) (url string, end func() error, err error) {
	daemon := exec.CommandContext(ctx, binary, "serve", "--in-memory", "--listen", "127.0.0.1:0", "--config", config, "--seed", "1")
	daemon.Cancel = func() error { return daemon.Process.Signal(syscall.SIGTERM) }
	daemon.WaitDelay = 30 * time.Second
	daemon.Stderr = os.Stderr
	stdout, err := daemon.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := daemon.Start(); err != nil {
		return "", nil, err
	}
	end = func() error {
		if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return daemon.Wait()
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if _, found, ok := strings.Cut(lines.Text(), " answers on "); ok {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return found, end, nil
		}
	}
	return "", nil, errors.Join(errors.New("the daemon did not say where it answers"), end())
}

// report is the part of `sagelocal bench --json` that the table shows.
type report struct {
	Changes []struct {
		Metric string     `json:"metric"`
		Change float64    `json:"change"`
		CI95   [2]float64 `json:"ci95"`
	} `json:"changes"`
}

func (r *report) change(metric string) string {
	for _, c := range r.Changes {
		if c.Metric == metric {
			return fmt.Sprintf("%+.1f %% (%+.1f to %+.1f)", 100*c.Change, 100*c.CI95[0], 100*c.CI95[1])
		}
	}
	return "not measured"
}

func compare(ctx context.Context, binary, url string, instances, repetitions int, duration time.Duration) (*report, error) {
	bench := exec.CommandContext(ctx, binary, "bench", "--endpoint-url", url, "--image", "codegen2-7b",
		"--compare", "RANDOM,LEAST_OUTSTANDING_REQUESTS", "--instance-type", "ml.g5.24xlarge",
		"--instances", fmt.Sprint(instances), "--users", fmt.Sprint(usersPerInstance*instances),
		"--repetitions", fmt.Sprint(repetitions), "--duration", duration.String(), "--warm-up", "1s", "--json", "-")
	bench.Cancel = func() error { return bench.Process.Signal(os.Interrupt) } // it deletes what it made
	bench.WaitDelay = 30 * time.Second
	text, err := bench.Output()
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	var r report
	// The table comes before the JSON on standard output.
	at := strings.Index(string(text), "{\n")
	if at < 0 {
		return nil, errors.New("bench printed no JSON")
	}
	if err := json.Unmarshal(text[at:], &r); err != nil {
		return nil, fmt.Errorf("bench's JSON: %w", err)
	}
	return &r, nil
}
