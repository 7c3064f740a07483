package simulated

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sagelocal/sagelocal/dataplane"
)

func TestConfigIsReadFromYAML(t *testing.T) {
	const text = `
concurrency: 4
queue: 50
latency: {distribution: lognormal, mean: 150ms, sigma: 0.4}
contention: 0.35
startup: 20s
failure_rate: 0.01
measured_on: ml.g5.xlarge
answer:
  template: {text: "{{.N}}", content_type: text/plain}
`
	want := Config{
		Concurrency: 4, Queue: 50, Contention: 0.35, Startup: 20 * time.Second, FailureRate: 0.01, MeasuredOn: "ml.g5.xlarge",
		Latency: Latency{Distribution: Lognormal, Mean: 150 * time.Millisecond, Sigma: 0.4},
		Answer:  Answer{Template: &Template{Text: "{{.N}}", ContentType: "text/plain"}},
	}
	got := decode(t, text)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestAnswerIsEchoOrAMapping(t *testing.T) {
	for text, want := range map[string]Answer{
		"answer: echo\n":        {},
		"answer: \"echo\"\n":    {},
		"answer: {}\n":          {},
		"concurrency: 1\n":      {},
		"answer: {fixed: {}}\n": {Fixed: &Fixed{}},
		"answer:\n  fixed:\n    status: 404\n    content_type: text/plain\n    custom_attributes: a=b\n    body: |\n      no\n": {
			Fixed: &Fixed{Status: 404, ContentType: "text/plain", CustomAttributes: "a=b", Body: "no\n"},
		},
	} {
		if got := decode(t, text).Answer; !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func decode(t *testing.T, text string) Config {
	t.Helper()
	var c Config
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict()); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return c
}

func TestWhatYAMLCannotMeanNamesItsLine(t *testing.T) {
	for text, want := range map[string][]string{
		"concurrency: 1\nlatncy: {mean: 1s}\n":                 {"2:1", "latncy"},
		"concurrency: 1\nlatency:\n  median: 1s\n":             {"3:3", "median"},
		"concurrency: 1\nanswer:\n  fixed:\n    stauts: 200\n": {"4:5", "stauts"},
		"concurrency: 1\nanswer:\n  fxed: {}\n":                {"3:3", "fxed"},
		"concurrency: 1\nanswer: ecko\n":                       {"2:9", "string"},
		"concurrency: many\n":                                  {"1:14"},
		"startup: soon\n":                                      {"soon"},
	} {
		var c Config
		err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict())
		if err == nil {
			t.Errorf("%q was read as %+v", text, c)
			continue
		}
		for _, part := range want {
			if !strings.Contains(yaml.FormatError(err, false, true), part) {
				t.Errorf("%q: %v does not say %q", text, err, part)
			}
		}
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	answer := func(f Fixed) Config { return Config{Answer: Answer{Fixed: &f}} }
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{Concurrency: -1}, "concurrency -1"},
		{Config{Concurrency: maxConcurrency + 1}, "concurrency 1000001"},
		{Config{Queue: -1}, "queue -1"},
		{Config{Queue: maxQueue + 1}, "queue 10001"},
		{Config{Contention: -0.1}, "contention -0.1"},
		{Config{Contention: math.NaN()}, "contention NaN"},
		{Config{Startup: -1}, "startup -1ns"},
		{Config{FailureRate: 1.1}, "failure_rate 1.1"},
		{Config{FailureRate: math.NaN()}, "failure_rate NaN"},
		{Config{Latency: Latency{Distribution: "pareto"}}, `latency: distribution "pareto" is not one of constant, exponential, lognormal`},
		{Config{Latency: Latency{Mean: -1}}, "latency: mean -1ns"},
		{Config{Latency: Latency{Mean: 25 * time.Hour}}, "latency: mean 25h"},
		{Config{Latency: Latency{Distribution: Lognormal, Sigma: -1}}, "latency: sigma -1"},
		{Config{Latency: Latency{Distribution: Exponential, Sigma: 1}}, "latency: sigma belongs to distribution lognormal"},
		{Config{Answer: Answer{Fixed: &Fixed{}, Template: &Template{}}}, "answer: fixed, template and tokens exclude each other"},
		{Config{Answer: Answer{Template: &Template{Text: "{{.Body"}}}, "answer: template: "},
		{Config{Answer: Answer{Template: &Template{ContentType: "a\nb"}}}, "answer: template: content_type is not printable ASCII"},
		{answer(Fixed{Status: 101}), "answer: fixed: status 101"},
		{answer(Fixed{ContentType: "a\r\nSet-Cookie: b"}), "answer: fixed: content_type is not printable ASCII"},
		{answer(Fixed{CustomAttributes: strings.Repeat("a", 1025)}), "answer: fixed: custom_attributes is longer than 1024"},
		{answer(Fixed{Body: strings.Repeat("a", dataplane.MaxAnswer+1)}), "answer: fixed: body is longer"},
	} {
		err := test.cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
	if err := new(Config).Validate(); err != nil {
		t.Errorf("zero config: %v", err)
	}
}
