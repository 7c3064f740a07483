package clients_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
)

// The simulated worker answers a session that it did not begin itself with 400,
// so a request that goes astray shows.
const statefulConfig = `
images:
  - image: "*"
    simulated: {sessions: 20m, answer: {template: {text: "{{.InstanceID}}"}}}
`

func TestStatefulSessionsStickUntilTheyAreClosed(t *testing.T) {
	t.Parallel()
	d := limitedDaemon(t, statefulConfig)
	c := newGoClient(d)
	c.serve(t, "e", echoContainer, 4)
	invoke := func(session, body string) (*sagemakerruntime.InvokeEndpointOutput, error) {
		return c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{
			EndpointName: aws.String("e"), SessionId: &session, Body: []byte(body),
		})
	}
	homes, last := map[string]bool{}, ""
	for range 12 {
		begun, err := invoke("NEW_SESSION", "{}")
		if err != nil {
			t.Fatal(err)
		}
		id, rest, _ := strings.Cut(aws.ToString(begun.NewSessionId), "; Expires=")
		until, err := time.Parse(time.RFC3339, rest)
		if id == "" || err != nil || time.Until(until) < 19*time.Minute || time.Until(until) > 20*time.Minute {
			t.Fatalf("NewSessionId %q: %v", aws.ToString(begun.NewSessionId), err)
		}
		for range 5 {
			if out, err := invoke(id, "{}"); err != nil || string(out.Body) != string(begun.Body) || out.NewSessionId != nil {
				t.Fatalf("session of %s: %+v, %v", begun.Body, out, err)
			}
		}
		homes[string(begun.Body)], last = true, id
	}
	if len(homes) < 2 {
		t.Errorf("twelve sessions began on %v; four instances share them at random", homes)
	}

	stream, err := c.runtime.InvokeEndpointWithResponseStream(t.Context(), &sagemakerruntime.InvokeEndpointWithResponseStreamInput{
		EndpointName: aws.String("e"), SessionId: &last, Body: []byte("{}"),
	})
	if err != nil {
		t.Fatalf("a stream in a session: %v", err)
	}
	stream.GetStream().Close()

	out, err := invoke(last, `{"requestType": "CLOSE"}`)
	if err != nil || aws.ToString(out.ClosedSessionId) != last {
		t.Fatalf("close: %+v, %v", out, err)
	}
	_, err = invoke(last, "{}")
	var refused *types.ValidationError
	if want := "Endpoint e has no such session: it has expired, was closed, or ended with its instance."; !errors.As(err, &refused) || refused.ErrorMessage() != want {
		t.Errorf("after the close: %v", err)
	}
	_, err = c.runtime.InvokeEndpointWithResponseStream(t.Context(), &sagemakerruntime.InvokeEndpointWithResponseStreamInput{
		EndpointName: aws.String("e"), SessionId: aws.String("NEW_SESSION"), Body: []byte("{}"),
	})
	if err == nil || !strings.Contains(err.Error(), "ValidationError") {
		t.Errorf("a stream that begins a session: %v", err)
	}
}
