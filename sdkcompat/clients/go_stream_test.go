package clients_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
)

type eventStream = sagemakerruntime.InvokeEndpointWithResponseStreamEventStream

// stream begins an InvokeEndpointWithResponseStream.
func (c *goClient) stream(ctx context.Context, name, body string) (*sagemakerruntime.InvokeEndpointWithResponseStreamOutput, error) {
	return c.runtime.InvokeEndpointWithResponseStream(ctx, &sagemakerruntime.InvokeEndpointWithResponseStreamInput{
		EndpointName: &name, ContentType: aws.String("text/plain"), Body: []byte(body),
	})
}

func (c *goClient) mustStream(t *testing.T, name, body string) (*eventStream, *sagemakerruntime.InvokeEndpointWithResponseStreamOutput) {
	t.Helper()
	out, err := c.stream(t.Context(), name, body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.GetStream().Close() })
	return out.GetStream(), out
}

// part is the next event's payload; false at the end.
func part(t *testing.T, s *eventStream) (string, bool) {
	t.Helper()
	event, ok := <-s.Events()
	if !ok {
		return "", false
	}
	payload, isPart := event.(*runtimetypes.ResponseStreamMemberPayloadPart)
	if !isPart {
		t.Fatalf("got %T", event)
	}
	return string(payload.Value.Bytes), true
}

// gate lets the test model send its pieces one by one.
func gate(t *testing.T) (path string, open func(i int)) {
	path = filepath.Join(t.TempDir(), "piece")
	return path, func(i int) {
		if err := os.WriteFile(path+strconv.Itoa(i), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
}

func TestStreamedPartsArriveAsTheModelSendsThem(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "streaming", workerContainer, 2)
	path, open := gate(t)
	open(0)
	s, out := c.mustStream(t, "streaming", "pieces 3 "+path)
	if aws.ToString(out.ContentType) != "text/plain" || aws.ToString(out.InvokedProductionVariant) != "AllTraffic" {
		t.Errorf("content type %q, variant %q", aws.ToString(out.ContentType), aws.ToString(out.InvokedProductionVariant))
	}
	for i := range 3 {
		if got, ok := part(t, s); !ok || got != fmt.Sprintf("piece %d\n", i) {
			t.Errorf("part %d is %q, %v", i, got, s.Err())
		}
		if i < 2 {
			c.inFlight(t, "streaming", 1)
		}
		open(i + 1)
	}
	if got, ok := part(t, s); ok || s.Err() != nil {
		t.Errorf("then %q, error %v", got, s.Err())
	}
	c.inFlight(t, "streaming", 0)
}

func TestErrorsOfStreams(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "failing-streams", workerContainer, 1)
	_, err := c.stream(t.Context(), "failing-streams", "status 400 no good")
	refused := asError[*runtimetypes.ModelError](t, err)
	if aws.ToInt32(refused.OriginalStatusCode) != 400 || aws.ToString(refused.OriginalMessage) != "no good" {
		t.Errorf("before the first byte: %d %q", aws.ToInt32(refused.OriginalStatusCode), aws.ToString(refused.OriginalMessage))
	}
	_, err = c.stream(t.Context(), "absent", "x")
	asError[*runtimetypes.ValidationError](t, err)

	s, _ := c.mustStream(t, "failing-streams", "broken 2")
	for i := range 2 {
		if got, _ := part(t, s); got != fmt.Sprintf("piece %d\n", i) {
			t.Errorf("part %d is %q", i, got)
		}
	}
	if got, ok := part(t, s); ok {
		t.Errorf("then %q", got)
	}
	broken := asError[*runtimetypes.ModelStreamError](t, s.Err())
	if aws.ToString(broken.ErrorCode_) != "StreamBroken" || !strings.HasPrefix(broken.ErrorMessage(), "The connection to container primary failed") {
		t.Errorf("in mid-stream: %q %q", aws.ToString(broken.ErrorCode_), broken.ErrorMessage())
	}
	c.inFlight(t, "failing-streams", 0)
}

// TestReaderWhoDoesNotReadKeepsTheModelWaiting: what the model could write is what
// the buffers of four sockets hold, of 256 MB.
func TestReaderWhoDoesNotReadKeepsTheModelWaiting(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "flood", workerContainer, 1)
	path := filepath.Join(t.TempDir(), "sent")
	s, _ := c.mustStream(t, "flood", "flood "+path)
	last, still := -1, 0
	eventually(t, waitLimit, func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sent, err := strconv.Atoi(string(text))
		if err != nil {
			return err
		}
		if sent != last {
			last, still = sent, 0
		}
		if still++; still < 20 {
			return fmt.Errorf("it goes on: %d bytes", sent)
		}
		return nil
	})
	if last > 64<<20 {
		t.Errorf("the model could write %d bytes", last)
	}
	read := 0
	for {
		got, ok := part(t, s)
		if !ok {
			break
		}
		read += len(got)
	}
	if read != 256<<20 || s.Err() != nil {
		t.Errorf("read %d bytes, error %v", read, s.Err())
	}
	t.Logf("the model could write %d KB ahead of its reader", last>>10)
}

func TestCallerOfAStreamWhoGoesAwayEndsIt(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "abandoned", workerContainer, 1)
	path := filepath.Join(t.TempDir(), "gone")
	s, _ := c.mustStream(t, "abandoned", "hang "+path)
	if got, _ := part(t, s); got != "begun\n" {
		t.Fatalf("got %q", got)
	}
	if err := s.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, waitLimit, func() error {
		_, err := os.Stat(path)
		return err
	})
	c.inFlight(t, "abandoned", 0)
}
