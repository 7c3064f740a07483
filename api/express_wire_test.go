package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// The express lane is another reader of requests and another writer of answers:
// nothing that a caller can see may tell it from fasthttp but the order of an
// answer's headers. Each request is sent on a connection of its own, on one that
// rides an event loop, and on another such byte by byte.
func TestEveryRequestIsAnsweredOnAnEventLoopAsByFasthttp(t *testing.T) {
	l := serveLaneOf(t, Options{Plane: benchPlane(t)})
	l.publishKinds(t)
	for _, kind := range []struct {
		requests        map[string]string
		express, usable bool
	}{{plainRequests, true, true}, {refusedRequests, true, true}, {otherRequests, false, true}, {closingRequests, false, false}} {
		for _, name := range slices.Sorted(maps.Keys(kind.requests)) {
			t.Run(name, func(t *testing.T) {
				text := kind.requests[name]
				want, next := exchange(t, l.dial(t), text)
				if (next.status != "") != kind.usable {
					t.Errorf("over fasthttp %v, and then %v", want, next)
				}
				for i, r := range []*rider{l.ride(t), l.ride(t)} {
					pieces := []string{text}
					if i > 0 && len(text) < 2000 {
						pieces = strings.SplitAfter(text, "")
					}
					got, after := exchange(t, r, pieces...)
					if got.String() != want.String() || after.String() != next.String() {
						t.Errorf("over an event loop %v, and then %v\n\nover fasthttp %v, and then %v", got, after, want, next)
					}
					if after.express != kind.express {
						t.Errorf("after it the connection is on the express lane: %t", after.express)
					}
				}
			})
		}
	}
}

// exchange sends another request behind, whose answer is empty if the connection
// has ended.
func exchange(t *testing.T, r *rider, pieces ...string) (got, next reply) {
	t.Helper()
	for _, p := range pieces {
		if _, err := io.WriteString(r, p); err != nil {
			break // refused before its end
		}
	}
	got, err := r.answer()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(r, plainText("bench", "next")); err != nil {
		return got, reply{}
	}
	if next, err = r.answer(); err != nil {
		return got, reply{}
	}
	return got, next
}

const sigV4 = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/sagemaker/aws4_request, SignedHeaders=host, Signature=0"

// ok is a worker's answer of so many bytes.
func ok(body, headers string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n%sContent-Length: %d\r\n\r\n%s", headers, len(body), body)
}

