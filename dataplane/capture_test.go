package dataplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// bucket keeps what is put into it, or does what fail says first.
type bucket struct {
	fail func(ctx context.Context) error

	mu      sync.Mutex
	keys    []string
	objects map[string]string
}

func (b *bucket) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	if b.fail != nil {
		if err := b.fail(ctx); err != nil {
			return nil, err
		}
	}
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := *in.Bucket + "/" + *in.Key
	if b.objects == nil {
		b.objects = map[string]string{}
	}
	b.keys, b.objects[key] = append(b.keys, key), string(body)
	return &s3.PutObjectOutput{}, nil
}

// lines are all records in the order in which they were written.
func (b *bucket) lines(t *testing.T) (all []CapturedLine) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range b.keys {
		for line := range strings.Lines(b.objects[key]) {
			var l CapturedLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			all = append(all, l)
		}
	}
	return all
}

func everything(percentage int) CaptureConfig {
	return CaptureConfig{Endpoint: "Iris", Percentage: percentage, Input: true, Output: true, Destination: "s3://data/capture/", CSV: []string{"text/csv"}}
}

// capturing is a pool whose requests are captured to a bucket.
func capturing(t *testing.T, config CaptureConfig, b *bucket, invoke func(context.Context, *Request, *Answer) error) (*Pool, *Capture) {
	t.Helper()
	c := (&Captures{S3: func(string) ObjectPutter { return b }}).NewCapture(config, 1)
	pool := poolOf(t, invoke)
	pool.SetTap(&Tap{Variant: "AllTraffic", Capture: c})
	return pool, c
}

func (p *Pool) mustInvoke(t *testing.T, req *Request) {
	t.Helper()
	if _, err := p.Invoke(t.Context(), req, new(Answer)); err != nil {
		t.Fatal(err)
	}
}

