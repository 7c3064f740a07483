package routelab

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fakeRun has latencies spread evenly up to the longest, in milliseconds.
func fakeRun(strategy string, repetition, requests int, longestMillis, perSecond float64) *Run {
	r := newRecorder(Run{Strategy: strategy, Repetition: repetition, Instances: 2}, nil).result()
	r.Started, r.Seconds = time.Unix(1_700_000_000, 0), 10
	r.Requests, r.completed = int64(requests), int64(perSecond*10)
	for i := range requests {
		_ = r.Latency.RecordValue(int64(longestMillis * 1e6 * float64(i+1) / float64(requests)))
		r.Answers.add(time.Duration(float64(i)/float64(requests)*10*float64(time.Second)), 1)
	}
	r.PerInstance["i-a"], r.PerInstance["i-b"] = int64(requests/2), int64(requests-requests/2)
	for i, id := range []string{"i-a", "i-b"} {
		s := new(Series)
		s.spread(time.Duration(i)*time.Second, 10*time.Second)
		r.InFlight[id] = s
	}
	return r
}

// fakeReport has as many repetitions as there are P99s of the strategy.
func fakeReport(setup Setup, p99s ...float64) *Report {
	var runs []*Run
	for i, ms := range p99s {
		runs = append(runs, fakeRun("RANDOM", i+1, 2000, 200+float64(i), 100), fakeRun("LEAST_OUTSTANDING_REQUESTS", i+1, 2000, ms, 115+float64(i)))
	}
	setup.Repetitions = len(p99s)
	return NewReport(setup, []string{"RANDOM", "LEAST_OUTSTANDING_REQUESTS"}, runs)
}

// failing is the report with 500 errors among the 8,000 requests of RANDOM.
func failing(r *Report) *Report {
	r.Runs[0].Errors["ModelError"] = 500
	return NewReport(r.Setup, []string{"RANDOM", "LEAST_OUTSTANDING_REQUESTS"}, r.Runs)
}

func TestVerdictSaysHowSureItIs(t *testing.T) {
	for name, c := range map[string]struct {
		report *Report
		want   string
	}{
		"sure":   {fakeReport(Setup{}, 150, 152, 149, 151), "LEAST_OUTSTANDING_REQUESTS lowers P99 by 25 % (95 % CI 24–27 %) and raises throughput by 16 % (95 % CI 14–19 %) against RANDOM; 4 repetitions, intervals widened to hold together."},
		"open":   {fakeReport(Setup{Open: true}, 300, 302, 299, 301), "LEAST_OUTSTANDING_REQUESTS raises P99 by 49 % (95 % CI 47–51 %) and raises throughput by 16 % (95 % CI 14–19 %) against RANDOM; 4 repetitions, intervals widened to hold together."},
		"unsure": {fakeReport(Setup{}, 100, 400, 150, 250), "LEAST_OUTSTANDING_REQUESTS has no effect on P99 that is sure (−2.3 %, 95 % CI −72 to +243 %) and raises throughput by 16 % (95 % CI 14–19 %) against RANDOM; 4 repetitions, intervals widened to hold together."},
		"once":   {fakeReport(Setup{}, 150), "LEAST_OUTSTANDING_REQUESTS measured a P99 25 % lower and a throughput 15 % higher against RANDOM in a single repetition, which may be chance; more --repetitions would tell."},
		"alone": {
			NewReport(Setup{Repetitions: 2}, []string{"iris"}, []*Run{fakeRun("iris", 1, 1000, 100, 50), fakeRun("iris", 2, 1000, 110, 50)}),
			"iris answers 50.0 requests a second with a P99 of 104 ms (95 % CI 41.1 ms to 167 ms); 2 repetitions.",
		},
		"failing": {failing(fakeReport(Setup{}, 150, 152, 149, 151)), "LEAST_OUTSTANDING_REQUESTS lowers P99 by 25 % (95 % CI 24–27 %) and raises throughput by 16 % (95 % CI 14–19 %) against RANDOM, but 5.9 % of the requests of one failed; 4 repetitions, intervals widened to hold together."},
		"nothing": {NewReport(Setup{Repetitions: 1}, []string{"iris"}, []*Run{fakeRun("iris", 1, 0, 1, 0)}), "No request was answered with success: there is nothing to judge."},
	} {
		if c.report.Verdict != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, c.report.Verdict, c.want)
		}
	}
}

func TestNotesTellWhatFailed(t *testing.T) {
	run := fakeRun("iris", 1, 900, 100, 90)
	run.Errors["ModelError"], run.Errors["timeout"] = 80, 20
	run.NotSent, run.LongestUnsentSeconds = 7, 1.5
	notes := strings.Join(NewReport(Setup{Repetitions: 2, Open: true}, []string{"iris"}, []*Run{run}).Notes, "\n")
	for _, want := range []string{"Interrupted", "10 % of the requests failed (ModelError 80, timeout 20)", "7 arrivals were never sent", "waited 1.50 s", "only 900 requests"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note says %q:\n%s", want, notes)
		}
	}
}

