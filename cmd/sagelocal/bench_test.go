package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"

	"github.com/sagelocal/sagelocal/cmd/internal/daemon"
	"github.com/sagelocal/sagelocal/dataplane/routelab"
)

const benchConfig = `images:
  - image: "*llm*"
    simulated:
      concurrency: 4
      latency: {distribution: lognormal, mean: 4ms, sigma: 0.4}
      contention: 0.35
`

// startDaemon serves simulated workers and returns where.
func startDaemon(t *testing.T) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "sagelocal.yaml")
	if err := os.WriteFile(config, []byte(benchConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := daemon.New(daemon.Options{
		Listen: "127.0.0.1:0", InMemory: true, Config: config, Seed: 1, TimeScale: 60,
		Account: defaultBenchAccount, Region: defaultBenchRegion, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
		<-served
	})
	return d.URL()
}

// plainEnvironment keeps the machine's AWS settings out of a test.
func plainEnvironment(t *testing.T) {
	t.Helper()
	empty := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": empty, "AWS_SHARED_CREDENTIALS_FILE": empty, "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "",
	} {
		t.Setenv(name, value)
	}
}

// runBench executes a command line as main does.
func runBench(ctx context.Context, stderr io.Writer, args ...string) (stdout string, err error) {
	var out bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(stderr)
	err = cmd.ExecuteContext(ctx)
	return out.String(), err
}

