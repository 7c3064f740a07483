package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// around makes six samples whose ratios scatter by 2 % about the given ones.
func around(name string, rate, p99 float64) []sample {
	var samples []sample
	for i := range 6 {
		off := 1 + 0.01*(float64(i)-2.5)/1.25
		samples = append(samples, sample{name, rate * off, p99 * off})
	}
	return samples
}

func TestOnlyASignificantLossOfMoreThanTenPercentThatShowsTwiceFails(t *testing.T) {
	if _, err := tool("benchstat", ""); err != nil {
		t.Skip(err)
	}
	wide := around("a", 0.8, 1) // 20 % worse in the middle, but all over the place
	for i := range wide {
		wide[i].rate = []float64{0.3, 1.4, 0.5, 1.2, 0.6, 1.0}[i]
	}
	for name, c := range map[string]struct {
		is   []sample
		lost string // a word of the error; empty for none
	}{
		"same":                {around("a", 1, 1), ""},
		"better":              {around("a", 1.5, 0.5), ""},
		"slightly slower":     {around("a", 0.93, 1.07), ""},
		"slower":              {around("a", 0.8, 1), "Ratio/a x-rate was 1.00, is 0.80"},
		"longer tail":         {around("a", 1, 1.3), "Ratio/a x-P99 was 1.00, is 1.30"},
		"slower, not surely":  {wide, ""},
		"too few samples":     {around("a", 0.5, 2)[:2], ""},
		"only something else": {around("b", 1, 1), "no ratio was measured both then and now"},
		"something new":       {slices.Concat(around("a", 1, 1), around("b", 0.1, 9)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			recorded, measured := filepath.Join(t.TempDir(), "was.txt"), filepath.Join(t.TempDir(), "is.txt")
			if err := writeSamples(recorded, around("a", 1, 1), "- some: machine"); err != nil {
				t.Fatal(err)
			}
			for _, second := range []struct {
				samples []sample
				lost    string
			}{{c.is, c.lost}, {around("a", 1, 1), ""}} {
				if err := writeSamples(measured, c.is, "- some: machine"); err != nil {
					t.Fatal(err)
				}
				err := guard(t.Context(), recorded, measured, func() error {
					return writeSamples(measured, second.samples, "- some: machine")
				})
				want := second.lost
				if strings.HasPrefix(c.lost, "no ratio") {
					want = c.lost // a second measurement is not asked for
				}
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
		})
	}
}

func TestRecordPairsRounds(t *testing.T) {
	var b bench
	ours := &target{rates: []float64{10, 30, 20}, p99s: []float64{1, 3, 2}}
	theirs := &target{rates: []float64{10, 10, 40}, p99s: []float64{2, 2, 2}}
	got := b.record("a", ours, theirs)
	if want := (sample{"a", 1, 1}); got != want {
		t.Errorf("medians %v, want %v", got, want)
	}
	if want := []sample{{"a", 1, 0.5}, {"a", 3, 1.5}, {"a", 0.5, 1}}; !slices.Equal(b.samples, want) {
		t.Errorf("samples %v, want %v", b.samples, want)
	}
}