func TestInterruptedRepetitionCountsOnlyWhenThereIsNothingElse(t *testing.T) {
	cut := fakeRun("a", 2, 10, 900, 1)
	cut.Interrupted = true
	r := NewReport(Setup{Repetitions: 2}, []string{"a"}, []*Run{fakeRun("a", 1, 1000, 100, 50), cut})
	if !r.Interrupted || r.Strategies[0].Repetitions != 1 || len(r.Runs) != 2 {
		t.Errorf("interrupted %t, %d repetitions counted of %d runs; want true, 1, 2", r.Interrupted, r.Strategies[0].Repetitions, len(r.Runs))
	}
	if r := NewReport(Setup{Repetitions: 2}, []string{"a"}, []*Run{cut}); r.Strategies[0].Requests != 10 {
		t.Errorf("%d requests of the only run", r.Strategies[0].Requests)
	}
}

func TestJSONHasEveryMetricOfStrategiesAndRuns(t *testing.T) {
	text, err := json.Marshal(fakeReport(Setup{URL: "http://127.0.0.1:1"}, 150, 152))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		URL        string
		Verdict    string
		Strategies []map[string]any
		Runs       []map[string]any
		Changes    []map[string]any
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Strategies) != 2 || len(got.Runs) != 4 || len(got.Changes) != len(Metrics) || got.Verdict == "" || got.URL == "" {
		t.Fatalf("%d strategies, %d runs, %d changes, verdict %q, URL %q", len(got.Strategies), len(got.Runs), len(got.Changes), got.Verdict, got.URL)
	}
	for _, m := range Metrics {
		for _, of := range append(got.Strategies, got.Runs...) {
			if v, ok := of[m.Name].(float64); !ok || v < 0 {
				t.Errorf("%s is %v", m.Name, of[m.Name])
			}
		}
	}
}

func TestCSVHasARowForEveryRun(t *testing.T) {
	var b bytes.Buffer
	if err := fakeReport(Setup{}, 150, 152).WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 5 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, name := range rows[0] {
		if name == p99 {
			if v, err := strconv.ParseFloat(rows[2][i], 64); err != nil || !within(v, 0.1485) {
				t.Errorf("P99 of the second run is %s", rows[2][i])
			}
		}
	}
}

func TestTableLinesUp(t *testing.T) {
	var b bytes.Buffer
	if err := fakeReport(Setup{}, 150, 152).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	table, verdict, _ := strings.Cut(b.String(), "\n\n")
	width := 0
	for line := range strings.Lines(table) {
		n := len([]rune(strings.TrimSuffix(line, "\n")))
		if width == 0 {
			width = n
		}
		if n != width {
			t.Errorf("a line of %d characters, want %d: %s", n, width, line)
		}
	}
	for _, want := range []string{"P99.9", "throughput", "per instance", "requests CV", "errors"} {
		if !strings.Contains(table, "\n"+want) {
			t.Errorf("no row %s in\n%s", want, table)
		}
	}
	if !strings.HasPrefix(verdict, "LEAST_OUTSTANDING_REQUESTS lowers P99") {
		t.Errorf("verdict %s", verdict)
	}
}

func TestPageStandsAloneAndEscapes(t *testing.T) {
	const name = `<script>alert("x")</script>`
	r := NewReport(Setup{Tool: "test", Load: name, Repetitions: 1}, []string{name, "RANDOM"}, []*Run{fakeRun(name, 1, 2000, 100, 50), fakeRun("RANDOM", 1, 2000, 90, 50)})
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	html := b.String()
	if strings.Contains(html, name) {
		t.Error("a name is not escaped")
	}
	for _, loads := range []string{"src=", "href=", "@import", "url(", "fetch("} {
		if strings.Contains(html, loads) {
			t.Errorf("the page has %s", loads)
		}
	}
	for _, want := range []string{"P99.9", "In flight per instance", "Change against RANDOM", "uPlot", "Permission is hereby granted"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestPageSurvivesRunsWithoutAnswers(t *testing.T) {
	empty := fakeRun("a", 1, 0, 1, 0)
	empty.InFlight, empty.Seconds = nil, 0
	var b bytes.Buffer
	if err := NewReport(Setup{Repetitions: 1}, []string{"a", "b"}, []*Run{empty}).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	_, data, found := strings.Cut(b.String(), "<script>draw(")
	if !found || strings.Contains(data, "NaN") || strings.Contains(data, "Inf") || !strings.Contains(data, "null") {
		t.Errorf("data of the charts: %.300s", data)
	}
}

func TestManyInstancesAreDrawnAsQuantiles(t *testing.T) {
	run := fakeRun("a", 1, 2000, 100, 50)
	run.InFlight = map[string]*Series{}
	for i := range 101 {
		s := new(Series)
		for range i {
			s.spread(0, 10*time.Second)
		}
		run.InFlight[fmt.Sprint(i)] = s
	}
	plot := NewReport(Setup{Repetitions: 1}, []string{"a"}, []*Run{run}).charts().InFlight[0]
	if plot.Instances != 101 || len(plot.Y) != 5 {
		t.Fatalf("%d lines for %d instances", len(plot.Y), plot.Instances)
	}
	for i, want := range []float64{100, 75, 50, 25, 0} {
		if got := float64(plot.Y[i][3]); math.Abs(got-want) > 0.01 {
			t.Errorf("%s is %v, want %v", plot.Labels[i], got, want)
		}
	}
}
