package upstream

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestMain(m *testing.M) {
	launchertest.ServeModel()
	if code := m.Run(); code != 0 {
		os.Exit(code)
	}
	if err := goleak.Find(); err != nil {
		panic(err)
	}
}

// modelServer runs a model server of the test's own and launches workers on it.
func modelServer(t *testing.T, env ...string) dataplane.Launcher {
	t.Helper()
	return New(Config{URL: "http://" + launchertest.NewModelServer(t).Start(t, env...)}, 100)
}

func TestUpstreamConforms(t *testing.T) {
	launchertest.Run(t, func(t *testing.T) launchertest.Fixture {
		return launchertest.Fixture{
			Launcher:    modelServer(t),
			Slow:        modelServer(t, launchertest.DelayVariable, "1m"),
			Unhealthy:   modelServer(t, launchertest.PingsVariable, "-1"),
			ModelServer: true,
		}
	})
}

// serve runs an HTTP server until the end of the test.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func TestStopLeavesTheServerRunning(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	w := launchertest.Launch(t, New(Config{URL: s.URL}, 1), launchertest.Spec(t))
	if err := w.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	launchertest.Do(t, launchertest.Launch(t, New(Config{URL: s.URL}, 1), launchertest.Spec(t)), &dataplane.Request{})
}

// Instances share the server; what one of them loads another would unload.
func TestMultiModelContainersAreRefused(t *testing.T) {
	spec := launchertest.Spec(t)
	spec.Container.MultiModel = true
	w, err := New(Config{URL: "http://127.0.0.1:1"}, 1).Launch(t.Context(), spec)
	if w != nil || !errors.Is(err, dataplane.ErrCannotStart) || !strings.Contains(err.Error(), "SingleModel") {
		t.Errorf("Launch = %v, %v; want ErrCannotStart", w, err)
	}
}

func TestURLsAreUsedInTurn(t *testing.T) {
	var urls, want, got []string
	for range 3 {
		s := serve(t, func(http.ResponseWriter, *http.Request) {})
		urls = append(urls, s.URL)
		want = append(want, s.Listener.Addr().String())
	}
	l := New(Config{URLs: urls}, 1)
	for range 4 {
		got = append(got, launchertest.Launch(t, l, launchertest.Spec(t)).Address())
	}
	if want = append(want, want[0]); !slices.Equal(got, want) {
		t.Errorf("launched on %v, want %v", got, want)
	}
}

func TestPathsAndHeadersAreTheConfigured(t *testing.T) {
	seen := make(chan string, 8)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method + " " + r.RequestURI + " " + r.Header.Get("Authorization")
		_, _ = io.Copy(w, r.Body)
	})
	l := New(Config{
		URL: s.URL + "/base/", PingPath: "/health", InvocationsPath: "/v1/chat/completions?raw=1",
		Headers: map[string]string{"Authorization": "Bearer token"},
	}, 1)
	w := launchertest.Launch(t, l, launchertest.Spec(t))
	if ans := launchertest.Do(t, w, &dataplane.Request{Body: []byte("x")}); string(ans.Body) != "x" {
		t.Errorf("answer %q", ans.Body)
	}
	for _, want := range []string{
		"GET /base/health Bearer token", "POST /base/v1/chat/completions?raw=1 Bearer token",
	} {
		if got := <-seen; got != want {
			t.Errorf("the server was asked %s, want %s", got, want)
		}
	}
}

func TestPingByConnectingNeedsNoPath(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			t.Errorf("%s %s was asked for", r.Method, r.URL)
		}
	})
	l := New(Config{URL: s.URL, PingPath: "-"}, 1)
	launchertest.Do(t, launchertest.Launch(t, l, launchertest.Spec(t)), &dataplane.Request{})
}

func TestServerThatIsNotThereIsErrPing(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "-"} {
		spec := launchertest.Spec(t)
		spec.StartupTimeout = 150 * time.Millisecond
		w, err := New(Config{URL: "http://" + address, PingPath: path}, 1).Launch(t.Context(), spec)
		if w != nil || !errors.Is(err, dataplane.ErrPing) || !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "refused") {
			t.Errorf("Launch = %v, %v; want ErrPing, DeadlineExceeded and the reason", w, err)
		}
	}
}

