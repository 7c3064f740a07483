package routelab

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const unknown = "–"

// formatSeconds has three digits: 812 µs, 12.3 ms, 1.25 s.
func formatSeconds(s float64) string {
	switch {
	case math.IsNaN(s):
		return unknown
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
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.TabIndent)
	row := func(title string, cell func(*Summary) string) {
		fmt.Fprint(t, title, "\t")
		for i := range r.Strategies {
			fmt.Fprint(t, cell(&r.Strategies[i]), "\t")
		}
		fmt.Fprintln(t)
	}
	row("", func(s *Summary) string { return s.Strategy })
	for _, m := range Metrics {
		row(m.Title, func(s *Summary) string { return m.interval(s.Metrics[m.Name]) })
	}
	row("requests", func(s *Summary) string { return fmt.Sprint(s.Requests) })
	row("errors", func(s *Summary) string {
		if s.Failed() == 0 {
			return "0"
		}
		return errorList(s.Errors)
	})
	if r.Setup.Open {
		row("not sent", func(s *Summary) string { return fmt.Sprint(s.NotSent) })
	}
	row("instances", func(s *Summary) string {
		if s.Instances == 0 {
			return unknown
		}
		return fmt.Sprint(s.Instances)
	})
	row("repetitions", func(s *Summary) string { return fmt.Sprint(s.Repetitions) })
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(append([]string{r.Verdict}, r.Notes...), "\n"))
	return err
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