func TestCapturedLineIsAWSs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(bucket)
		pool, c := capturing(t, everything(100), b, func(_ context.Context, _ *Request, ans *Answer) error {
			ans.StatusCode, ans.ContentType, ans.Body = 200, "text/csv; charset=utf-8", []byte("0.5,<&>")
			return nil
		})
		pool.mustInvoke(t, &Request{ContentType: "text/csv", Body: []byte("5.1,\"a\"\n"), InferenceID: "i1", CustomAttributes: "trace=7"})
		c.Close(t.Context())
		if len(b.keys) != 1 {
			t.Fatalf("files %q", b.keys)
		}
		// synctest's clock begins at midnight of 2000-01-01.
		const uuid = `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
		if !regexp.MustCompile(`^data/capture/Iris/AllTraffic/2000/01/01/00/00-00-000-` + uuid + `\.jsonl$`).MatchString(b.keys[0]) {
			t.Errorf("key %s", b.keys[0])
		}
		want := `{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT","data":"5.1,\"a\"\n","encoding":"CSV"},` +
			`"endpointOutput":{"observedContentType":"text/csv; charset=utf-8","mode":"OUTPUT","data":"0.5,<&>","encoding":"CSV"}},` +
			`"eventMetadata":{"customAttributes":["trace=7"],"eventId":"UUID","inferenceId":"i1","inferenceTime":"2000-01-01T00:00:00Z"},"eventVersion":"0"}` + "\n"
		if got := regexp.MustCompile(uuid).ReplaceAllString(b.objects[b.keys[0]], "UUID"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// AWS's lines do not tell when exactly a request came, where it went and how long
// it took. A model of the worker cannot be fitted without.
func TestCapturedLineTellsTimingsWhereAskedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(bucket)
		c := (&Captures{S3: func(string) ObjectPutter { return b }, Timings: true}).NewCapture(everything(100), 1)
		pool := poolOf(t, func(_ context.Context, _ *Request, ans *Answer) error {
			time.Sleep(250 * time.Millisecond)
			ans.StatusCode = 200
			return nil
		})
		pool.SetTap(&Tap{Variant: "AllTraffic", Capture: c})
		time.Sleep(time.Millisecond)
		in, err := pool.Invoke(t.Context(), new(Request), new(Answer))
		if err != nil {
			t.Fatal(err)
		}
		c.Close(t.Context())
		// synctest's clock begins at midnight of 2000-01-01.
		lines := b.lines(t)
		want := CaptureTiming{Start: 946684800.001, Latency: 0.25, Instance: in.ID}
		if len(lines) != 1 || lines[0].Timing == nil || *lines[0].Timing != want || lines[0].CaptureData == nil {
			t.Errorf("got %s, want %+v", b.objects, want)
		}
	})
}

func TestCaptureEncodesByContentType(t *testing.T) {
	config := CaptureConfig{Input: true, CSV: []string{"text/csv", "text/plain"}, JSON: []string{"application/json"}}
	for _, test := range []struct{ contentType, data, encoding, want string }{
		{"text/csv", "1,2", "CSV", "1,2"},
		{"TEXT/Plain ; charset=utf-8", "1", "CSV", "1"},
		{"application/json", `{"a":1}`, "JSON", `{"a":1}`},
		{"application/jsonlines", "{}", "BASE64", "e30="},
		{"", "x", "BASE64", "eA=="},
		{"text/csv", "\xff", "BASE64", "/w=="}, // JSON cannot hold it as text
		{"text/csv", "", "CSV", ""},
	} {
		got := encoded(t, config, test.contentType, test.data)
		if got.Encoding != test.encoding || got.Data != test.want || got.ObservedContentType != test.contentType {
			t.Errorf("%q: got %+v", test.contentType, got)
		}
		if body, err := got.Bytes(); err != nil || string(body) != test.data {
			t.Errorf("%q: %+v is read as %q, %v", test.contentType, got, body, err)
		}
	}
	// Without CaptureContentTypeHeader everything is base64 (API_DataCaptureConfig).
	if got := encoded(t, CaptureConfig{Input: true}, "text/csv", "x"); got.Encoding != "BASE64" {
		t.Errorf("got %+v", got)
	}
}

// encoded is what is written of an input.
func encoded(t *testing.T, config CaptureConfig, contentType, data string) CapturedPayload {
	t.Helper()
	r := new(captured)
	r.fill([]byte(data), nil, &capturedTexts{contentType})
	line := (&Capture{config: config, shared: new(Captures)}).appendLine(nil, r)
	var l CapturedLine
	if err := json.Unmarshal(line, &l); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return *l.CaptureData.EndpointInput
}

func FuzzCapturedTextIsJSON(f *testing.F) {
	for _, s := range []string{"", "5.1,3.5", "a\"b\\c\n\r\t\x00\x1f\x7f", "é\u2028", "\xff", "<&>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got string
		line := appendText([]byte("x"), text)
		if err := json.Unmarshal(line[1:], &got); err != nil || got != strings.ToValidUTF8(string(text), "\uFFFD") && got != string(text) {
			t.Errorf("%q is written as %s, %v", text, line, err)
		}
		if bytes.ContainsRune(line, '\n') {
			t.Errorf("%q breaks the line", text)
		}
	})
}

func TestCaptureOptionsChooseTheSides(t *testing.T) {
	for _, test := range []struct{ input, output bool }{{true, false}, {false, true}, {true, true}} {
		synctest.Test(t, func(t *testing.T) {
			b, config := new(bucket), everything(100)
			config.Input, config.Output = test.input, test.output
			pool, c := capturing(t, config, b, succeed)
			pool.mustInvoke(t, &Request{Body: []byte("x")})
			c.Close(t.Context())
			l := b.lines(t)
			if len(l) != 1 || (l[0].CaptureData.EndpointInput != nil) != test.input || (l[0].CaptureData.EndpointOutput != nil) != test.output {
				t.Errorf("%+v: got %+v", test, l)
			}
		})
	}
}

func TestCaptureSamplesItsPercentage(t *testing.T) {
	const n = 4000
	for _, percentage := range []int{0, 20, 100} {
		synctest.Test(t, func(t *testing.T) {
			b := new(bucket)
			pool, c := capturing(t, everything(percentage), b, succeed)
			for range n {
				pool.mustInvoke(t, &Request{})
			}
			c.Close(t.Context())
			got := len(b.lines(t))
			if percentage != 20 && got != n*percentage/100 || percentage == 20 && (got < n*17/100 || got > n*23/100) {
				t.Errorf("%d %%: %d of %d captured", percentage, got, n)
			}
			if s := c.Status(); s.Written != int64(got) || s.Sampled != s.Written || s.Dropped+s.Waiting > 0 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func TestFailedRequestsAreNotCaptured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, status, fails := new(bucket), 500, error(nil)
		pool, c := capturing(t, everything(100), b, func(_ context.Context, _ *Request, ans *Answer) error {
			ans.StatusCode = status
			return fails
		})
		pool.mustInvoke(t, &Request{})
		status, fails = 200, ErrBroken
		if _, err := pool.Invoke(t.Context(), &Request{}, new(Answer)); !errors.Is(err, ErrBroken) {
			t.Error(err)
		}
		fails = nil
		pool.mustInvoke(t, &Request{})
		c.Close(t.Context())
		if got := b.lines(t); len(got) != 1 {
			t.Errorf("%d captured, want the one that succeeded", len(got))
		}
	})
}

func TestCapturedDataComesByHourAndInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(bucket)
		pool, c := capturing(t, everything(100), b, succeed)
		time.Sleep(time.Hour - 2*time.Second) // the bubble's clock
		for range 4 {
			pool.mustInvoke(t, &Request{})
			time.Sleep(time.Second)
		}
		time.Sleep(captureInterval - 5*time.Second)
		if n := c.Status().Files; n != 0 {
			t.Errorf("%d files before the interval is over", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(b.keys) != 2 || !strings.Contains(b.keys[0], "/00/59-58-000-") || !strings.Contains(b.keys[1], "/01/00-00-000-") {
			t.Errorf("files %q, want one of each hour", b.keys)
		}
		s := c.Status()
		if s.Written != 4 || s.Files != 2 || s.LastKey != b.keys[1] || s.LastWrite == nil {
			t.Errorf("got %+v", s)
		}
		time.Sleep(time.Hour)
		pool.mustInvoke(t, &Request{}) // the writer has ended, and begins again
		time.Sleep(2 * captureInterval)
		if got := len(b.lines(t)); got != 5 {
			t.Errorf("%d lines, want 5", got)
		}
		c.Close(t.Context())
	})
}

func TestStreamIsCapturedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(bucket)
		pool, c := capturing(t, everything(100), b, func(_ context.Context, _ *Request, ans *Answer) error {
			ans.StatusCode, ans.ContentType, ans.Body = 200, "text/csv", []byte("1,2")
			return nil
		})
		f, key := NewFleet(), Key{"123456789012", "us-east-1", "iris"}
		f.Publish(key, &Snapshot{Serving: true, Variants: []Variant{{Name: "AllTraffic", Weight: 1, Pool: pool}}}, 1)
		if err := f.InvokeStream(t.Context(), key, &Request{}, new(Route), discard{}); err != nil {
			t.Fatal(err)
		}
		c.Close(t.Context())
		if l := b.lines(t); len(l) != 1 || l[0].CaptureData.EndpointOutput.Data != "1,2" {
			t.Errorf("got %+v", l)
		}
	})
}

// What is streamed is kept until the stream ends, and so has bounds of its own. An
// answer that CaptureOptions leaves out needs no room.
func TestStreamsThatAreCapturedShareABound(t *testing.T) {
	for name, tc := range map[string]struct {
		output   bool
		size     int
		teed     int64 // by other streams
		captured int64
	}{
		"largest answer":         {true, MaxAnswer, 0, 1},
		"larger answer":          {true, MaxAnswer + 1, 0, 0},
		"no room":                {true, 3, maxTeedBytes - 2, 0},
		"just room":              {true, 3, maxTeedBytes - 3, 1},
		"large one, input only":  {false, MaxAnswer + 1, 0, 1},
		"no room and input only": {false, 3, maxTeedBytes, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			config := everything(100)
			config.Output = tc.output
			pool, c := capturing(t, config, new(bucket), func(_ context.Context, _ *Request, ans *Answer) error {
				ans.StatusCode, ans.Body = 200, make([]byte, tc.size)
				return nil
			})
			c.shared.teed.Store(tc.teed)
			f, key := NewFleet(), Key{"123456789012", "us-east-1", "iris"}
			f.Publish(key, &Snapshot{Serving: true, Variants: []Variant{{Name: "AllTraffic", Weight: 1, Pool: pool}}}, 1)
			if err := f.InvokeStream(t.Context(), key, &Request{}, new(Route), discard{}); err != nil {
				t.Fatal(err)
			}
			c.Close(t.Context())
			if s := c.Status(); s.Written != tc.captured || s.Dropped != 1-tc.captured || c.shared.teed.Load() != tc.teed {
				t.Errorf("%s: %+v, and %d bytes under way; want %d written", name, s, c.shared.teed.Load(), tc.captured)
			}
		})
	}
}

func TestAbsentS3CostsTheOldestRecordsAndNoCallersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		b := &bucket{fail: func(context.Context) error {
			if up.Load() {
				return nil
			}
			return errors.New("connection refused")
		}}
		pool, c := capturing(t, everything(100), b, succeed)
		body := make([]byte, 1<<20)
		began := time.Now()
		for i := range 200 {
			pool.mustInvoke(t, &Request{Body: body, InferenceID: fmt.Sprint(i)})
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("the callers waited %v", waited)
		}
		time.Sleep(10 * time.Minute)
		s := c.Status()
		if s.Failures < 5 || s.Failures > 20 || s.LastError != "connection refused" || s.Dropped < 100 || s.Waiting < 60 || s.Written != 0 {
			t.Errorf("while S3 is absent: %+v", s)
		}
		up.Store(true)
		time.Sleep(10 * time.Minute)
		s = c.Status()
		if s.Waiting != 0 || s.Sampled != 200 || s.Written+s.Dropped != 200 || s.LastError != "" || c.bytes != 0 || c.shared.held.Load() != 0 {
			t.Errorf("afterwards: %+v, %d bytes, %d held", s, c.bytes, c.shared.held.Load())
		}
		// The writer had begun with the oldest; all of the rest are the newest.
		l := b.lines(t)
		for i := range 50 {
			if want := fmt.Sprint(199 - i); l[len(l)-1-i].EventMetadata.InferenceID != want {
				t.Fatalf("record %d from the end is %s", i, l[len(l)-1-i].EventMetadata.InferenceID)
			}
		}
		c.Close(t.Context())
	})
}

func TestRecordTooLargeToBeCapturedCostsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, c := capturing(t, everything(100), &bucket{}, succeed)
		pool.mustInvoke(t, &Request{Body: []byte("1")})
		pool.mustInvoke(t, &Request{Body: make([]byte, maxCaptureBytes)})
		c.Close(t.Context())
		if s := c.Status(); s.Written != 1 || s.Dropped != 1 {
			t.Errorf("got %+v", s)
		}
	})
}

func TestCapturesOfAllEndpointsShareABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{fail: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }}
		shared := &Captures{S3: func(string) ObjectPutter { return b }}
		shared.held.Store(maxCapturesBytes - 10)
		c := shared.NewCapture(everything(100), 1)
		pool := poolOf(t, succeed)
		pool.SetTap(&Tap{Capture: c})
		pool.mustInvoke(t, &Request{Body: []byte("123456")}) // with "fine" it is ten bytes
		pool.mustInvoke(t, &Request{Body: []byte("123457")})
		pool.mustInvoke(t, &Request{Body: []byte("1234567")})
		if s := c.Status(); s.Dropped != 2 || s.Waiting != 1 {
			t.Errorf("got %+v; a newer record takes an older one's place, and one that is too large takes none", s)
		}
		gone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.Close(gone)
	})
}

func TestCloseWritesWhatWaitsAndGivesUpOnASlowS3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{fail: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }}
		pool, c := capturing(t, everything(100), b, succeed)
		pool.mustInvoke(t, &Request{})
		time.Sleep(captureInterval + time.Second) // it is being written
		pool.mustInvoke(t, &Request{})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		c.Close(ctx)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("Close took %v", took)
		}
		if s := c.Status(); s.Dropped != 2 || s.Waiting != 0 || s.LastError == "" {
			t.Errorf("got %+v", s)
		}
		pool.mustInvoke(t, &Request{})
		if s := c.Status(); s.Dropped != 3 {
			t.Errorf("after Close: %+v", s)
		}
		c.Close(ctx) // again
	})
}

func TestCloseTriesAgainWhileThereIsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		b := &bucket{fail: func(context.Context) error {
			if tries++; tries < 4 {
				return errors.New("slow down")
			}
			return nil
		}}
		pool, c := capturing(t, everything(100), b, succeed)
		pool.mustInvoke(t, &Request{})
		c.Close(t.Context())
		if s := c.Status(); s.Written != 1 || s.Failures != 3 {
			t.Errorf("got %+v", s)
		}
	})
}

func TestCaptureWithoutS3OrWithAnotherURLSaysSo(t *testing.T) {
	for _, test := range []struct {
		shared      *Captures
		destination string
		want        string
	}{
		{&Captures{}, "s3://b/p", "there is no S3"},
		{&Captures{S3: func(string) ObjectPutter { return new(bucket) }}, "https://b.s3.amazonaws.com/p", "not of the form s3://"},
	} {
		synctest.Test(t, func(t *testing.T) {
			config := everything(100)
			config.Destination = test.destination
			c := test.shared.NewCapture(config, 1)
			pool := poolOf(t, succeed)
			pool.SetTap(&Tap{Capture: c})
			pool.mustInvoke(t, &Request{})
			time.Sleep(2 * captureInterval)
			if s := c.Status(); !strings.Contains(s.LastError, test.want) || s.Waiting != 1 {
				t.Errorf("got %+v", s)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			c.Close(ctx)
		})
	}
}

// What the callers' goroutines and the writer do for one request of 50 bytes.
func BenchmarkCapture(b *testing.B) {
	req := &Request{ContentType: "text/csv", Body: []byte(strings.Repeat("5.1,3.5,1.", 5))}
	b.Run("record", func(b *testing.B) {
		c := (&Captures{TimeScale: 1e-6}).NewCapture(everything(100), 1)
		defer c.cancel()
		b.ReportAllocs()
		for b.Loop() {
			c.record(captured{variant: "AllTraffic", at: time.Now()}, req, "text/csv", req.Body)
		}
	})
	b.Run("line", func(b *testing.B) {
		c := &Capture{config: everything(100), shared: new(Captures)}
		r := &captured{at: time.Now()}
		r.fill(req.Body, req.Body, &capturedTexts{"text/csv", "text/csv"})
		var line []byte
		b.ReportAllocs()
		for b.Loop() {
			line = c.appendLine(line[:0], r)
		}
	})
}

// A server that takes connections and never answers, under a real client.
func TestHangingS3ServerHoldsCloseNoLongerThanItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := s3.New(s3.Options{BaseEndpoint: aws.String("http://" + l.Addr().String()), Region: "us-east-1", UsePathStyle: true, Credentials: aws.AnonymousCredentials{}})
	c := (&Captures{S3: func(string) ObjectPutter { return client }, TimeScale: 1e6}).NewCapture(everything(100), 1)
	pool := poolOf(t, succeed)
	pool.SetTap(&Tap{Capture: c})
	pool.mustInvoke(t, &Request{Body: []byte("x")})
	conn, err := l.Accept() // the file is under way
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pool.mustInvoke(t, &Request{Body: []byte("y")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Close(ctx)
	if s := c.Status(); s.Dropped != 2 || s.Waiting != 0 {
		t.Errorf("got %+v", s)
	}
}
