package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/routelab/sim"
)

// panel is one of the plots that stand side by side in a chart.
type panel struct {
	title, x, y  string
	lines        []line
	logX, logY   bool
	from, to     float64 // of y; both 0: as the data is
	ticks        []float64
	bandLow      float64 // a range to shade, such as what AWS reports
	bandHigh     float64
	percentTicks bool
}

type line struct {
	name   string
	points []point
	// bars shows the interval as whiskers instead of a band, without a line.
	bars bool
}

// point is a value with its interval.
type point struct{ x, y, low, high float64 }

// look is the colour and dashes of a strategy, the same in every chart (Okabe
// and Ito's colours, which colour-blind readers can tell apart).
type look struct {
	label  string
	color  color.RGBA
	dashes []vg.Length
}

var looks = map[string]look{
	dataplane.StrategyRandom:           {"RANDOM", color.RGBA{0xd5, 0x5e, 0x00, 0xff}, nil},
	dataplane.StrategyLeastOutstanding: {"LEAST_OUTSTANDING_REQUESTS", color.RGBA{0x00, 0x72, 0xb2, 0xff}, nil},
	dataplane.StrategyPrefixAware:      {"PREFIX_AWARE", color.RGBA{0x00, 0x9e, 0x73, 0xff}, nil},
	sim.CentralQueue:                   {"bound (one central queue)", color.RGBA{0x55, 0x55, 0x55, 0xff}, []vg.Length{vg.Points(4), vg.Points(3)}},
	sim.PowerOfTwoChoices:              {"power of two choices", color.RGBA{0xcc, 0x79, 0xa7, 0xff}, nil},
	sim.StaleLeastOutstanding:          {"least outstanding, stale counts", color.RGBA{0xe6, 0x9f, 0x00, 0xff}, nil},
	sim.RoundRobin:                     {"round robin", color.RGBA{0x56, 0xb4, 0xe9, 0xff}, nil},
	single:                             {"one run of ten minutes, 95 %", color.RGBA{0x99, 0x99, 0x99, 0xff}, nil},
	model:                              {"model, 95 % confidence", color.RGBA{0x00, 0x72, 0xb2, 0xff}, nil},
}

// Lines that are no strategy's.
const (
	single = "single run"
	model  = "model"
)

var (
	ink   = color.RGBA{0x33, 0x33, 0x33, 0xff}
	grid  = color.RGBA{0xd9, 0xd9, 0xd9, 0xff}
	shade = color.RGBA{0xf3, 0xe9, 0xc6, 0xff}
)

const (
	panelWidth  = 380
	panelHeight = 300
	legendRow   = 18
)

