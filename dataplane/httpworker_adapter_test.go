package dataplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAdaptersAreLoadedAndNamedAsTheContainersExpect(t *testing.T) {
	var got []string
	address := serveHTTP(t, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s %s adapter=%q", r.Method, r.URL.Path, body, r.Header.Get("X-Amzn-SageMaker-Adapter-Identifier")))
	})
	w := startWorker(t, address)
	if err := w.LoadAdapter(t.Context(), "French", "/tmp/adapters/french"); err != nil {
		t.Error(err)
	}
	if err := w.Invoke(t.Context(), &Request{Body: []byte("x"), Adapter: "French", Timeout: time.Minute}, new(Answer)); err != nil {
		t.Error(err)
	}
	if err := w.UnloadAdapter(t.Context(), "French"); err != nil {
		t.Error(err)
	}
	want := []string{
		`POST /adapters {"name":"French","src":"/tmp/adapters/french"} adapter=""`,
		`POST /invocations x adapter="French"`,
		`DELETE /adapters/French  adapter=""`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the container got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestContainerWithoutAnAdapterAPIGetsTheNameAlone(t *testing.T) {
	for status, fails := range map[int]bool{404: false, 405: false, 501: false, 400: true, 507: true, 500: true} {
		address := serveHTTP(t, func(rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(status)
			_, _ = io.WriteString(rw, "no room")
		})
		w := unstarted(t, address)
		err := w.LoadAdapter(t.Context(), "a", "/tmp/a")
		if (err != nil) != fails || err != nil && !strings.Contains(err.Error(), "no room") {
			t.Errorf("status %d: %v, want an error %v", status, err, fails)
		}
	}
	w := unstarted(t, serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.UnloadAdapter(ctx, "a"); err == nil {
		t.Error("unloading goes on after its context has ended")
	}
}

func TestAdapterNameCannotEndItsHeader(t *testing.T) {
	if sendable(&Request{Adapter: "a\r\nX: y"}) {
		t.Error("a line end in an adapter's name is sent")
	}
}