func TestCertificateOfUnknownOriginIsErrPing(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request reached a server that was not verified")
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	spec := launchertest.Spec(t)
	spec.StartupTimeout = 3 * time.Second
	_, err := New(Config{URL: s.URL}, 1).Launch(t.Context(), spec)
	if !errors.Is(err, dataplane.ErrPing) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Launch: %v; want ErrPing with the reason", err)
	}
}

func TestAddressFollowsTheURL(t *testing.T) {
	for _, c := range []struct{ url, address, host, ping, server string }{
		{"http://localhost:11434", "localhost:11434", "localhost:11434", "/ping", ""},
		{"http://models.example", "models.example:80", "models.example", "/ping", ""},
		{"https://models.example", "models.example:443", "models.example", "/ping", "models.example"},
		{"https://models.example:8443/a%2Fb/", "models.example:8443", "models.example:8443", "/a%2Fb/ping", "models.example"},
		{"http://[::1]:8000/", "[::1]:8000", "[::1]:8000", "/ping", ""},
	} {
		if err := (Config{URL: c.url}).Validate(); err != nil {
			t.Errorf("%s: %v", c.url, err)
		}
		u, err := parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		cfg := (&launcher{}).reach(u)
		server := ""
		if cfg.TLS != nil {
			server = cfg.TLS.ServerName
		}
		if cfg.Address != c.address || cfg.Host != c.host || cfg.PingPath != c.ping || server != c.server {
			t.Errorf("%s: address %s, host %s, ping %s, TLS %s; want %+v", c.url, cfg.Address, cfg.Host, cfg.PingPath, server, c)
		}
	}
}

func TestValidate(t *testing.T) {
	const ok = "http://127.0.0.1:1"
	for _, c := range []struct {
		cfg   Config
		valid bool
	}{
		{Config{URL: ok}, true},
		{Config{URLs: []string{ok, "https://models.example"}, PingPath: "-", InvocationsPath: "/v1/chat/completions"}, true},
		{Config{URL: ok, Headers: map[string]string{"Authorization": "Bearer x", "X-Tab": "a\tb"}}, true},
		{Config{}, false},
		{Config{URL: ok, URLs: []string{ok}}, false},
		{Config{URLs: []string{ok, ""}}, false},
		{Config{URL: "127.0.0.1:8000"}, false},
		{Config{URL: "unix:///run/x"}, false},
		{Config{URL: "http://"}, false},
		{Config{URL: "http://:8000"}, false},
		{Config{URL: "http://user:secret@models.example"}, false},
		{Config{URL: ok + "/?a=b"}, false},
		{Config{URL: ok + "/#f"}, false},
		{Config{URL: ok, PingPath: "health"}, false},
		{Config{URL: ok, PingPath: "/a b"}, false},
		{Config{URL: ok, InvocationsPath: "-"}, false},
		{Config{URL: ok, InvocationsPath: "/a\r\nX: y"}, false},
		{Config{URL: ok, Headers: map[string]string{"Content-Length": "1"}}, false},
		{Config{URL: ok, Headers: map[string]string{"content-type": "text/plain"}}, false},
		{Config{URL: ok, Headers: map[string]string{"X-SageMaker": "a\r\nb"}}, false},
		{Config{URL: ok, Headers: map[string]string{"X Y": "z"}}, false},
		{Config{URL: ok, Headers: map[string]string{"": "z"}}, false},
	} {
		if err := c.cfg.Validate(); (err == nil) != c.valid {
			t.Errorf("%+v: %v", c.cfg, err)
		} else if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: the error tells the password", err)
		}
	}
}

func TestValidConfigurationNeverFailsToStart(t *testing.T) {
	var asked atomic.Int64
	s := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	l := New(Config{URL: s.URL, Headers: map[string]string{"X-Token": "a b\tc", "X-`": "é"}}, 1)
	launchertest.Launch(t, l, launchertest.Spec(t))
	if asked.Load() == 0 {
		t.Error("the server was not asked")
	}
}
