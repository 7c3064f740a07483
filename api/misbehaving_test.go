package api

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// rawWorker passes its health check, and answers every invocation with the same
// bytes and the end of the connection.
func rawWorker(t *testing.T, answer string) dataplane.Worker {
	ln := loopback(t)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go serveRaw(conn, answer)
		}
	}()
	w, err := dataplane.StartHTTP(t.Context(), dataplane.HTTPConfig{Kind: "raw", Address: ln.Addr().String(), ConnectTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func serveRaw(conn net.Conn, answer string) {
	defer conn.Close()
	for r := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		if req.URL.Path == "/ping" {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		_, _ = io.WriteString(conn, answer) // a caller that has read enough may be gone
		return
	}
}

// What a worker should not do, and what becomes of it. A late or silent worker is
// in the tests of package dataplane, where the limit can be short.
var misbehaviour = map[string]struct {
	answer string
	status int    // OriginalStatusCode
	said   string // of the message
}{
	"nothing":             {"", 0, "failed before its response was complete"},
	"garbage":             {"SSH-2.0-OpenSSH_9.2\r\n", 0, "failed before its response was complete"},
	"half a head":         {"HTTP/1.1 200 OK\r\nContent-Le", 0, "failed before its response was complete"},
	"half a body":         {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 0, "failed before its response was complete"},
	"two lengths":         {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 0, "failed before its response was complete"},
	"a broken chunk":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, "failed before its response was complete"},
	"too much":            {"HTTP/1.1 200 OK\r\nContent-Length: 26214401\r\n\r\n" + strings.Repeat("x", 1<<20), 0, "26214400"},
	"too many headers":    {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Filler: "+strings.Repeat("y", 1000)+"\r\n", 80) + "\r\n", 0, "failed before its response was complete"},
	"an error of its own": {"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull", 507, "full"},
	"a client error":      {"HTTP/1.1 415 No\r\nContent-Length: 2\r\n\r\nno", 415, "no"},
	"a redirect":          {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, ""},
}

func TestWorkersThatMisbehaveAreModelErrorsAndGiveTheirCountBack(t *testing.T) {
	for name, tc := range misbehaviour {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, _, address := serveInstance(t, rawWorker(t, tc.answer))
			for range 3 {
				resp, err := http.Post("http://"+address+"/endpoints/bench/invocations", "text/csv", strings.NewReader("1,2"))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				var e struct {
					Message            string
					OriginalStatusCode int
				}
				if err != nil || resp.StatusCode != 424 || resp.Header.Get(errorTypeHeader) != "ModelError" || json.Unmarshal(body, &e) != nil ||
					e.OriginalStatusCode != tc.status || !strings.Contains(e.Message, tc.said) {
					t.Fatalf("%d %s %s, %v", resp.StatusCode, resp.Header.Get(errorTypeHeader), body, err)
				}
			}
			if s := in.Status(); s.InFlight != 0 || s.Invocations != 3 || s.Errors != 3 {
				t.Errorf("accounts %+v; want 3 invocations, 3 errors and nothing in flight", s)
			}
		})
	}
}

// Message and OriginalMessage are of one shape of the API model, with at most 2048
// characters: a container's traceback does not make an answer of 25 MB.
func TestModelErrorTellsTheBeginningOfALongAnswer(t *testing.T) {
	said := strings.Repeat("line of a traceback\n", 10_000)
	_, _, address := serveInstance(t, rawWorker(t, "HTTP/1.1 500 No\r\nContent-Length: "+strconv.Itoa(len(said))+"\r\n\r\n"+said))
	resp, err := http.Post("http://"+address+"/endpoints/bench/invocations", "text/csv", strings.NewReader("1,2"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e struct{ Message, OriginalMessage string }
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || resp.StatusCode != 424 {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	if len(e.Message) != 2048 || e.OriginalMessage != said[:2048] {
		t.Errorf("%d characters of Message, %d of OriginalMessage", len(e.Message), len(e.OriginalMessage))
	}
}
