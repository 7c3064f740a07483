package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
)

func TestBufferedAnswersAsNetHTTPDoes(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"nothing":          func(http.ResponseWriter, *http.Request) {},
		"body only":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a"); fmt.Fprint(w, "b") },
		"status":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); fmt.Fprint(w, "no") },
		"the first status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(200) },
		"headers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.Header()["X-List"] = []string{"1", "2"}
			w.WriteHeader(201)
			w.Header().Set("X-Late", "not sent")
		},
		"echo": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			fmt.Fprintf(w, "%s %s %s %s ", r.Method, r.URL, r.Host, r.Header.Get("X-Question"))
			_, _ = io.Copy(w, r.Body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ln := fasthttputil.NewInmemoryListener()
			server := &fasthttp.Server{Handler: buffered(h), NoDefaultServerHeader: true, NoDefaultContentType: true, NoDefaultDate: true}
			go func() { _ = server.Serve(ln) }()
			defer func() { _ = server.Shutdown() }()
			client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return ln.Dial() }, DisableCompression: true}}
			req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://h/path?q=1", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Question", "why")
			got, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Body.Close()
			body, err := io.ReadAll(got.Body)
			if err != nil {
				t.Fatal(err)
			}
			req.Body = io.NopCloser(strings.NewReader("body"))
			req.RequestURI = "/path?q=1"
			req.URL.Scheme, req.URL.Host = "", ""
			record := httptest.NewRecorder()
			h(record, req)
			want := record.Result()
			if got.StatusCode != want.StatusCode || string(body) != record.Body.String() {
				t.Errorf("%d %q, want %d %q", got.StatusCode, body, want.StatusCode, record.Body)
			}
			got.Header.Del("Content-Length")
			if want.Header.Get("Content-Type") == "text/plain; charset=utf-8" {
				want.Header.Del("Content-Type") // net/http guesses; our handlers always say
			}
			if !reflect.DeepEqual(got.Header, want.Header) {
				t.Errorf("header %v, want %v", got.Header, want.Header)
			}
		})
	}
}
