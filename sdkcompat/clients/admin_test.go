package clients_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
)

// admin calls one of sagelocal's own routes and decodes its answer.
func admin[T any](t *testing.T, d *daemon, method, path, body string) (out T) {
	t.Helper()
	in := rawRequest{method: method, path: "/_sagelocal" + path, body: body}
	res, text := in.send(t, d)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, text)
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	return out
}

type instanceView struct {
	ID          string `json:"instance_id"`
	Slot        int    `json:"slot"`
	Type        string `json:"instance_type"`
	Kind        string
	Address     string
	State       string
	InFlight    int `json:"in_flight"`
	Invocations int64
	Errors      int64
	Created     time.Time
	Started     *time.Time
}

type fleetView struct {
	Endpoints []struct {
		Account, Region, Name, Status string
		Variants                      []struct {
			Name      string
			Weight    float64
			Strategy  string `json:"routing_strategy"`
			Instances []instanceView
		}
	}
}

// instances are those of an endpoint's first variant, as GET fleet shows them.
func (c *goClient) instances(t *testing.T, endpoint string) []instanceView {
	t.Helper()
	for _, e := range admin[fleetView](t, c.daemon, "GET", "/fleet?account="+c.account, "").Endpoints {
		if e.Name == endpoint {
			return e.Variants[0].Instances
		}
	}
	return nil
}

func TestHealthAndVersion(t *testing.T) {
	t.Parallel()
	d := sharedDaemon(t)
	health := admin[struct {
		Status string
		Uptime *int `json:"uptime_seconds"`
	}](t, d, "GET", "/health", "")
	if health.Status != "ok" || health.Uptime == nil || *health.Uptime < 0 {
		t.Errorf("got %+v", health)
	}
	version := admin[struct {
		Version, Go string
		Operations  []string
	}](t, d, "GET", "/version", "")
	if version.Version == "" || !strings.HasPrefix(version.Go, "go1.") || !slices.Contains(version.Operations, "CreateEndpoint") || !slices.IsSorted(version.Operations) {
		t.Errorf("got %+v", version)
	}
}

func TestFleetShowsInstancesAndTheirCounts(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "shown", workerContainer, 2)
	for range 10 {
		c.mustInvoke(t, "shown", "echo x")
	}
	_, err := c.invoke(t.Context(), "shown", "status 500 x")
	asError[*runtimetypes.ModelError](t, err)
	view := admin[fleetView](t, c.daemon, "GET", "/fleet?account="+c.account, "")
	if len(view.Endpoints) != 1 {
		t.Fatalf("got %+v", view)
	}
	e := view.Endpoints[0]
	if e.Account != c.account || e.Region != "us-east-1" || e.Name != "shown" || e.Status != "InService" || len(e.Variants) != 1 {
		t.Fatalf("got %+v", e)
	}
	v := e.Variants[0]
	if v.Name != "AllTraffic" || v.Weight != 1 || v.Strategy != "LEAST_OUTSTANDING_REQUESTS" || len(v.Instances) != 2 {
		t.Fatalf("got %+v", v)
	}
	var invocations, errors int64
	for slot, in := range v.Instances {
		invocations, errors = invocations+in.Invocations, errors+in.Errors
		if in.Slot != slot || in.Type != "ml.m5.large" || in.Kind != "process" || in.State != "InService" || in.InFlight != 0 ||
			!strings.HasPrefix(in.ID, "i-") || !strings.HasPrefix(in.Address, "127.0.0.1:") || in.Started == nil || in.Started.Before(in.Created) {
			t.Errorf("got %+v", in)
		}
	}
	if invocations != 11 || errors != 1 {
		t.Errorf("got %d invocations and %d errors, want 11 and 1", invocations, errors)
	}
}

