package routelab

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const unknown = "–"

// formatSeconds has three digits: 812 µs, 12.3 ms, 1.25 s.
func formatSeconds(s float64) string {
	switch {
	case math.IsNaN(s):
		return unknown
	case s == 0:
		return "0"
	case s < 999.5e-6:
		return threeDigits(s*1e6) + " µs"
	case s < 0.9995:
		return threeDigits(s*1e3) + " ms"
	}
	return threeDigits(s) + " s"
}

func formatRate(perSecond float64) string { return threeDigits(perSecond) }

func threeDigits(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return unknown
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// format is a metric's value with its unit.
func (m Metric) format(v float64) string {
	switch {
	case math.IsNaN(v):
		return unknown
	case m.Unit == "s":
		return formatSeconds(v)
	}
	return threeDigits(v) + m.Unit
}

// interval is "120 ms ±4 %", or the mean alone.
func (m Metric) interval(v Interval) string {
	text := m.format(v.Mean)
	if math.IsNaN(v.Low) || v.Mean == 0 {
		return text
	}
	return text + " ±" + percent((v.High-v.Mean)/v.Mean) + "%"
}

// WriteTable prints one column a strategy, with 95 % confidence intervals, then
// the verdict and the notes.
func (r *Report) WriteTable(w io.Writer) error {
	rows := [][]string{r.tableLine("", func(s *Summary) string { return s.Strategy })}
	for _, m := range Metrics {
		rows = append(rows, r.tableLine(m.Title, func(s *Summary) string { return m.interval(s.Metrics[m.Name]) }))
	}
	for _, c := range r.counts() {
		rows = append(rows, r.tableLine(c.title, c.of))
	}
	rows = append(rows, r.tableLine("repetitions", func(s *Summary) string { return fmt.Sprint(s.Repetitions) }))
	text := align(rows) + "\n" + r.Verdict + "\n"
	for _, note := range r.Notes {
		text += "  " + note + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

func (r *Report) tableLine(title string, cell func(*Summary) string) []string {
	line := []string{title}
	for i := range r.Strategies {
		line = append(line, cell(&r.Strategies[i]))
	}
	return line
}

// count is a row of the table that is no Metric.
type count struct {
	title string
	of    func(*Summary) string
}

func (r *Report) counts() []count {
	counts := []count{
		{"requests", func(s *Summary) string { return fmt.Sprint(s.Requests) }},
		{"errors", func(s *Summary) string {
			if s.Failed() == 0 {
				return "0"
			}
			return errorList(s.Errors)
		}},
		{"instances", func(s *Summary) string {
			if s.Instances == 0 {
				return unknown
			}
			return fmt.Sprint(s.Instances)
		}},
	}
	if r.Setup.Open {
		counts = append(counts, count{"not sent", func(s *Summary) string { return fmt.Sprint(s.NotSent) }})
	}
	return counts
}

// align sets the first column left and the others right.
func align(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + space)
				continue
			}
			b.WriteString("   " + space + cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// WriteCSV writes one row a run.
func (r *Report) WriteCSV(w io.Writer) error {
	header := []string{"strategy", "repetition", "started", "seconds", "instances", "requests", "errors", "not_sent", "cut_off", "interrupted"}
	for _, m := range Metrics {
		header = append(header, m.Name)
	}
	c := csv.NewWriter(w)
	if err := c.Write(header); err != nil {
		return err
	}
	for _, run := range r.Runs {
		record := []string{
			run.Strategy, strconv.Itoa(run.Repetition), run.Started.UTC().Format(time.RFC3339Nano), decimal(run.Seconds),
			strconv.Itoa(run.Instances), strconv.FormatInt(run.Requests, 10), strconv.FormatInt(run.Failed(), 10),
			strconv.FormatInt(run.NotSent, 10), strconv.FormatInt(run.CutOff, 10), strconv.FormatBool(run.Interrupted),
		}
		for _, m := range Metrics {
			record = append(record, decimal(m.Of(run)))
		}
		if err := c.Write(record); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// decimal is empty for what is not known.
func decimal(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
