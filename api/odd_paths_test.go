package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Paths that no SDK sends, and that Go's own client refuses to send.
func TestOddPathsGetAWSErrors(t *testing.T) {
	e := serveEdge(t)
	const malformed, unknown = `{"__type":"SerializationException","message":"The request is not valid HTTP."}`, "<UnknownOperationException/>\n"
	for path, want := range map[string]string{
		"/%zz":                         malformed,
		"/_sagelocal/%zz":              malformed,
		"//%zz":                        malformed,
		"*":                            malformed,
		"http://[::1/":                 malformed,
		"//[":                          unknown,
		"//":                           unknown,
		"/..":                          unknown,
		"/_sagelocal//health":          unknown,
		"/endpoints/a%2fb/invocations": unknown,
		"/endpoints//invocations":      unknown,
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Target: SageMaker.ListModels\r\nContent-Length: 2\r\n\r\n{}", path)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		status := map[string]int{malformed: http.StatusBadRequest, unknown: http.StatusNotFound}[want]
		if err != nil || string(body) != want || res.StatusCode != status || len(res.Header.Get("x-amzn-RequestId")) != 36 {
			t.Errorf("%s: got %d %q %v, want %d %q", path, res.StatusCode, body, res.Header, status, want)
		}
	}
}
