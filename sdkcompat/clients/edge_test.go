package clients_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// rawRequest is a request as no SDK would send it.
type rawRequest struct {
	method, path, body string
	header             map[string]string
	host               string
}

func (r *rawRequest) send(t *testing.T, d *daemon) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, d.URL+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	req.Host = r.host
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func target(operation string) map[string]string {
	return map[string]string{"X-Amz-Target": operation, "Content-Type": "application/x-amz-json-1.1"}
}

func TestOddRequestsGetAWSErrors(t *testing.T) {
	t.Parallel()
	d := sharedDaemon(t)
	list := target("SageMaker.ListModels")
	browser := func(name, value string) map[string]string {
		return map[string]string{"X-Amz-Target": "SageMaker.ListModels", name: value}
	}
	for _, test := range []struct {
		what   string
		in     rawRequest
		status int
		code   string // __type in JSON; empty for the XML of an unknown path
	}{
		{"unknown path", rawRequest{method: "GET", path: "/nowhere"}, 404, ""},
		{"GET of the control plane", rawRequest{method: "GET", path: "/"}, 404, ""},
		{"PUT of the control plane", rawRequest{method: "PUT", path: "/"}, 404, ""},
		{"GET of an invocation", rawRequest{method: "GET", path: "/endpoints/e/invocations"}, 404, ""},
		{"unknown path of the runtime", rawRequest{method: "POST", path: "/endpoints/e/other"}, 404, ""},
		{"no path of an endpoint", rawRequest{method: "POST", path: "/endpoints/e"}, 404, ""},
		{"wrong method of an admin route", rawRequest{method: "DELETE", path: "/_sagelocal/health"}, 404, ""},
		{"unknown operation", rawRequest{method: "POST", path: "/", header: target("SageMaker.CreateTrainingJob"), body: "{}"}, 400, "UnknownOperationException"},
		{"other service", rawRequest{method: "POST", path: "/", header: target("DynamoDB_20120810.ListTables"), body: "{}"}, 400, "UnknownOperationException"},
		{"no target", rawRequest{method: "POST", path: "/", body: "{}"}, 400, "UnknownOperationException"},
		{"malformed JSON", rawRequest{method: "POST", path: "/", header: list, body: `{"MaxResults": `}, 400, "SerializationException"},
		{"not an object", rawRequest{method: "POST", path: "/", header: list, body: `[1]`}, 400, "SerializationException"},
		{"wrong type", rawRequest{method: "POST", path: "/", header: list, body: `{"MaxResults": "many"}`}, 400, "SerializationException"},
		{"not UTF-8", rawRequest{method: "POST", path: "/", header: list, body: "{\"NameContains\": \"\xff\"}"}, 400, "SerializationException"},
		{"oversized control request", rawRequest{method: "POST", path: "/", header: list, body: strings.Repeat(" ", 4<<20+1)}, 413, "RequestEntityTooLargeException"},
		{"oversized invocation", rawRequest{method: "POST", path: "/endpoints/e/invocations", body: strings.Repeat(" ", 25<<20+1)}, 413, "RequestEntityTooLargeException"},
		{"page of another origin", rawRequest{method: "POST", path: "/", header: browser("Origin", "https://evil.example"), body: "{}"}, 403, "AccessDeniedException"},
		{"cross-site fetch", rawRequest{method: "POST", path: "/", header: browser("Sec-Fetch-Site", "cross-site"), body: "{}"}, 403, "AccessDeniedException"},
		{"rebound name", rawRequest{method: "POST", path: "/", header: list, host: "evil.example", body: "{}"}, 403, "AccessDeniedException"},
		{"rebound name on the runtime", rawRequest{method: "POST", path: "/endpoints/e/invocations", host: "evil.example:7240"}, 403, "AccessDeniedException"},
		{"rebound name on the admin API", rawRequest{method: "POST", path: "/_sagelocal/reset", host: "evil.example"}, 403, "AccessDeniedException"},
	} {
		t.Run(test.what, func(t *testing.T) {
			res, body := test.in.send(t, d)
			if res.StatusCode != test.status {
				t.Errorf("got status %d: %s", res.StatusCode, body)
			}
			if len(res.Header.Get("x-amzn-RequestId")) != 36 {
				t.Errorf("got request id %q", res.Header.Get("x-amzn-RequestId"))
			}
			if test.code == "" {
				if strings.TrimSpace(body) != "<UnknownOperationException/>" {
					t.Errorf("got %q", body)
				}
				return
			}
			var e struct {
				Type string `json:"__type"`
			}
			if err := json.Unmarshal([]byte(body), &e); err != nil || e.Type != test.code || res.Header.Get("x-amzn-ErrorType") != test.code {
				t.Errorf("got %s, header %q, want %s", body, res.Header.Get("x-amzn-ErrorType"), test.code)
			}
		})
	}
}

func TestUnknownOperationNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	in := rawRequest{method: "POST", path: "/", header: target("SageMaker.CreateTrainingJob"), body: "{}"}
	_, body := in.send(t, sharedDaemon(t))
	for _, want := range []string{"SageMaker.CreateTrainingJob", "CreateEndpoint,", "UpdateEndpointWeightsAndCapacities"} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s, want %s in it", body, want)
		}
	}
}

// What a person or the daemon's own page sends in a browser is not refused.
func TestSameOriginRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	d := sharedDaemon(t)
	for _, in := range []rawRequest{
		{header: map[string]string{"Origin": d.URL, "Sec-Fetch-Site": "same-origin"}},
		{header: map[string]string{"Sec-Fetch-Site": "none"}},
		{host: "localhost:7240"},
		{host: "sagemaker.localhost"},
		{host: "[::1]:7240"},
		{host: "10.1.2.3"},
	} {
		in.method, in.path = "GET", "/_sagelocal/health"
		if res, body := in.send(t, d); res.StatusCode != http.StatusOK {
			t.Errorf("%+v: got %d %s", in, res.StatusCode, body)
		}
	}
}

func TestGarbageOnTheSocketIsAnsweredAndSurvived(t *testing.T) {
	t.Parallel()
	d := sharedDaemon(t)
	for _, garbage := range []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "GET\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(garbage)); err != nil {
			t.Fatal(err)
		}
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		answer, _ := io.ReadAll(conn) // it may be reset
		_ = conn.Close()
		if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) {
			t.Errorf("%.20q: got %q", garbage, answer)
		}
	}
	in := rawRequest{method: "GET", path: "/_sagelocal/health"}
	if res, body := in.send(t, d); res.StatusCode != http.StatusOK {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
}