// render writes the panels side by side, under one legend.
func render(name string, panels []panel) error {
	legend := legendOf(panels)
	width := vg.Length(panelWidth * len(panels))
	rows := legend.rows(width)
	height := vg.Length(panelHeight + legendRow*rows + 8)
	c := vgsvg.New(width, height)
	whole := draw.New(c)
	whole.SetColor(color.White)
	whole.Fill(whole.Path())
	legend.draw(draw.Crop(whole, 0, 0, height-vg.Length(legendRow*rows)-4, -2))
	for i, p := range panels {
		chart, err := p.plot()
		if err != nil {
			return err
		}
		left := vg.Length(panelWidth * i)
		chart.Draw(draw.Crop(whole, left+6, left+panelWidth-12-width, 6, -vg.Length(legendRow*rows)-8))
	}
	var text bytes.Buffer
	if _, err := c.WriteTo(&text); err != nil {
		return err
	}
	// The font that lengths were measured in, or what a reader has instead.
	svg := bytes.ReplaceAll(text.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	return os.WriteFile(name, svg, 0o644)
}

func (p panel) plot() (*plot.Plot, error) {
	chart := plot.New()
	chart.Title.Text, chart.X.Label.Text, chart.Y.Label.Text = p.title, p.x, p.y
	chart.Title.Padding = vg.Points(6)
	chart.BackgroundColor = color.White
	for _, style := range []*draw.TextStyle{
		&chart.Title.TextStyle, &chart.X.Label.TextStyle, &chart.Y.Label.TextStyle,
		&chart.X.Tick.Label, &chart.Y.Tick.Label,
	} {
		style.Color, style.Font.Variant, style.Font.Size = ink, "Sans", vg.Points(10)
	}
	chart.Title.TextStyle.Font.Size, chart.Title.TextStyle.Font.Weight = vg.Points(11), 3
	for _, axis := range []*plot.Axis{&chart.X, &chart.Y} {
		axis.Color, axis.Tick.Color, axis.Padding = ink, ink, vg.Points(2)
		axis.Width = vg.Points(0.6)
	}
	chart.X.Tick.Marker, chart.Y.Tick.Marker = linear{}, linear{}
	if p.logX {
		chart.X.Scale, chart.X.Tick.Marker = plot.LogScale{}, sparse{}
	}
	if p.logY {
		chart.Y.Scale, chart.Y.Tick.Marker = plot.LogScale{}, sparse{}
	}
	if p.ticks != nil {
		chart.X.Tick.Marker = fixed(p.ticks)
	}
	if p.percentTicks {
		chart.Y.Tick.Marker = percents{}
	}
	if p.bandLow != p.bandHigh {
		if err := p.shade(chart); err != nil {
			return nil, err
		}
	}
	lines := plotter.NewGrid()
	lines.Vertical.Color, lines.Horizontal.Color = color.Transparent, grid
	chart.Add(lines)
	for _, l := range p.lines {
		if err := l.add(chart); err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
	}
	if p.from != p.to {
		chart.Y.Min, chart.Y.Max = p.from, p.to
	}
	return chart, nil
}

func (p panel) shade(chart *plot.Plot) error {
	first, last := math.Inf(1), math.Inf(-1)
	for _, l := range p.lines {
		for _, pt := range l.points {
			first, last = min(first, pt.x), max(last, pt.x)
		}
	}
	band, err := plotter.NewPolygon(plotter.XYs{
		{X: first, Y: p.bandLow},
		{X: last, Y: p.bandLow},
		{X: last, Y: p.bandHigh},
		{X: first, Y: p.bandHigh},
	})
	if err != nil {
		return err
	}
	band.Color, band.Width = shade, 0
	chart.Add(band)
	return nil
}

func (l line) add(chart *plot.Plot) error {
	style := looks[l.name]
	xys, around := make(plotter.XYs, len(l.points)), plotter.XYs{}
	bars := plotter.YErrors{}
	for i, pt := range l.points {
		xys[i] = plotter.XY{X: pt.x, Y: pt.y}
		around = append(around, plotter.XY{X: pt.x, Y: pt.low})
		bars = append(bars, struct{ Low, High float64 }{pt.y - pt.low, pt.high - pt.y})
	}
	for i := len(l.points) - 1; i >= 0; i-- {
		around = append(around, plotter.XY{X: l.points[i].x, Y: l.points[i].high})
	}
	if l.bars {
		whiskers, err := plotter.NewYErrorBars(struct {
			plotter.XYer
			plotter.YErrorer
		}{xys, bars})
		if err != nil {
			return err
		}
		whiskers.Color, whiskers.Width, whiskers.CapWidth = style.color, vg.Points(1.2), vg.Points(7)
		chart.Add(whiskers)
		return nil
	}
	band, err := plotter.NewPolygon(around)
	if err != nil {
		return err
	}
	pale := style.color
	pale.A = 0x38
	band.Color = color.NRGBA(pale)
	band.Width = 0
	path, err := plotter.NewLine(xys)
	if err != nil {
		return err
	}
	path.Color, path.Width, path.Dashes = style.color, vg.Points(1.8), style.dashes
	dots, err := plotter.NewScatter(xys)
	if err != nil {
		return err
	}
	dots.Color, dots.Radius, dots.Shape = style.color, vg.Points(2), draw.CircleGlyph{}
	chart.Add(band, path)
	if style.dashes == nil {
		chart.Add(dots)
	}
	return nil
}

// fixed puts ticks where they are told.
type fixed []float64

func (f fixed) Ticks(_, _ float64) []plot.Tick {
	ticks := make([]plot.Tick, len(f))
	for i, v := range f {
		ticks[i] = plot.Tick{Value: v, Label: number(v)}
	}
	return ticks
}

// sparse is a logarithmic axis labelled at 1, 2 and 5 times the powers of ten.
type sparse struct{}

func (sparse) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	few := high/low > 300
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow(10, e)
			if v < low*0.999 || v > high*1.001 || few && m != 1 {
				continue
			}
			ticks = append(ticks, plot.Tick{Value: v, Label: number(v)})
		}
	}
	return ticks
}

