package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// row is one line of the table. Empty cells are shown as a dash.
type row struct {
	what, ours     string
	beside, theirs string // the counterpart and its figure
	ratio          string // ours ÷ theirs
	aim            string
	reached        verdict
}

type verdict string

const (
	noAim verdict = ""
	yes   verdict = "yes"
	no    verdict = "no"
)

func reached(ok bool) verdict {
	if ok {
		return yes
	}
	return no
}

// render is the table as Markdown with aligned columns, which reads well in a
// terminal too.
func render(rows []row) string {
	lines := [][]string{{"what", "sagelocal", "counterpart", "its figure", "ratio", "aim", "reached"}}
	for _, r := range rows {
		lines = append(lines, []string{r.what, r.ours, r.beside, r.theirs, r.ratio, r.aim, string(r.reached)})
	}
	width := make([]int, len(lines[0]))
	for _, cells := range lines {
		for i, c := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(c), 1)
		}
	}
	var b strings.Builder
	for n, cells := range lines {
		for i, c := range cells {
			if c == "" {
				c = "–"
			}
			fmt.Fprintf(&b, "| %s%s ", c, strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range width {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// A table's place in the document; what stands around it is written by hand.
const (
	tableBegin = "<!-- table: written by make %s, do not edit -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// writeDoc puts the text in the place of the table that a target of the Makefile
// measures.
func writeDoc(path, table, text string) error {
	begin := fmt.Sprintf(tableBegin, table)
	doc, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("document: %w", err)
	}
	before, rest, ok := bytes.Cut(doc, []byte(begin))
	if !ok {
		return fmt.Errorf("%s has no line %q", path, strings.TrimSpace(begin))
	}
	_, after, ok := bytes.Cut(rest, []byte(tableEnd))
	if !ok {
		return fmt.Errorf("%s has no line %q", path, strings.TrimSpace(tableEnd))
	}
	doc = slices.Concat(before, []byte(begin+"\n"+text+"\n"+tableEnd), after)
	if err := os.WriteFile(path, doc, 0o644); err != nil { //nolint:gosec // a document
		return fmt.Errorf("document: %w", err)
	}
	return nil
}

// median of at least one figure.
func median(figures []float64) float64 {
	s := slices.Sorted(slices.Values(figures))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// perSecond shows a rate with a comma at the thousands.
func perSecond(rate float64) string {
	digits := strconv.FormatInt(int64(math.Round(rate)), 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits + "/s"
}

// times shows a ratio with about three significant digits.
func times(ratio float64) string {
	switch {
	case ratio >= 100:
		return fmt.Sprintf("%.0f ×", ratio)
	case ratio >= 10:
		return fmt.Sprintf("%.1f ×", ratio)
	case ratio >= 0.1:
		return fmt.Sprintf("%.2f ×", ratio)
	}
	return fmt.Sprintf("%.4f ×", ratio)
}

// count is a number of things.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strings.TrimSuffix(perSecond(float64(n)), "/s") + " " + thing
}

func milliseconds(ms float64) string {
	if ms >= 100 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

// nanoseconds shows a benchmark's time per operation in a unit that suits it.
func nanoseconds(ns float64) string {
	switch {
	case ns >= 1e6:
		return fmt.Sprintf("%.2f ms", ns/1e6)
	case ns >= 1e3:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	}
	return fmt.Sprintf("%.0f ns", ns)
}
