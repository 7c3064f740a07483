package sim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
)

// recorded simulates a workload and returns what a bench would have recorded.
func recorded(t *testing.T, w *Workload, requests int) []Record {
	t.Helper()
	if err := w.Validate(); err != nil {
		t.Fatal(err)
	}
	var records []Record
	_, err := Run{
		Workload: w, Size: w.Sizes[0], Strategy: dataplane.StrategyRandom, Seed: 11, Requests: requests,
		observe: func(r Record) { records = append(records, r) },
	}.Simulate()
	if err != nil {
		t.Fatal(err)
	}
	// As read from a file, ordered by start.
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	for _, r := range records {
		if err := encoder.Encode(map[string]any{"start_seconds": r.Start, "latency_seconds": r.Latency, "instance": r.Instance, "status": 200}); err != nil {
			t.Fatal(err)
		}
	}
	records, err = ReadRecords(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestCalibrationFindsTheModelThatMadeTheRecord(t *testing.T) {
	for _, test := range []struct {
		worker  Worker
		latency Distribution
		load    Load
		users   int
	}{
		{Worker{Contention: 0.38}, Distribution{Kind: Lognormal, Mean: 2.7, Sigma: 0.8}, Load{}, 20},
		{Worker{Concurrency: 3, Contention: 0.2}, Distribution{Kind: Lognormal, Mean: 0.5, Sigma: 0.4}, Load{}, 20},
		{Worker{Concurrency: 1}, Distribution{Kind: Exponential, Mean: 0.1}, Load{Poisson: 7}, 0},
		{Worker{}, Distribution{Kind: Lognormal, Mean: 1, Sigma: 0.3}, Load{Poisson: 2}, 0},
	} {
		w := &Workload{
			Name: "truth", Sizes: []Size{{Instances: 5, Users: test.users}}, Load: test.load,
			Worker: test.worker, Requests: []Request{{Latency: test.latency}},
		}
		fit, err := Calibrate(recorded(t, w, 6000), 1)
		if err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("%+v %+v: %+v", test.worker, test.latency, *fit)
		if fit.Concurrency != test.worker.Concurrency {
			t.Errorf("slots: %s", what)
		}
		if math.Abs(fit.Contention-test.worker.Contention) > 0.03 {
			t.Errorf("contention: %s", what)
		}
		low, high := fit.ContentionLow, fit.ContentionHigh
		if truth := test.worker.Contention; truth < low-0.01 || truth > high+0.01 || fit.Concurrency != 1 && high-low > 0.1 {
			t.Errorf("contention within %v and %v: %s", low, high, what)
		}
		if fit.Distribution != test.latency.Kind || math.Abs(fit.MeanSeconds/float64(test.latency.Mean)-1) > 0.05 || math.Abs(fit.Sigma-test.latency.Sigma) > 0.03 {
			t.Errorf("distribution: %s", what)
		}
		if fit.KS > 0.03 || !strings.HasPrefix(fit.Verdict, "a good fit") {
			t.Errorf("fit: %s", what)
		}
	}
}

func TestCalibrationSaysHowWellTheContentionIsKnown(t *testing.T) {
	alone, bursts := new(strings.Builder), new(strings.Builder)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 100 {
		fmt.Fprintf(alone, "%d,%g,i-1\n", 10*i, math.Exp(math.Sin(float64(7*i))))
	}
	// Four requests at once to each of 20 instances, contention 0.4.
	for instance := range 20 {
		works := []float64{rng.ExpFloat64(), rng.ExpFloat64(), rng.ExpFloat64(), rng.ExpFloat64()}
		slices.Sort(works)
		var lines []string
		now, attained := 0.0, 0.0
		for i, work := range works {
			now += (work - attained) * (1 + 0.4*float64(len(works)-i-1))
			attained = work
			lines = append(lines, fmt.Sprintf("0,%g,i-%d\n", now, instance))
		}
		rng.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		bursts.WriteString(strings.Join(lines, ""))
	}
	for want, text := range map[string]*strings.Builder{"not known from this record": alone, "with 95 % confidence": bursts} {
		records, err := ReadRecords(strings.NewReader("start_seconds,latency_seconds,instance\n" + text.String()))
		if err != nil {
			t.Fatal(err)
		}
		fit, err := Calibrate(records, 1)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := fit.Print(&out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%v, want %q in\n%s", err, want, &out)
		}
		if fit.ContentionLow > 0.4 || fit.ContentionHigh < 0.4 || fit.ContentionHigh-fit.ContentionLow < 0.2 {
			t.Errorf("a contention of 0.4 is taken to be within %v and %v", fit.ContentionLow, fit.ContentionHigh)
		}
	}
}

// Without timings captured data has arrivals only.
func TestCapturedDataIsARecord(t *testing.T) {
	const line = `{"captureData":{"endpointInput":{"data":"x","encoding":"CSV"}},"eventMetadata":{"eventId":"e","inferenceTime":"2026-01-02T03:04:05Z"},"eventVersion":"0"`
	records, err := ReadRecords(strings.NewReader(line + `,"sagelocal":{"start_seconds":1767323045.25,"latency_seconds":0.5,"instance":"i-1"}}` + "\n" + line + "}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Record{{Start: 1767323045, Run: "/0"}, {Start: 1767323045.25, Latency: 0.5, Instance: "/0/i-1", Run: "/0"}}
	if !slices.Equal(records, want) {
		t.Errorf("got %+v, want %+v", records, want)
	}
	if _, err := Calibrate(slices.Repeat(records, 20), 1); err == nil || !strings.Contains(err.Error(), "timings") {
		t.Errorf("latencies that are not there: %v", err)
	}
}

func TestCalibrationSaysWhenNoModelFits(t *testing.T) {
	w := &Workload{
		Name: "bimodal", Sizes: []Size{{Instances: 3, Users: 6}},
		Requests: []Request{{Weight: 1, Latency: Distribution{Mean: 0.1}}, {Weight: 1, Latency: Distribution{Mean: 10}}},
	}
	fit, err := Calibrate(recorded(t, w, 3000), 1)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(fit.Verdict, "a good fit") || fit.Workload().Requests[0].Latency.Kind != Empirical {
		t.Errorf("two lengths of request are %s, with work %s", fit.Verdict, fit.Workload().Requests[0].Latency.Kind)
	}
}

func TestCalibratedWorkloadCanBeReadAgain(t *testing.T) {
	fit, err := Calibrate(recorded(t, builtinWorkload(t, "codegen2-7b-g5.24xlarge"), 500), 1)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := fit.Print(&text); err != nil {
		t.Fatal(err)
	}
	w, err := Parse([]byte(text.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text.String())
	}
	if w.Worker != fit.Workload().Worker {
		t.Errorf("read %+v, printed %+v", w.Worker, fit.Workload().Worker)
	}
}

func TestCalibrationByConcurrencyAlone(t *testing.T) {
	var text strings.Builder
	text.WriteString("start_seconds,latency_seconds,concurrency\n")
	for i := range 1000 {
		n := i%5 + 1
		work := math.Exp(0.3 * math.Sin(float64(7*i)))
		fmt.Fprintf(&text, "%d,%g,%d\n", i, work*(1+0.25*float64(n-1)), n)
	}
	records, err := ReadRecords(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	fit, err := Calibrate(records, 1)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(fit.Contention-0.25) > 0.02 {
		t.Errorf("contention is %v, want 0.25", fit.Contention)
	}
}

func TestWhatIsWrongWithRecordsIsTold(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "empty",
		"latency_seconds\n1\n":             "line 1",
		"start_seconds\n1\nx\n":            "line 3",
		"{\"start_seconds\":1}\n{\"a\":1}": "line 2: start_seconds",
		"{\"start_seconds\":1}\n{":         "line 2",
		"{\"start_seconds\":1,\"latency_seconds\":-1}": "line 1: latency_seconds",
		"{\"start_seconds\":1,\"status\":500}":         "no record",
		"start_seconds,latency_seconds\n1,1\n,1\n":     "line 3: start_seconds",
	} {
		_, err := ReadRecords(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestStartsTooLargeToHoldALatencyAreRefused(t *testing.T) {
	var records []Record
	for i := range 100 {
		records = append(records, Record{Start: 1.7e18 + float64(i)*1e9, Latency: 0.1, Instance: "i-1"})
	}
	if _, err := Calibrate(records, 1); err == nil || !strings.Contains(err.Error(), "start_seconds") {
		t.Errorf("nanoseconds since 1970 taken as seconds: %v", err)
	}
}

func TestCalibrationKnowsConstantWork(t *testing.T) {
	w := &Workload{
		Name: "constant", Sizes: []Size{{Instances: 3, Users: 12}}, Worker: Worker{Concurrency: 2, Contention: 0.5},
		Requests: []Request{{Latency: Distribution{Mean: 0.2}}},
	}
	fit, err := Calibrate(recorded(t, w, 2000), 1)
	if err != nil {
		t.Fatal(err)
	}
	got := fit.Workload().Requests[0].Latency
	if got.Kind != Constant || math.Abs(float64(got.Mean)-0.2) > 1e-3 || fit.KS != 0 || !strings.HasPrefix(fit.Verdict, "a good fit") {
		t.Errorf("constant work of 0.2 s was found to be %+v, %s", got, fit.Verdict)
	}
}

func TestRunsInOneFileAreKeptApart(t *testing.T) {
	records, err := ReadRecords(strings.NewReader(`{"start_seconds":0,"latency_seconds":2,"wait_seconds":0.5,"instance":"i-1","status":200,"strategy":"RANDOM","repetition":1}
{"start_seconds":0,"latency_seconds":2,"instance":"i-1","status":200,"strategy":"RANDOM","repetition":2}
{"start_seconds":0,"latency_seconds":2,"status":0,"error":"timeout","strategy":"RANDOM","repetition":2}
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 2 || records[0].Instance == records[1].Instance {
		t.Errorf("read %+v", records)
	}
	if r := records[1]; r.Start != 0.5 || r.Latency != 1.5 {
		t.Errorf("the wait before it was sent counts as latency: %+v", r)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add("start_seconds,latency_seconds,instance\n0,1,a\n")
	f.Add(`{"start_seconds":1,"latency_seconds":2,"concurrency":3,"status":200}`)
	f.Fuzz(func(t *testing.T, text string) {
		records, err := ReadRecords(strings.NewReader(text))
		if err != nil {
			return
		}
		for range minRecords { // enough of them to fit
			records = append(records, records[0])
		}
		if len(records) < 200 {
			_, _ = Calibrate(records, 1)
		}
	})
}
