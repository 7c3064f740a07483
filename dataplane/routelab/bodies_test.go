package routelab

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPrefixesAreSharedAndSuffixesAreNot(t *testing.T) {
	bodies, err := Prefixes{Count: 3, Bytes: 40, SuffixBytes: 20, ContentType: "text/plain"}.Bodies(1)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	prefixes, whole := map[string]int{}, map[string]bool{}
	for range 3000 {
		r := bodies(rng)
		if len(r.Body) != 60 || r.ContentType != "text/plain" {
			t.Fatalf("body of %d bytes, %s", len(r.Body), r.ContentType)
		}
		prefixes[string(r.Body[:40])]++
		whole[string(r.Body)] = true
	}
	if len(prefixes) != 3 || len(whole) != 3000 {
		t.Errorf("%d prefixes and %d bodies, want 3 and 3000", len(prefixes), len(whole))
	}
	for p, n := range prefixes {
		if n < 900 || n > 1100 {
			t.Errorf("%q drawn %d times of 3000", p, n)
		}
	}
}

func TestSkewPrefersFirstPrefixes(t *testing.T) {
	bodies, err := Prefixes{Count: 2, Bytes: 8, Skew: 1}.Bodies(1)
	if err != nil {
		t.Fatal(err)
	}
	rng, counts := rand.New(rand.NewPCG(1, 1)), map[string]int{}
	for range 3000 {
		counts[string(bodies(rng).Body)]++
	}
	var most int
	for _, n := range counts {
		most = max(most, n)
	}
	if most < 1900 || most > 2100 {
		t.Errorf("the first prefix was drawn %d times of 3000, want two thirds", most)
	}
}

func TestPrefixesRefuseWhatDoesNotFit(t *testing.T) {
	for _, p := range []Prefixes{{}, {Count: 1}, {Count: 1, Bytes: 1, SuffixBytes: -1}, {Count: 1 << 20, Bytes: 1 << 20}, {Count: 1, Bytes: 1, Skew: -1}} {
		if _, err := p.Bodies(1); err == nil {
			t.Errorf("%+v was accepted", p)
		}
	}
}

func TestReadTraceSortsAndKeepsBodies(t *testing.T) {
	got, err := ReadTrace(strings.NewReader(`{"at_seconds": 2, "body": {"a": 1}}

{"at_seconds": 0.5, "body": "x,y", "content_type": "text/csv"}
{"at_seconds": 1}
`), "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	want := []Arrival{
		{500 * time.Millisecond, Request{[]byte("x,y"), "text/csv"}},
		{time.Second, Request{nil, "text/plain"}},
		{2 * time.Second, Request{[]byte(`{"a": 1}`), "application/json"}},
	}
	if !slices.EqualFunc(got, want, func(a, b Arrival) bool {
		return a.At == b.At && string(a.Request.Body) == string(b.Request.Body) && a.Request.ContentType == b.Request.ContentType
	}) {
		t.Errorf("got %+v", got)
	}
	filled := slices.Collect(Trace(got)(rand.New(rand.NewPCG(1, 1)), anyBody))
	if len(filled) != 3 || string(filled[1].Request.Body) != "x" || string(filled[0].Request.Body) != "x,y" {
		t.Errorf("replayed %+v", filled)
	}
}

// AWS's captured data has times of whole seconds.
func TestReadTraceSpreadsCapturedRequestsOverTheirSecond(t *testing.T) {
	line := func(data, encoding, at, more string) string {
		return `{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT","data":"` + data + `","encoding":"` + encoding +
			`"},"endpointOutput":{"mode":"OUTPUT","data":"at_seconds","encoding":"CSV"}},"eventMetadata":{"eventId":"e","inferenceTime":"` + at +
			`"},"eventVersion":"0"` + more + "}\n"
	}
	const second, third = "2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"
	timing := func(start string) string {
		return `,"sagelocal":{"start_seconds":` + start + `,"latency_seconds":0.5,"instance":"i-1"}`
	}
	for text, want := range map[string][]Arrival{
		line("3,4", "CSV", third, "") + line("1", "CSV", second, "") + line("AP8=", "BASE64", second, ""): {
			{0, Request{[]byte("1"), "text/csv"}}, {500 * time.Millisecond, Request{[]byte("\x00\xff"), "text/csv"}}, {1250 * time.Millisecond, Request{[]byte("3,4"), "text/csv"}},
		},
		line("b", "CSV", second, timing("1767323045.75")) + line("a", "CSV", second, timing("1767323045.5")): {
			{0, Request{[]byte("a"), "text/csv"}}, {250 * time.Millisecond, Request{[]byte("b"), "text/csv"}},
		},
	} {
		got, err := ReadTrace(strings.NewReader(text), "text/plain")
		if err != nil || !slices.EqualFunc(got, want, func(a, b Arrival) bool {
			return a.At == b.At && string(a.Request.Body) == string(b.Request.Body) && a.Request.ContentType == b.Request.ContentType
		}) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
}

func TestReadTraceNamesTheLine(t *testing.T) {
	for trace, want := range map[string]string{
		"":                                  "no arrivals",
		"{\"at_seconds\":1}\nx":             "line 2",
		`{"body":"x"}`:                      "at_seconds is missing",
		`{"at_seconds":-1}`:                 "negative",
		`{"at_seconds":1,"bdy":"x"}`:        "bdy",
		`{"at_seconds":1} {"at_seconds":1}`: "more than one",
		`{"at_seconds":"1"}`:                "line 1",
		`[1]`:                               "type routelab.traceLine",

		`{"captureData":{}}`: "inferenceTime",
		`{"captureData":{},"eventMetadata":{"inferenceTime":"2026-01-02T03:04:05Z"}}`:                        "CaptureOptions",
		`{"captureData":{},"sagelocal":{"start_seconds":1}}` + "\n" + `{"at_seconds":1}`:                     "among other lines",
		`{"captureData":{"endpointInput":{"data":"?","encoding":"BASE64"}},"sagelocal":{"start_seconds":1}}`: "illegal base64",
	} {
		if _, err := ReadTrace(strings.NewReader(trace), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", trace, err, want)
		}
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add(`{"at_seconds": 2, "body": {"a": 1}}`)
	f.Add(`{"captureData":{"endpointInput":{"observedContentType":"text/csv","data":"AA==","encoding":"BASE64"}},"eventMetadata":{"inferenceTime":"2026-01-02T03:04:05Z"}}`)
	f.Add("{\"at_seconds\":1e300,\"body\":\"\\u0000\"}\n{\"at_seconds\":0}")
	f.Fuzz(func(t *testing.T, text string) {
		arrivals, err := ReadTrace(strings.NewReader(text), "text/plain")
		if err != nil {
			return
		}
		if len(arrivals) == 0 || !slices.IsSortedFunc(arrivals, func(a, b Arrival) int { return int(min(max(a.At-b.At, -1), 1)) }) {
			t.Errorf("%d arrivals out of order", len(arrivals))
		}
		for _, a := range arrivals {
			if a.At < 0 || a.Request.ContentType == "" {
				t.Errorf("arrival %+v", a)
			}
		}
	})
}