func TestLogsShowWhatWorkersPrint(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "logging", workerContainer, 1)
	logs := admin[struct {
		Streams []struct {
			Stream string
			Lines  []string
		}
	}](t, c.daemon, "GET", "/endpoints/logging/logs?tail=1&account="+c.account, "")
	want := "AllTraffic/" + c.instances(t, "logging")[0].ID
	if len(logs.Streams) != 1 || logs.Streams[0].Stream != want || len(logs.Streams[0].Lines) != 1 ||
		!strings.Contains(logs.Streams[0].Lines[0], "testmodel "+c.mustInvoke(t, "logging", "pid")+" answers on") {
		t.Errorf("got %+v, want stream %s", logs, want)
	}
	for _, bad := range []string{"/endpoints/logging/logs?tail=0", "/endpoints/..%2f..%2fx/logs", "/endpoints/-x/logs"} {
		in := rawRequest{method: "GET", path: "/_sagelocal" + bad}
		if res, body := in.send(t, c.daemon); res.StatusCode/100 != 4 {
			t.Errorf("%s: got %d %s", bad, res.StatusCode, body)
		}
	}
}

type scriptView struct {
	Rules []struct {
		Status  int
		Answers int64
	}
}

func TestScriptedResponsesAnswerInPlaceOfWorkers(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "scripted", echoContainer, 1)
	path := "/endpoints/scripted/responses?account=" + c.account
	put := admin[scriptView](t, c.daemon, "PUT", path, `{"rules": [
		{"body_contains": "poison", "status": 500, "body": "out of memory", "times": 2},
		{"body_path": "$.instances[*].id", "body_equals": 7, "headers": {"Content-Type": "application/json"}, "body": "{}"}
	]}`)
	if len(put.Rules) != 2 || put.Rules[0].Status != 500 {
		t.Errorf("got %+v", put)
	}
	for range 2 {
		_, err := c.invoke(t.Context(), "scripted", "some poison")
		if e := asError[*runtimetypes.ModelError](t, err); aws.ToInt32(e.OriginalStatusCode) != 500 || *e.OriginalMessage != "out of memory" {
			t.Errorf("got %+v", e)
		}
	}
	for body, want := range map[string]string{
		"some poison": "some poison", `{"instances": [{"id": 7}]}`: "{}", `{"instances": [{"id": 8}]}`: `{"instances": [{"id": 8}]}`,
	} {
		if got := c.mustInvoke(t, "scripted", body); got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
	if got := admin[scriptView](t, c.daemon, "GET", path, ""); len(got.Rules) != 2 || got.Rules[0].Answers != 2 || got.Rules[1].Answers != 1 {
		t.Errorf("got %+v", got)
	}
	if got := admin[scriptView](t, c.daemon, "DELETE", path, ""); len(got.Rules) != 0 {
		t.Errorf("got %+v", got)
	}
	if got := c.mustInvoke(t, "scripted", `{"instances": [{"id": 7}]}`); got == "{}" {
		t.Error("a deleted script answers")
	}
	for _, bad := range []string{`{"rules": [{"colour": "red"}]}`, `{"rules": [{"status": 99}]}`, `{"rules": [{"body_path": "$["}]}`, `[`} {
		in := rawRequest{method: "PUT", path: "/_sagelocal" + path, body: bad}
		if res, body := in.send(t, c.daemon); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d %s", bad, res.StatusCode, body)
		}
	}
}

func TestConfiguredResponsesAnswerByEndpointName(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "Scripted-By-File", echoContainer, 1)
	if a, b := c.mustInvoke(t, "scripted-by-file", "ping"), c.mustInvoke(t, "Scripted-By-File", "other"); a != "pong" || b != "other" {
		t.Errorf("got %q and %q", a, b)
	}
}

func TestResetDeletesOneAccount(t *testing.T) {
	t.Parallel()
	d := sharedDaemon(t)
	one, other := newGoClient(d), newGoClient(d)
	for _, c := range []*goClient{one, other} {
		c.serve(t, "kept", workerContainer, 1)
	}
	pid := one.pids(t, "kept", 1)
	admin[map[string]string](t, d, "POST", "/reset?account="+one.account, "")
	for p := range pid {
		if alive(p) {
			t.Errorf("worker %d lives after the reset", p)
		}
	}
	if out, err := one.sm.ListModels(t.Context(), &sagemaker.ListModelsInput{}); err != nil || len(out.Models) != 0 {
		t.Errorf("got %+v, %v", out, err)
	}
	if left := one.instances(t, "kept"); len(left) != 0 {
		t.Errorf("got %+v", left)
	}
	if got := other.mustInvoke(t, "kept", "echo x"); got != "x" {
		t.Errorf("got %q", got)
	}
}
