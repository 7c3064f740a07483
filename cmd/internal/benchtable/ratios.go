package main

import (
	"fmt"
	"os"
	"strings"
)

// sample is one round's ratio of two targets: of requests per second, where more
// is better, and of P99, where less is.
type sample struct {
	name      string
	rate, p99 float64
}

// record keeps the ratio of every round for --benchfmt, and returns the medians.
// Rounds are paired: what else the machine did in a round hit both.
func (b *bench) record(name string, ours, theirs *target) sample {
	var rates, p99s []float64
	for i := range min(len(ours.rates), len(theirs.rates)) {
		s := sample{name, ours.rates[i] / theirs.rates[i], ours.p99s[i] / theirs.p99s[i]}
		b.samples = append(b.samples, s)
		rates, p99s = append(rates, s.rate), append(p99s, s.p99)
	}
	return sample{name, median(rates), median(p99s)}
}

// Units of the ratios in Go's benchmark format.
const (
	unitRate = "x-rate"
	unitP99  = "x-P99"
)

// formatSamples is Go's benchmark format. The machine stands in a comment, not
// in configuration lines, because benchstat compares only what agrees in those.
func formatSamples(samples []sample, machine string) string {
	var s strings.Builder
	s.WriteString("Ratios, one line a round: sagelocal's figure over the counterpart's.\n")
	s.WriteString(machine + "\n")
	fmt.Fprintf(&s, "Unit %s better=higher\nUnit %s better=lower\n", unitRate, unitP99)
	for _, m := range samples {
		fmt.Fprintf(&s, "BenchmarkRatio/%s 1 %.4f %s %.4f %s\n", m.name, m.rate, unitRate, m.p99, unitP99)
	}
	return s.String()
}

func writeSamples(path string, samples []sample, machine string) error {
	if err := os.WriteFile(path, []byte(formatSamples(samples, machine)), 0o644); err != nil { //nolint:gosec // figures to publish
		return fmt.Errorf("ratios: %w", err)
	}
	return nil
}