// leftovers are the names of everything that exists at the daemon.
func leftovers(t *testing.T, url string) (names []string) {
	t.Helper()
	c := sagemaker.New(sagemaker.Options{
		Region: defaultBenchRegion, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider(defaultBenchAccount, "x", ""),
	})
	endpoints, err := c.ListEndpoints(t.Context(), &sagemaker.ListEndpointsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints.Endpoints {
		names = append(names, "endpoint "+aws.ToString(e.EndpointName))
	}
	configs, err := c.ListEndpointConfigs(t.Context(), &sagemaker.ListEndpointConfigsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range configs.EndpointConfigs {
		names = append(names, "configuration "+aws.ToString(e.EndpointConfigName))
	}
	models, err := c.ListModels(t.Context(), &sagemaker.ListModelsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range models.Models {
		names = append(names, "model "+aws.ToString(e.ModelName))
	}
	return names
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// number reads a member that must be a positive number.
func positive(t *testing.T, of map[string]any, name string) float64 {
	t.Helper()
	v, ok := of[name].(float64)
	if !ok || v <= 0 {
		t.Errorf("%s is %v", name, of[name])
	}
	return v
}

func TestBenchComparesStrategiesAndDeletesWhatItMade(t *testing.T) {
	plainEnvironment(t)
	url, dir := startDaemon(t), t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	var stderr bytes.Buffer
	stdout, err := runBench(t.Context(), &stderr, "bench", "--endpoint-url", url,
		"--compare", "RANDOM,LEAST_OUTSTANDING_REQUESTS,PREFIX_AWARE", "--instances", "3", "--users", "6", "--prefixes", "20", "--prefix-bytes", "1024",
		"--repetitions", "2", "--warm-up", "50ms", "--requests", "100", "--duration", "1m",
		"--json", file("r.json"), "--csv", file("r.csv"), "--html", file("r.html"), "--samples", file("s.jsonl"))
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	if names := leftovers(t, url); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if !strings.Contains(stderr.String(), url) {
		t.Errorf("nobody said which URL is driven:\n%s", &stderr)
	}
	for _, want := range []string{"LEAST_OUTSTANDING_REQUESTS", "P99.9", "against RANDOM", "2 repetitions"} {
		if !strings.Contains(strings.ToUpper(stdout), strings.ToUpper(want)) {
			t.Errorf("the table lacks %q:\n%s", want, stdout)
		}
	}

	var report struct {
		Strategies []map[string]any
		Runs       []map[string]any
		Verdict    string
	}
	if err := json.Unmarshal([]byte(readFile(t, file("r.json"))), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Strategies) != 3 || len(report.Runs) != 6 || report.Verdict == "" {
		t.Fatalf("%d strategies, %d runs, verdict %q", len(report.Strategies), len(report.Runs), report.Verdict)
	}
	for _, s := range report.Strategies {
		if s["requests"] != 200.0 || s["instances"] != 3.0 || s["not_sent"] != 0.0 {
			t.Errorf("%v: %v requests on %v instances", s["strategy"], s["requests"], s["instances"])
		}
		if p50, p99 := positive(t, s, "p50_seconds"), positive(t, s, "p99_seconds"); p50 < 0.001 || p99 < p50 {
			t.Errorf("%v: P50 %v, P99 %v", s["strategy"], p50, p99)
		}
		rate := positive(t, s, "throughput_per_second")
		if each := positive(t, s, "throughput_per_instance_per_minute"); math.Abs(each-rate*20) > 1e-6*each {
			t.Errorf("%v: %v a second on 3 instances is %v per instance and minute", s["strategy"], rate, each)
		}
		positive(t, s, "requests_max_to_mean")
		positive(t, s, "in_flight_max_to_mean")
	}

	rows, err := csv.NewReader(strings.NewReader(readFile(t, file("r.csv")))).ReadAll()
	if err != nil || len(rows) != 7 {
		t.Errorf("%d rows of CSV, %v", len(rows), err)
	}
	if html := readFile(t, file("r.html")); !strings.Contains(html, "</html>") || !strings.Contains(html, "Change against RANDOM") {
		t.Error("the page is not complete")
	}
	checkSamples(t, readFile(t, file("s.jsonl")))
}

func checkSamples(t *testing.T, text string) {
	t.Helper()
	counts, instances := map[string]int{}, map[string]bool{}
	for line := range strings.Lines(text) {
		var s routelab.Sample
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if s.StartSeconds < 0 || s.LatencySeconds <= 0 || s.Status != 200 || s.Repetition < 1 || s.Repetition > 2 {
			t.Errorf("sample %s", line)
		}
		counts[s.Strategy]++
		instances[s.Instance] = true
	}
	for _, strategy := range []string{"RANDOM", "LEAST_OUTSTANDING_REQUESTS", "PREFIX_AWARE"} {
		if counts[strategy] != 200 {
			t.Errorf("%d samples of %s, want 200", counts[strategy], strategy)
		}
	}
	if len(instances) != 9 || instances[""] {
		t.Errorf("instances %v, want 3 of each endpoint", instances)
	}
}

// watched is a writer that calls at the first write that contains a text.
type watched struct {
	mu   sync.Mutex
	all  bytes.Buffer
	text string
	once sync.Once
	call func()
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(b)
	if strings.Contains(w.all.String(), w.text) {
		w.once.Do(w.call)
	}
	return len(b), nil
}

func TestInterruptedBenchReportsAndDeletes(t *testing.T) {
	plainEnvironment(t)
	url := startDaemon(t)
	for text, wantReport := range map[string]bool{"Creating": false, "[1/10]": true} {
		ctx, cancel := context.WithCancel(t.Context())
		stderr := &watched{text: text, call: cancel}
		stdout, err := runBench(ctx, stderr, "bench", "--endpoint-url", url, "--compare", "RANDOM,LEAST_OUTSTANDING_REQUESTS",
			"--instances", "2", "--warm-up", "0s", "--duration", "200ms")
		cancel()
		if err == nil {
			t.Errorf("at %q: no error tells of the interruption", text)
		}
		if got := strings.Contains(stdout, "Interrupted"); got != wantReport {
			t.Errorf("at %q: the report is %q", text, stdout)
		}
		if names := leftovers(t, url); len(names) > 0 {
			t.Errorf("at %q: left behind %v", text, names)
		}
	}
}

func TestBenchSaysWhatItCouldNotDelete(t *testing.T) {
	plainEnvironment(t)
	at, err := url.Parse(startDaemon(t))
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(at)
	guarded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "SageMaker.DeleteModel" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type": "AccessDeniedException", "message": "not you"}`)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer guarded.Close()
	_, err = runBench(t.Context(), io.Discard, "bench", "--endpoint-url", guarded.URL, "--compare", "RANDOM", "--instances", "1",
		"--warm-up", "0s", "--requests", "4", "--repetitions", "1")
	if err == nil || !strings.Contains(err.Error(), "left behind") || !strings.Contains(err.Error(), "not you") {
		t.Errorf("error %v, want one that names the model left behind", err)
	}
	if names := leftovers(t, at.String()); len(names) != 1 || !strings.Contains(err.Error(), names[0]) {
		t.Errorf("left behind %v", names)
	}
}

// Any server that speaks the runtime's protocol can be measured, without a control
// plane, an instance header or a fleet.
func TestBenchMeasuresAForeignRuntime(t *testing.T) {
	plainEnvironment(t)
	var n atomic.Int64
	var credential atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/endpoints/theirs/invocations" {
			http.NotFound(w, r)
			return
		}
		credential.Store(r.Header.Get("Authorization"))
		if n.Add(1)%5 == 0 {
			w.Header().Set("x-amzn-ErrorType", "ThrottlingException")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"message": "slow down"}`)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	var stderr bytes.Buffer
	stdout, err := runBench(t.Context(), &stderr, "bench", "--endpoint-url", server.URL, "--endpoint", "theirs", "--rate", "500", "--arrivals", "constant",
		"--warm-up", "0s", "--duration", "1s", "--json", "-")
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	var report struct {
		Open       bool `json:"open_loop"`
		Strategies []struct {
			Strategy string
			Requests int
			NotSent  int `json:"not_sent"`
			Errors   map[string]int
			PerEach  *float64 `json:"throughput_per_instance_per_minute"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	s := report.Strategies[0]
	if total := s.Requests + s.Errors["ThrottlingException"] + s.NotSent; total != 499 || !report.Open {
		t.Errorf("%d arrivals in all, want 499: %+v", total, s)
	}
	// The first request tries the address and is not counted. A slow machine may not send
	// every arrival; of what it sent, one in five is throttled.
	if sent := n.Load(); s.Requests == 0 || sent != 1+int64(s.Requests+s.Errors["ThrottlingException"]) ||
		int64(s.Errors["ThrottlingException"]) != sent/5 || len(s.Errors) != 1 {
		t.Errorf("%d sent, %d answered, errors %v; want every fifth a ThrottlingException, none tried again", sent, s.Requests, s.Errors)
	}
	if s.PerEach != nil {
		t.Errorf("%v requests per instance, of which nobody knows how many there are", *s.PerEach)
	}
	if got, _ := credential.Load().(string); !strings.Contains(got, "Credential="+defaultBenchAccount+"/") {
		t.Errorf("signed with %q", got)
	}
	if !strings.Contains(stderr.String(), "ThrottlingException") {
		t.Errorf("the table says nothing of the errors:\n%s", &stderr)
	}
}

func TestBenchReplaysATrace(t *testing.T) {
	plainEnvironment(t)
	var mu sync.Mutex
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		bodies = append(bodies, r.Header.Get("Content-Type")+" "+string(body))
		mu.Unlock()
	}))
	defer server.Close()
	trace := filepath.Join(t.TempDir(), "trace.jsonl")
	if err := os.WriteFile(trace, []byte(`{"at_seconds": 0, "body": "1,2", "content_type": "text/csv"}
{"at_seconds": 0.2, "body": {"x": 1}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := runBench(t.Context(), io.Discard, "bench", "--endpoint-url", server.URL, "--endpoint", "e", "--trace", trace); err != nil {
		t.Fatal(err)
	}
	// The first request is sent once before, to see whether the endpoint answers.
	if got := strings.Join(bodies[len(bodies)-2:], "; "); got != `text/csv 1,2; application/json {"x": 1}` {
		t.Errorf("sent %q", got)
	}
}

func TestBenchRefusesWhatCannotBeMeasured(t *testing.T) {
	plainEnvironment(t)
	for args, want := range map[string]string{
		"":                                               "--endpoint",
		"--compare FASTEST":                              "FASTEST",
		"--compare RANDOM,RANDOM":                        "twice",
		"--compare RANDOM --endpoint e":                  "leave out",
		"--compare RANDOM --instances 0":                 "--instances",
		"--endpoint e --users 1 --rate 1":                "one of",
		"--endpoint e --body x --prefixes 1":             "one of",
		"--endpoint e --rate -1":                         "--rate",
		"--endpoint e --rate 1 --arrivals x":             "--arrivals",
		"--endpoint e --think x":                         "--think",
		"--endpoint e --trace /none":                     "--trace",
		"--endpoint e --body-dir /none":                  "--body-dir",
		"--endpoint e --endpoint-url ftp://h":            "--endpoint-url",
		"--endpoint e --json /none/r.json":               "/none/r.json",
		"--endpoint e --endpoint-url http://127.0.0.1:1": "does not answer",
	} {
		_, err := runBench(t.Context(), io.Discard, append([]string{"bench"}, strings.Fields(args)...)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bench %s: %v, want %q", args, err, want)
		}
	}
}

func TestControlURLIsAWSsForAWSsRuntime(t *testing.T) {
	for runtime, want := range map[string]string{
		"https://runtime.sagemaker.eu-west-1.amazonaws.com":      "https://api.sagemaker.eu-west-1.amazonaws.com",
		"https://runtime-fips.sagemaker.us-east-1.amazonaws.com": "https://api-fips.sagemaker.us-east-1.amazonaws.com",
		"http://127.0.0.1:7240/":                                 "http://127.0.0.1:7240",
	} {
		u, err := parseURL(runtime)
		if err != nil {
			t.Fatal(err)
		}
		if got := controlURL(u).String(); got != want {
			t.Errorf("%s: %s, want %s", runtime, got, want)
		}
	}
}
