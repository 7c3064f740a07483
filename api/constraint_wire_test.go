package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// edge is a daemon's edge on a loopback port.
type edge struct{ url string }

func serveEdge(t *testing.T) *edge {
	t.Helper()
	server := New(Options{Plane: benchPlane(t), Fleet: dataplane.NewFleet(), Scope: benchScope, Logger: slog.New(slog.DiscardHandler)})
	ln := loopback(t)
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	return &edge{"http://" + ln.Addr().String()}
}

// answer is what any kind of error comes to.
type answer struct {
	status        int
	code, message string
}

// post sends a request and reads the error that comes back.
func (e *edge) post(t *testing.T, path string, header map[string]string, body []byte) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Type    string `json:"__type"`
		Message string // in either case
	}
	if err := json.Unmarshal(text, &said); len(text) > 0 && err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	code := res.Header.Get("x-amzn-ErrorType")
	if said.Type != "" && said.Type != code {
		t.Errorf("the header says %s, the body %s", code, text)
	}
	return answer{res.StatusCode, code, said.Message}
}

// checked is the same answer without the wire.
func checked(t *testing.T, err error) answer {
	t.Helper()
	var e *sdkcompat.Error
	if err == nil {
		return answer{}
	}
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	return answer{e.Status, e.Code, e.Message}
}

// The service model's constraints and AWS's sentences about them: every one of
// every operation is broken once. An operation that the daemon does not serve yet
// is checked without the wire.
func TestEveryConstraintOfTheControlPlaneIsHeldInAWSWords(t *testing.T) {
	control, _ := readTable(t)
	e := serveEdge(t)
	hit, unbreakable, counts := map[string]string{}, map[string]string{}, map[string]int{}
	for _, operation := range slices.Sorted(maps.Keys(control.Operations)) {
		_, served := operations[operation]
		w := control.walkInput(operation)
		maps.Copy(unbreakable, w.unbreakable)
		if w.recursions > 0 {
			t.Errorf("%s: the model has become recursive: say how deep the walk goes", operation)
		}
		for _, b := range w.found {
			body := encode(t, b.body)
			var got answer
			if served {
				got = e.post(t, "/", map[string]string{"X-Amz-Target": "SageMaker." + operation}, body)
				counts["wire"]++
			} else {
				got = checked(t, checkBody(operation, body))
				counts["direct"]++
			}
			if want := (answer{http.StatusBadRequest, b.code, b.message}); got != want {
				t.Errorf("%s %s of %s\n%.300s\ngot  %v\nwant %v", operation, b.kind, b.shape, body, got, want)
			}
			hit[b.shape+"."+b.kind] = operation
			counts[b.kind]++
		}
		for _, value := range w.accepted {
			body := encode(t, value)
			if err := checkBody(operation, body); err != nil {
				t.Errorf("%s %.300s: %v", operation, body, err)
			}
			counts["accepted"]++
		}
	}
	reportWalk(t, control, hit, unbreakable, counts)
	atLeast(t, counts, map[string]int{
		"required": 320, "min": 150, "max": 240, "pattern": 135, "enum": 75, "type": 3300, "accepted": 3700, "wire": 4300,
	})
}

func checkBody(operation string, body []byte) error {
	tree, err := sdkcompat.ParseJSON(body)
	if err != nil {
		return err
	}
	return sdkcompat.CheckInput(operation, tree)
}

