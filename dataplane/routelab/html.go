package routelab

import (
	"embed"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// assets holds the page and uPlot (MIT), which draws the charts.
//
//go:embed assets/report.html assets/report.css assets/report.js assets/uplot.min.js assets/uplot.min.css assets/uplot.LICENSE
var assets embed.FS

var page = template.Must(template.New("report.html").Funcs(template.FuncMap{
	"css":     func(name string) template.CSS { return template.CSS(asset(name)) },
	"js":      func(name string) template.JS { return template.JS(asset(name)) },
	"licence": func() template.JS { return template.JS("/*! " + asset("uplot.LICENSE") + " */") },
	"figures": func(text string) string { return unbroken.Replace(text) },
	// A long name may break after each word.
	"name": func(strategy string) template.HTML {
		return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(strategy), "_", "_<wbr>"))
	},
	"date": func(t time.Time) string { return t.Format("2 January 2006, 15:04 MST") },
}).ParseFS(assets, "assets/report.html"))

// unbroken keeps a range and its percent sign on one line: narrow no-break spaces
// and word joiners.
var unbroken = strings.NewReplacer(" %", "\u202f%", "–", "\u2060–\u2060")

// asset is an embedded file, which the build has made sure of.
func asset(name string) string {
	text, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// WriteHTML writes the report as one page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	return page.Execute(w, struct {
		*Report
		Table  []tableGroup
		Forest []forestGroup
		Charts charts
	}{r, r.tableGroups(), r.forest(), r.charts()})
}

// The page's table: rows are metrics, cells strategies.
type (
	tableGroup struct {
		Title string
		Rows  []tableRow
	}
	tableRow struct {
		Title string
		Cells []tableCell
	}
	tableCell struct {
		Text, Range string // the mean and its confidence interval
		Change      string // against the baseline; empty for the baseline itself
		Class       string // better, worse or unsure
	}
)

func (r *Report) tableGroups() []tableGroup {
	groups := []tableGroup{{Title: "Latency"}, {Title: "Throughput"}, {Title: "Balance across instances"}, {Title: "Requests"}}
	for _, m := range Metrics {
		row := tableRow{Title: m.Title}
		known := false
		for i := range r.Strategies {
			cell := r.cell(m, &r.Strategies[i])
			known = known || cell.Text != unknown
			row.Cells = append(row.Cells, cell)
		}
		if !known {
			continue
		}
		g := &groups[0]
		switch m.Unit {
		case "/s", "/min":
			g = &groups[1]
		case "":
			g = &groups[2]
		}
		g.Rows = append(g.Rows, row)
	}
	for _, c := range r.counts() {
		row := tableRow{Title: c.title}
		for i := range r.Strategies {
			row.Cells = append(row.Cells, tableCell{Text: c.of(&r.Strategies[i])})
		}
		groups[3].Rows = append(groups[3].Rows, row)
	}
	return slices.DeleteFunc(groups, func(g tableGroup) bool { return len(g.Rows) == 0 })
}

func (r *Report) cell(m Metric, s *Summary) tableCell {
	v := s.Metrics[m.Name]
	cell := tableCell{Text: m.format(v.Mean)}
	if !math.IsNaN(v.Low) {
		cell.Range = m.format(max(0, v.Low)) + " – " + m.format(v.High)
	}
	if c := r.change(s.Strategy, m.Name); !math.IsNaN(c.Change) {
		cell.Change, cell.Class = signed(c.Change)+" %", m.judge(c)
	}
	return cell
}

// judge is better, worse or unsure.
func (m Metric) judge(c Change) string {
	switch {
	case !c.Sure():
		return "unsure"
	case (c.Change > 0) == m.HigherIsBetter:
		return "better"
	}
	return "worse"
}

// The page's plot of changes with their confidence intervals, positions in
// percent of its width.
type (
	forestGroup struct {
		Strategy, Baseline string
		Zero               float64
		Rows               []forestRow
	}
	forestRow struct {
		Title, Text, Class string
		At, From, Width    float64
	}
)

// forestMetrics are those that people choose by.
var forestMetrics = []string{"p50_seconds", "p90_seconds", p99, "p999_seconds", throughput}

func (r *Report) forest() []forestGroup {
	low, high := 0.0, 0.0
	each := func(do func(Change, Metric)) {
		for _, c := range r.Changes {
			i := slices.IndexFunc(Metrics, func(m Metric) bool { return m.Name == c.Metric })
			if slices.Contains(forestMetrics, c.Metric) && !math.IsNaN(c.Change) {
				do(c, Metrics[i])
			}
		}
	}
	// An interval much wider than the effects would press all others to a point.
	const widest = 3
	bounds := func(c Change) (float64, float64) {
		if math.IsNaN(c.Low) {
			return c.Change, c.Change
		}
		return max(c.Low, -1), min(c.High, max(widest, 2*c.Change))
	}
	each(func(c Change, _ Metric) {
		l, h := bounds(c)
		low, high = min(low, l), max(high, h)
	})
	margin := max(0.01, (high-low)*0.05)
	low, high = low-margin, high+margin
	place := func(v float64) float64 { return (v - low) / (high - low) * 100 }
	var groups []forestGroup
	each(func(c Change, m Metric) {
		if len(groups) == 0 || groups[len(groups)-1].Strategy != c.Strategy {
			groups = append(groups, forestGroup{Strategy: c.Strategy, Baseline: c.Baseline, Zero: place(0)})
		}
		l, h := bounds(c)
		row := forestRow{Title: m.Title, Text: signed(c.Change) + " %", Class: m.judge(c), At: place(c.Change), From: place(l), Width: place(h) - place(l)}
		if !math.IsNaN(c.Low) {
			row.Text += " (" + signed(c.Low) + " to " + signed(c.High) + ")"
		}
		g := &groups[len(groups)-1]
		g.Rows = append(g.Rows, row)
	})
	return groups
}