// linear is a linear axis with the ticks that have labels alone.
type linear struct{}

func (linear) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for _, t := range (plot.DefaultTicks{}).Ticks(low, high) {
		if t.Label != "" {
			ticks = append(ticks, plot.Tick{Value: t.Value, Label: number(t.Value)})
		}
	}
	return ticks
}

type percents struct{}

func (percents) Ticks(low, high float64) []plot.Tick {
	ticks := linear{}.Ticks(low, high)
	for i, t := range ticks {
		if t.Value != 0 {
			ticks[i].Label = fmt.Sprintf("%+.0f", t.Value)
		}
		ticks[i].Label += " %"
	}
	return ticks
}

func number(v float64) string { return fmt.Sprintf("%.4g", math.Round(v*1e6)/1e6) }

// key is the legend, in rows above the panels.
type key []string

func legendOf(panels []panel) key {
	var names key
	seen := map[string]bool{}
	for _, p := range panels {
		for _, l := range p.lines {
			if !seen[l.name] {
				seen[l.name] = true
				names = append(names, l.name)
			}
		}
		if p.bandLow != p.bandHigh && !seen[aws] {
			seen[aws] = true
			names = append(names, aws)
		}
	}
	return names
}

const aws = "AWS's published range"

func (k key) text() draw.TextStyle {
	style := plot.New().X.Label.TextStyle
	style.Font.Variant, style.Font.Size, style.Color = "Sans", vg.Points(10), ink
	style.XAlign, style.YAlign = draw.XLeft, draw.YCenter
	return style
}

func label(name string) string {
	if l, ok := looks[name]; ok {
		return l.label
	}
	return name
}

// place calls put for every entry, row by row, and returns the number of rows.
func (k key) place(width vg.Length, put func(name string, row int, x vg.Length)) int {
	style, row, x := k.text(), 0, vg.Length(14)
	for _, name := range k {
		// A fifth more, for the reader's font may be wider than ours.
		entry := 26 + 1.2*style.Width(label(name)) + 12
		if x+entry > width && x > 14 {
			row, x = row+1, 14
		}
		put(name, row, x)
		x += entry
	}
	return row + 1
}

func (k key) rows(width vg.Length) int {
	return k.place(width, func(string, int, vg.Length) {})
}

func (k key) draw(c draw.Canvas) {
	style := k.text()
	k.place(c.Max.X-c.Min.X, func(name string, row int, x vg.Length) {
		y := c.Max.Y - vg.Length(legendRow*row) - legendRow/2
		from, to := vg.Point{X: c.Min.X + x, Y: y}, vg.Point{X: c.Min.X + x + 20, Y: y}
		if l, ok := looks[name]; ok {
			c.StrokeLines(draw.LineStyle{Color: l.color, Width: vg.Points(2.2), Dashes: l.dashes}, []vg.Point{from, to})
		} else {
			c.FillPolygon(shade, []vg.Point{
				{X: from.X, Y: y - 5},
				{X: to.X, Y: y - 5},
				{X: to.X, Y: y + 5},
				{X: from.X, Y: y + 5},
			})
		}
		c.FillText(style, vg.Point{X: to.X + 6, Y: y}, label(name))
	})
}
