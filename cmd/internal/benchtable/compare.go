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
	"slices"
	"strconv"
	"strings"
)

const (
	// alpha is benchstat's level of significance. With a few dozen ratios, 0.05
	// would find a difference by chance in almost every run. Six rounds against six
	// can reach 0.002.
	alpha = "0.01"
	// tolerance is the loss of a ratio that is let pass.
	tolerance = 0.10
)

// guard compares what was just measured with the recorded ratios. A loss counts
// if a second measurement shows it too: what else the machine does differs more
// between runs than between the rounds of one, and benchstat sees the rounds.
func guard(ctx context.Context, recorded, measured string, again func() error) error {
	first, err := compareRatios(ctx, recorded, measured)
	if err != nil || len(first) == 0 {
		return err
	}
	fmt.Fprintf(os.Stderr, "measuring again, as these look worse than recorded: %s\n", listed(first))
	if err := again(); err != nil {
		return err
	}
	second, err := compareRatios(ctx, recorded, measured)
	if err != nil {
		return err
	}
	both := slices.DeleteFunc(second, func(l loss) bool {
		return !slices.ContainsFunc(first, func(f loss) bool { return f.name == l.name && f.unit == l.unit })
	})
	if len(both) > 0 {
		return fmt.Errorf("worse than recorded, twice: %s", listed(both))
	}
	fmt.Println("no ratio was significantly worse both times")
	return nil
}

// compareRatios prints benchstat's comparison and returns the ratios that have
// got worse by more than the tolerance, if benchstat calls that significant.
func compareRatios(ctx context.Context, recorded, measured string) ([]loss, error) {
	program, err := tool("benchstat", "`go install golang.org/x/perf/cmd/benchstat@latest`")
	if err != nil {
		return nil, err
	}
	text, err := exec.CommandContext(ctx, program, "-alpha", alpha, recorded, measured).Output()
	if err != nil {
		return nil, fmt.Errorf("benchstat: %w", err)
	}
	fmt.Printf("\n%s", text)
	if text, err = exec.CommandContext(ctx, program, "-alpha", alpha, "-format", "csv", recorded, measured).Output(); err != nil {
		return nil, fmt.Errorf("benchstat: %w", err)
	}
	verdict, err := judge(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, name := range verdict.missing {
		fmt.Fprintf(os.Stderr, "not compared, as it was measured only once: %s\n", name)
	}
	if verdict.compared == 0 {
		return nil, errors.New("no ratio was measured both then and now")
	}
	fmt.Printf("%d ratios compared, %d have significantly lost more than %.0f %%\n", verdict.compared, len(verdict.lost), 100*tolerance)
	return verdict.lost, nil
}

// loss is a ratio that is significantly worse than recorded.
type loss struct {
	name, unit string
	was, is    float64 // medians
	p          string  // benchstat's words
}

func listed(losses []loss) string {
	texts := make([]string, len(losses))
	for i, l := range losses {
		texts[i] = fmt.Sprintf("%s %s was %.2f, is %.2f (%s)", l.name, l.unit, l.was, l.is, l.p)
	}
	return strings.Join(texts, "; ")
}

// comparison is what benchstat's figures mean.
type comparison struct {
	compared int
	lost     []loss
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
			c.lost = append(c.lost, loss{line[0], unit, was, is, line[6]})
		}
	}
}