// plainRequests are for the express lane, and succeed.
var plainRequests = map[string]string{
	"usual":                 plainText("bench", "1,2", "Accept", "text/csv", "Authorization", sigV4, "User-Agent", "Boto3/1.40 md/x#1 ua/2.1", "Amz-Sdk-Request", "attempt=1"),
	"no body":               plainText("bench", ""),
	"lower-case names":      strings.NewReplacer("Host", "host", "Content-", "content-").Replace(plainText("bench", "x", "accept", "a", "ACCEPT", "b")),
	"keep-alive":            plainText("bench", "x", "Connection", "Keep-Alive"),
	"upper-case endpoint":   plainText("BENCH", "x"),
	"blanks about values":   plainText("bench", "x", "Accept", "  \t text/csv \t ", "X-Amzn-SageMaker-Inference-Id", ""),
	"IPv6 host":             strings.Replace(plainText("bench", "x"), "127.0.0.1", "[::1]", 1),
	"user in host":          strings.Replace(plainText("bench", "x"), "127.0.0.1", "user@e.localhost", 1),
	"empty first header":    plainText("bench", "x", "Authorization", "", "Authorization", sigV4, "Accept", "", "Accept", "text/csv"),
	"leading zeros":         strings.Replace(plainText("bench", "x"), "Length: 1", "Length: 000000001", 1),
	"1 KB":                  plainText("bench", strings.Repeat("x", 1<<10)),
	"10 KB":                 plainText("bench", strings.Repeat("x", 10<<10)),
	"attributes":            plainText("mirror", ok("abc", "X-Amzn-SageMaker-Custom-Attributes: a=b; c\r\nX-Other: 1\r\nServer: uvicorn\r\n")),
	"a session begins":      plainText("mirror", ok("abc", "X-Amzn-SageMaker-Session-Id: s1; Expires=2030-01-01T00:00:00Z\r\n"), "X-Amzn-SageMaker-Session-Id", "NEW_SESSION"),
	"a session ends":        plainText("mirror", ok("abc", "X-Amzn-SageMaker-Closed-Session-Id: s1\r\n")),
	"an answer without end": plainText("mirror", "HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n\r\nuntil the end"),
	"an answer in chunks":   plainText("mirror", "HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
	"201":                   plainText("mirror", "HTTP/1.1 201 Created\r\nContent-Type: text/csv\r\nContent-Length: 1\r\n\r\nx"),
	"bytes beyond ASCII":    plainText("mirror", ok("x", "X-Amzn-SageMaker-Custom-Attributes: \xc3\xa9t\xc3\xa9\r\n")),
	"scripted":              plainText("scripted", "x"),
	"of a worker that an event loop cannot wait for": plainText("failing", "x"),
}

// refusedRequests are for the express lane, and answered with an error.
var refusedRequests = map[string]string{
	"no such endpoint":        plainText("nobody", "x"),
	"longest name":            plainText(strings.Repeat("n", 63), "x"),
	"name that begins wrong":  plainText("-n", "x"),
	"no such variant":         plainText("bench", "x", "X-Amzn-SageMaker-Target-Variant", "other"),
	"variant's name":          plainText("bench", "x", "X-Amzn-SageMaker-Target-Variant", "-"),
	"explanations":            plainText("bench", "x", "X-Amzn-SageMaker-Enable-Explanations", "`true`"),
	"attributes too long":     plainText("bench", "x", "X-Amzn-SageMaker-Custom-Attributes", strings.Repeat("a", 1025)),
	"no such session":         plainText("bench", "x", "X-Amzn-SageMaker-Session-Id", "s9"),
	"component not allowed":   plainText("bench", "x", "X-Amzn-SageMaker-Inference-Component", "c"),
	"not multi-model":         plainText("bench", "x", "X-Amzn-SageMaker-Target-Model", "m"),
	"not direct":              plainText("bench", "x", "X-Amzn-SageMaker-Target-Container-Hostname", "h"),
	"no target model":         plainText("models", "x"),
	"no target container":     plainText("direct", "x"),
	"unknown container":       plainText("direct", "x", "X-Amzn-SageMaker-Target-Container-Hostname", "h"),
	"no weight":               plainText("weightless", "x"),
	"no instance":             plainText("empty", "x"),
	"asynchronous only":       plainText("async", "x"),
	"component required":      plainText("components", "x"),
	"no such component":       plainText("components", "x", "X-Amzn-SageMaker-Inference-Component", "d"),
	"component not ready":     plainText("components", "x", "X-Amzn-SageMaker-Inference-Component", "c"),
	"throttled":               plainText("serverless", "x"),
	"timeout":                 plainText("failing", "x", "X-Amzn-SageMaker-Custom-Attributes", "timeout"),
	"broken":                  plainText("failing", "x", "X-Amzn-SageMaker-Custom-Attributes", "broken"),
	"too large":               plainText("failing", "x", "X-Amzn-SageMaker-Custom-Attributes", "large"),
	"an error of the daemon":  plainText("failing", "x", "X-Amzn-SageMaker-Custom-Attributes", "unknown"),
	"ThrottlingException":     plainText(dataplane.FaultThrottling, "x"),
	"InternalFailure":         plainText(dataplane.FaultInternal, "x"),
	"ServiceUnavailable":      plainText(dataplane.FaultUnavailable, "x"),
	"ModelNotReadyException":  plainText(dataplane.FaultNotReady, "x"),
	"ModelError":              plainText(dataplane.FaultModelError, "x"),
	"StreamBroken":            plainText(dataplane.FaultStreamBroken, "x"),
	"an error of the worker":  plainText("mirror", misbehaviour["an error of its own"].answer),
	"worker refuses":          plainText("mirror", misbehaviour["a client error"].answer),
	"worker redirects":        plainText("mirror", misbehaviour["a redirect"].answer),
	"worker talks garbage":    plainText("mirror", misbehaviour["garbage"].answer),
	"worker sends half":       plainText("mirror", misbehaviour["half a body"].answer),
	"worker sends two":        plainText("mirror", misbehaviour["two lengths"].answer),
	"worker sends nothing":    plainText("mirror", ""),
	"worker's body too large": plainText("mirror", misbehaviour["too much"].answer[:200]),
}

// otherRequests are fasthttp's business, which keeps the connection.
var otherRequests = map[string]string{
	"control plane":       "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: SageMaker.ListModels\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\r\n{}",
	"admin route":         "GET /_sagelocal/version HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"unknown path":        "GET /endpoints/bench HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"stream":              strings.Replace(plainText("bench", "x"), "invocations", "invocations-response-stream", 1),
	"asynchronous":        strings.Replace(plainText("bench", "x", "X-Amzn-SageMaker-InputLocation", "s3://a/b"), "invocations", "async-invocations", 1),
	"chat without token":  strings.Replace(plainText("bench", "x"), "invocations", chatPath, 1),
	"query":               strings.Replace(plainText("bench", "x"), "invocations", "invocations?a=b", 1),
	"slash at the end":    strings.Replace(plainText("bench", "x"), "invocations", "invocations/", 1),
	"escaped path":        strings.Replace(plainText("bench", "x"), "bench", "%62ench", 1),
	"absolute target":     strings.Replace(plainText("bench", "x"), "/endpoints", "http://localhost/endpoints", 1),
	"name with underline": plainText("a_b", "x"),
	"name too long":       plainText(strings.Repeat("n", 64), "x"),
	"empty line first":    "\r\n" + plainText("bench", "x"),
	"own origin":          plainText("bench", "x", "Origin", "http://127.0.0.1:7240"),
	"same site":           plainText("bench", "x", "Sec-Fetch-Site", "same-origin"),
	"cookie":              plainText("bench", "x", "Cookie", "a=b"),
	"tab in a value":      plainText("bench", "x", "Accept", "a\tb"),
	"beyond ASCII":        plainText("bench", "x", "X-Amzn-SageMaker-Custom-Attributes", "\xc3\xa9"),
	"odd name":            plainText("bench", "x", "X_Odd!", "1"),
	"blank in a name":     plainText("bench", "x", "X odd name", "1"),
	"folded header":       plainText("bench", "x", "Accept", "a\r\n b"),
	"two content types":   plainText("bench", "x", "Content-Type", "a/b"),
	"upgrade":             plainText("bench", "x", "Upgrade", "h2c", "HTTP2-Settings", ""),
	"chunks":              strings.Replace(plainText("bench", "1\r\nx\r\n0\r\n\r\n"), "Content-Length: 11", "Transfer-Encoding: chunked", 1),
	"no length":           strings.Replace(plainText("bench", ""), "Content-Length: 0\r\n", "", 1),
	"100-continue":        plainText("bench", "x", "Expect", "100-continue"),
	"many headers":        plainText("bench", "x", slices.Repeat([]string{"X-Amzn-SageMaker-Odd", "1"}, 17)...),
	"4 MB":                plainText("bench", strings.Repeat("x", expressBuffer)),
	"HTTP/1.0 keep-alive": strings.Replace(plainText("bench", "x", "Connection", "keep-alive"), "HTTP/1.1", "HTTP/1.0", 1),
}

// closingRequests are fasthttp's business, and the connection ends with them.
var closingRequests = map[string]string{
	"close":                   plainText("bench", "x", "Connection", "close"),
	"HTTP/1.0":                strings.Replace(plainText("bench", "x"), "HTTP/1.1", "HTTP/1.0", 1),
	"HTTP/2.0":                strings.Replace(plainText("bench", "x"), "HTTP/1.1", "HTTP/2.0", 1),
	"no HTTP":                 "SSH-2.0-OpenSSH_9.2\r\n\r\n",
	"no colon":                plainText("bench", "x", "X-A: 1\r\nnonsense\r\nX-B", "1"),
	"no name":                 plainText("bench", "x", "", "1"),
	"blank before the colon":  strings.Replace(plainText("bench", "x"), "Content-Length:", "Content-Length :", 1),
	"control character":       plainText("bench", "x", "Accept", "a\x00b"),
	"carriage return":         plainText("bench", "x", "Accept", "a\rX-Amzn-SageMaker-Target-Variant: b"),
	"two lengths":             plainText("bench", "x", "Content-Length", "1"),
	"two different lengths":   plainText("bench", "x", "Content-Length", "5"),
	"length and chunks":       plainText("bench", "0\r\n\r\n", "Transfer-Encoding", "chunked"),
	"chunks twice":            plainText("bench", "0\r\n\r\n", "Transfer-Encoding", "chunked", "Transfer-Encoding", "chunked"),
	"another coding":          plainText("bench", "x", "Transfer-Encoding", "gzip"),
	"negative length":         strings.Replace(plainText("bench", "x"), "Length: 1", "Length: -1", 1),
	"signed length":           strings.Replace(plainText("bench", "x"), "Length: 1", "Length: +1", 1),
	"length of words":         strings.Replace(plainText("bench", "x"), "Length: 1", "Length: one", 1),
	"list of lengths":         strings.Replace(plainText("bench", "x"), "Length: 1", "Length: 1, 1", 1),
	"no host":                 strings.Replace(plainText("bench", "x"), "Host: 127.0.0.1:7240\r\n", "", 1),
	"empty host":              strings.Replace(plainText("bench", "x"), "127.0.0.1:7240", "", 1),
	"two hosts":               plainText("bench", "x", "Host", "127.0.0.1:7240"),
	"host of a web page":      strings.Replace(plainText("bench", "x"), "127.0.0.1", "evil.example", 1),
	"host with an odd port":   strings.Replace(plainText("bench", "x"), "7240", "72x", 1),
	"host in brackets":        strings.Replace(plainText("bench", "x"), "127.0.0.1", "[localhost]", 1),
	"half a bracket":          strings.Replace(plainText("bench", "x"), "127.0.0.1:7240", "[localhost", 1),
	"escaped host":            strings.Replace(plainText("bench", "x"), "127.0.0.1", "%zz.localhost", 1),
	"origin of a web page":    plainText("bench", "x", "Origin", "https://evil.example"),
	"web page":                plainText("bench", "x", "Sec-Fetch-Site", "cross-site"),
	"headers above 32 KB":     plainText("bench", "x", "X-A", strings.Repeat("a", 33<<10)),
	"headers above 64 KB":     plainText("bench", "x", "X-A", strings.Repeat("a", 66<<10)),
	"headers of just 32 KB":   plainText("bench", "x", slices.Repeat([]string{"X-A", strings.Repeat("a", 1<<10)}, 32)...),
	"a body that is too long": strings.Replace(plainText("bench", ""), "Length: 0", "Length: 26214401", 1),
}

// publishKinds adds endpoints that answer in every way.
func (l *lane) publishKinds(t *testing.T) {
	t.Helper()
	pool, err := dataplane.NewPool(dataplane.Routing{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	variant := func(change func(*dataplane.Variant)) dataplane.Variant {
		v := dataplane.Variant{Name: "v", Weight: 1, Pool: pool, Container: "primary"}
		change(&v)
		return v
	}
	l.publish(t, "mirror", workerAt(t, mirror(t)))
	l.publish(t, "failing", failingWorker{})
	l.publishVariant("empty", variant(func(*dataplane.Variant) {}))
	l.publishVariant("weightless", variant(func(v *dataplane.Variant) { v.Weight = 0 }))
	l.publishVariant("models", variant(func(v *dataplane.Variant) { v.MultiModel = "primary" }))
	l.publishVariant("direct", variant(func(v *dataplane.Variant) { v.Targets = []string{"a", "b"} }))
	l.publishVariant("serverless", variant(func(v *dataplane.Variant) { v.Pool = dataplane.NewServerlessPool(func() {}) }))
	l.fleet.Publish(laneKey("async"), &dataplane.Snapshot{Serving: true, Async: &dataplane.Async{}}, 1)
	l.fleet.Publish(laneKey("components"), &dataplane.Snapshot{Serving: true, HostsComponents: true, Components: map[string]*dataplane.Component{
		dataplane.ComponentKey("c"): {Name: "c", Variant: "v", Status: "Creating"},
	}}, 1)
	rules, err := dataplane.NewResponses([]dataplane.ResponseRule{{Body: "scripted", Headers: map[string]string{"Content-Type": "text/csv"}}})
	if err != nil {
		t.Fatal(err)
	}
	l.publishVariant("scripted", variant(func(*dataplane.Variant) {})).SetResponses(rules)
	for _, kind := range []string{
		dataplane.FaultThrottling, dataplane.FaultInternal, dataplane.FaultUnavailable, dataplane.FaultNotReady,
		dataplane.FaultModelError, dataplane.FaultStreamBroken,
	} {
		faults, err := dataplane.NewFaults(dataplane.FaultScript{Rules: []dataplane.FaultRule{{Fault: kind}}})
		if err != nil {
			t.Fatal(err)
		}
		l.publish(t, strings.ToLower(kind), failingWorker{})
		l.fleet.Lookup(laneKey(strings.ToLower(kind))).SetFaults(faults)
	}
}

// mirror is an HTTP worker that answers with the request's body and nothing else,
// so that a test says what it answers. It ends the connection after all but what ok
// makes.
func mirror(t *testing.T) string {
	return answerRaw(t, func(r *bufio.Reader) (answer []byte, more bool) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return nil, false
		}
		answer, err = io.ReadAll(req.Body)
		if req.URL.Path == "/ping" {
			answer = []byte(ok("", ""))
		}
		return answer, err == nil && bytes.HasPrefix(answer, []byte("HTTP/1.1 200 OK\r\nContent-Type")) && bytes.Contains(answer, []byte("Content-Length"))
	})
}

// failingWorker fails as the custom attributes say. An event loop cannot wait for
// it.
type failingWorker struct{ dataplane.Worker }

func (failingWorker) Invoke(_ context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	switch req.CustomAttributes {
	case "timeout":
		return dataplane.ErrTimeout
	case "broken":
		return dataplane.ErrBroken
	case "large":
		return dataplane.ErrTooLarge
	case "unknown":
		return errors.New("a mistake of this program")
	}
	ans.StatusCode, ans.ContentType, ans.Body = 200, "text/csv", append(ans.Body[:0], req.Body...)
	return nil
}

func (failingWorker) Stop(context.Context, time.Duration) error { return nil }
