package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

const (
	// alpha is benchstat's level of significance. With a few dozen ratios, 0.05
	// would find a loss by chance in almost every run. Six rounds against six
	// can reach 0.002.
	alpha = "0.01"
	// tolerance is the loss of a ratio that is let pass.
	tolerance = 0.10
)

// compareRatios prints benchstat's comparison and fails if a ratio has got worse
// by more than the tolerance and benchstat calls the difference significant.
func compareRatios(ctx context.Context, recorded, measured string) error {
	program, err := tool("benchstat", "`go install golang.org/x/perf/cmd/benchstat@latest`")
	if err != nil {
		return err
	}
	text, err := exec.CommandContext(ctx, program, "-alpha", alpha, recorded, measured).Output()
	if err != nil {
		return fmt.Errorf("benchstat: %w", err)
	}
	fmt.Printf("\n%s", text)
	if text, err = exec.CommandContext(ctx, program, "-alpha", alpha, "-format", "csv", recorded, measured).Output(); err != nil {
		return fmt.Errorf("benchstat: %w", err)
	}
	verdict, err := judge(bytes.NewReader(text))
	if err != nil {
		return err
	}
	for _, name := range verdict.missing {
		fmt.Fprintf(os.Stderr, "not compared, as it was measured only once: %s\n", name)
	}
	if verdict.compared == 0 {
		return errors.New("no ratio was measured both then and now")
	}
	if len(verdict.lost) > 0 {
		return fmt.Errorf("worse than recorded: %s", strings.Join(verdict.lost, "; "))
	}
	fmt.Printf("%d ratios compared, none has significantly lost more than %.0f %%\n", verdict.compared, 100*tolerance)
	return nil
}

// comparison is what benchstat's figures mean.
type comparison struct {
	compared int
	lost     []string // significantly worse
	missing  []string // in one of the files only
}

// judge reads benchstat's CSV: for each unit a line of file names, a line of
// headings that begins with the unit, then a line for each benchmark with the
// medians and, under "vs base", a tilde unless they differ significantly.
func judge(r io.Reader) (comparison, error) {
	var c comparison
	lines := csv.NewReader(r)
	lines.FieldsPerRecord = -1
	var unit string
	for {
		line, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return c, fmt.Errorf("benchstat's output: %w", err)
		}
		switch {
		case line[0] == "" && len(line) >= 7 && line[5] == "vs base":
			unit = line[1]
			continue
		case line[0] == "" || line[0] == "geomean":
			continue
		case len(line) < 7 || line[1] == "" || line[3] == "":
			c.missing = append(c.missing, line[0]+" "+unit)
			continue
		}
		was, err := strconv.ParseFloat(line[1], 64)
		if err != nil {
			return c, fmt.Errorf("benchstat's output: %w", err)
		}
		is, err := strconv.ParseFloat(line[3], 64)
		if err != nil {
			return c, fmt.Errorf("benchstat's output: %w", err)
		}
		c.compared++
		worse := is < was*(1-tolerance)
		if unit == unitP99 {
			worse = is > was*(1+tolerance)
		}
		if worse && line[5] != "~" {
			c.lost = append(c.lost, fmt.Sprintf("%s %s was %.2f, is %.2f (%s)", line[0], unit, was, is, line[6]))
		}
	}
}