// encode keeps a json.RawMessage as it is, malformed or not.
func encode(t *testing.T, body any) []byte {
	t.Helper()
	if raw, ok := body.(json.RawMessage); ok {
		return raw
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// atLeast keeps the walk from shrinking unnoticed.
func atLeast(t *testing.T, counts, least map[string]int) {
	t.Helper()
	for what, n := range least {
		if counts[what] < n {
			t.Errorf("%s: %d requests, want %d at least", what, counts[what], n)
		}
	}
}

// invocation is one request of the runtime with one value in it.
type invocationBreakage struct {
	breakage
	endpoint, header, value string
}

// walkHeaders makes every breakage of a runtime operation's headers and of its
// endpoint's name, and the values that must pass.
func (s *tableService) walkHeaders(operation string) (found, accepted []invocationBreakage, w *walk) {
	input := s.Shapes[s.Operations[operation]]
	w = &walk{tableService: s, unbreakable: map[string]string{}}
	for _, member := range slices.Sorted(maps.Keys(input.Members)) {
		name, header := input.Members[member], input.Headers[member]
		if header == "" && member != "EndpointName" {
			w.unbreakable[name+".max"] = "the kind of endpoint limits a body"
			continue
		}
		one := func(b breakage, value any) invocationBreakage {
			i := invocationBreakage{breakage: b, endpoint: "e", header: header, value: fmt.Sprint(value)}
			if header == "" {
				i.endpoint = i.value
			}
			return i
		}
		path := pathOf("", member)
		for _, b := range w.breaking(name) {
			if b.value == "" {
				w.unbreakable[name+"."+b.constraint] = "an empty header is none"
				continue
			}
			message := sentence(w.items(name, path, b.value, b.rules))
			found = append(found, one(breakage{b.constraint, name, nil, "ValidationError", message}, b.value))
		}
		if s.Shapes[name].Type == "integer" {
			for value, kind := range map[string]string{"soon": "STRING", "true": "STRING", "{}": "STRING", `"60"`: "STRING", "2147483648": "NUMBER"} {
				message := kind + "_VALUE can not be converted to an Integer"
				found = append(found, one(breakage{"type", name, nil, "SerializationException", message}, value))
			}
		}
		for _, value := range w.limits(name) {
			accepted = append(accepted, one(breakage{}, value))
		}
	}
	// A path without a name reaches no operation, so this never comes by the wire.
	w.unbreakable[input.name+".required"] = "checked below without the wire"
	return found, accepted, w
}

var runtimeActions = map[string]string{
	"InvokeEndpoint": "invocations", "InvokeEndpointAsync": "async-invocations", "InvokeEndpointWithResponseStream": "invocations-response-stream",
	duplexOperation: "", // another server's; TestErrorsBeforeTheStream sends it
}

// The runtime answers with ValidationError what the control plane answers with
// ValidationException; the sentences are the same (seen in aws/aws-sdk-js#4203).
func TestEveryConstraintOfTheRuntimeIsHeldInAWSWords(t *testing.T) {
	_, table := readTable(t)
	e := serveEdge(t)
	hit, unbreakable, counts := map[string]string{}, map[string]string{}, map[string]int{}
	for operation, action := range runtimeActions {
		served := action != ""
		if served {
			probe := e.post(t, "/endpoints/e/"+action, nil, nil)
			served = probe.message != sdkcompat.NotImplemented.Sentence(operation)
		}
		found, accepted, w := table.walkHeaders(operation)
		maps.Copy(unbreakable, w.unbreakable)
		for _, b := range found {
			var got answer
			// A line's end cannot stand in a header.
			if served && !strings.Contains(b.value, "\n") {
				header := map[string]string{}
				if b.header != "" {
					header[b.header] = b.value
				}
				got = e.post(t, "/endpoints/"+b.endpoint+"/"+action, header, nil)
				counts["wire"]++
			} else {
				got = checked(t, b.check(operation))
				counts["direct"]++
			}
			if want := (answer{http.StatusBadRequest, b.code, b.message}); got != want {
				t.Errorf("%s %s of %s: %.100q\ngot  %v\nwant %v", operation, b.kind, b.shape, b.value, got, want)
			}
			hit[b.shape+"."+b.kind] = operation
			counts[b.kind]++
		}
		for _, b := range accepted {
			if err := b.check(operation); err != nil {
				t.Errorf("%s %s %.100q: %v", operation, b.header, b.value, err)
			}
			counts["accepted"]++
		}
		nameless := answer{http.StatusBadRequest, "ValidationError", "1 validation error detected: Value null at 'endpointName' failed to satisfy constraint: Member must not be null"}
		if got := checked(t, sdkcompat.CheckRuntime(operation, "", func(string) string { return "" })); got != nameless {
			t.Errorf("%s without a name: got %v", operation, got)
		}
	}
	reportWalk(t, table, hit, unbreakable, counts)
	atLeast(t, counts, map[string]int{"min": 2, "max": 25, "pattern": 25, "type": 10, "accepted": 60, "wire": 15})
}

// check is the same without the wire.
func (b *invocationBreakage) check(operation string) error {
	return sdkcompat.CheckRuntime(operation, b.endpoint, func(name string) string {
		if name == http.CanonicalHeaderKey(b.header) {
			return b.value
		}
		return ""
	})
}
