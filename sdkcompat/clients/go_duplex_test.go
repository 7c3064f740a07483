package clients_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

func TestBidirectionalStreamIsAFrameAPart(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "talking", workerContainer, 1)
	large := strings.Repeat("x", 1<<20)
	for name, open := range map[string]func(*testing.T, string, ...string) *duplexCall{"plain": c.converse, "signed over TLS": c.converseSigned} {
		t.Run(name, func(t *testing.T) {
			call := open(t, "talking")
			if h := call.resp.Header; call.resp.StatusCode != 200 || h.Get("Content-Type") != "application/vnd.amazon.eventstream" || h.Get("X-Amzn-Invoked-Production-Variant") != "AllTraffic" {
				t.Fatalf("%d %v", call.resp.StatusCode, h)
			}
			c.inFlight(t, "talking", 1)
			for _, test := range []struct {
				sent requestPart
				want string
			}{
				{requestPart{payload: "b"}, "opcode 2 fin true length 1 b"},
				{requestPart{"BINARY", "COMPLETE", "b"}, "opcode 2 fin true length 1 b"},
				{requestPart{"UTF8", "", "t"}, "opcode 1 fin true length 1 t"},
				{requestPart{"", "", ""}, "opcode 2 fin true length 0 "},
				{requestPart{"UTF8", "PARTIAL", "first"}, "opcode 1 fin false length 5 first"},
				{requestPart{"UTF8", "PARTIAL", ""}, "opcode 0 fin false length 0 "},
				{requestPart{"UTF8", "COMPLETE", "last"}, "opcode 0 fin true length 4 last"},
				{requestPart{"BINARY", "", large}, "opcode 2 fin true length 1048576 " + large[:20]},
			} {
				call.send(test.sent)
				call.expect("UTF8 COMPLETE " + test.want)
			}
			call.send(requestPart{"UTF8", "", "pieces 3"})
			call.expect("UTF8 PARTIAL piece 0", "UTF8 PARTIAL piece 1", "UTF8 COMPLETE piece 2")
			call.end()
			call.expect("end")
			c.inFlight(t, "talking", 0)
		})
	}
	call := c.converse(t, "talking", "X-Amzn-SageMaker-Model-Invocation-Path", "v1/listen", "X-Amzn-SageMaker-Model-Query-String", "model=nova-3&x=%41")
	call.send(requestPart{"UTF8", "", "target"})
	call.expect("UTF8 COMPLETE GET /v1/listen?model=nova-3&x=%41")
}

func TestErrorsOfBidirectionalStreams(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "breaking", workerContainer, 1)
	for _, test := range []struct{ asked, want string }{
		{"close 1011 out of memory", `ModelStreamError 1011 Container primary closed the WebSocket with code 1011 and reason "out of memory".`},
		{"close 1000 done", `ModelStreamError 1000 Container primary closed the WebSocket with code 1000 and reason "done".`},
		{"crash", "ModelStreamError StreamBroken The connection to container primary failed before its response was complete."},
	} {
		call := c.converse(t, "breaking")
		call.send(requestPart{"UTF8", "", test.asked})
		call.expect(test.want, "end")
		c.inFlight(t, "breaking", 0)
	}
	refused := func(endpoint string, status int, code, message string, headers ...string) {
		t.Helper()
		call := c.converse(t, endpoint, headers...)
		var body struct {
			Message, ErrorCode, OriginalMessage, LogStreamArn string
			OriginalStatusCode                                int
		}
		if err := json.NewDecoder(call.resp.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		if call.resp.StatusCode != status || call.resp.Header.Get("X-Amzn-Errortype") != code || !strings.HasPrefix(body.Message, message) {
			t.Errorf("%s: %d %s %+v", endpoint, call.resp.StatusCode, call.resp.Header.Get("X-Amzn-Errortype"), body)
		}
		if status == 424 && (body.OriginalStatusCode != 424 || body.ErrorCode != "INTERNAL_FAILURE_FROM_MODEL" || body.OriginalMessage != "Failed to establish WebSocket connection" || body.LogStreamArn == "") {
			t.Errorf("got %+v", body)
		}
	}
	refused("absent", 400, "InputValidationError", "Endpoint absent of account "+c.account+" not found.")
	eventually(t, waitLimit, func() error { // for the crashed instance's successor
		if _, err := c.invoke(t.Context(), "breaking", "echo x"); err != nil {
			return err
		}
		return nil
	})
	refused("breaking", 424, "ModelError", `Received server error (424) from primary with message "Failed to establish WebSocket connection". See `,
		"X-Amzn-SageMaker-Model-Invocation-Path", "nothing/here")
	c.createModel(t, "serverless", echoContainer)
	c.createEndpoint(t, "serverless", types.ProductionVariant{
		VariantName: aws.String("v"), ModelName: aws.String("serverless"),
		ServerlessConfig: &types.ProductionVariantServerlessConfig{MemorySizeInMB: aws.Int32(1024), MaxConcurrency: aws.Int32(1)},
	})
	c.awaitInService(t, "serverless")
	refused("serverless", 400, "InputValidationError", "Endpoint serverless does not support bidirectional streaming: it is serverless.")
	c.serveSeveral(t, "sequence", types.InferenceExecutionModeSerial, 1, echoContainer, echoContainer)
	refused("sequence", 400, "InputValidationError", "Endpoint sequence does not support bidirectional streaming: its models have several containers.")
}

// TestBidirectionalStreamKeepsWhoeverIsFasterWaiting: neither side can send more
// than the buffers of a connection hold while the other does not read.
func TestBidirectionalStreamKeepsWhoeverIsFasterWaiting(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "backpressure", workerContainer, 1)
	t.Run("container", func(t *testing.T) {
		call := c.converse(t, "backpressure")
		path := filepath.Join(t.TempDir(), "sent")
		call.send(requestPart{"UTF8", "", "flood " + path})
		if sent := settled(t, func() (int, error) {
			text, err := os.ReadFile(path)
			if err != nil {
				return 0, err
			}
			return strconv.Atoi(string(text))
		}); sent > 64<<20 {
			t.Errorf("the model could write %d bytes", sent)
		}
	})
	t.Run("caller", func(t *testing.T) {
		call := c.converse(t, "backpressure")
		gate := filepath.Join(t.TempDir(), "gate")
		call.send(requestPart{"UTF8", "", "wait " + gate})
		var sent atomic.Int64
		done := make(chan error, 1)
		const parts = 2048
		go func() {
			piece := strings.Repeat("y", 64<<10)
			for range parts {
				if err := call.write(requestPart{payload: piece}); err != nil {
					done <- err
					return
				}
				sent.Add(1)
			}
			done <- nil
		}()
		if n := settled(t, func() (int, error) { return int(sent.Load()), nil }); n == parts {
			t.Error("all of 128 MB were taken from the caller")
		}
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		call.expect("UTF8 COMPLETE waited")
		for range parts {
			if got := call.next(); !strings.HasPrefix(got, "UTF8 COMPLETE opcode 2 fin true length 65536") {
				t.Fatalf("got %s", got)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// settled is a number once it has not changed for a while.
func settled(t *testing.T, read func() (int, error)) int {
	t.Helper()
	last, still := -1, 0
	eventually(t, waitLimit, func() error {
		n, err := read()
		if err != nil {
			return err
		}
		if n != last {
			last, still = n, 0
		}
		if still++; still < 20 {
			return fmt.Errorf("it goes on: %d", n)
		}
		return nil
	})
	return last
}

func TestBidirectionalStreamEndsBeforeItsInstanceStops(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "draining", workerContainer, 1)
	call := c.converse(t, "draining")
	call.send(requestPart{payload: "a"})
	call.expect("UTF8 COMPLETE opcode 2 fin true length 1 a")
	c.delete(t, "draining")
	for range 3 {
		call.send(requestPart{payload: "b"})
		call.expect("UTF8 COMPLETE opcode 2 fin true length 1 b")
	}
	if got := c.describe(t, "draining").EndpointStatus; got != types.EndpointStatusDeleting {
		t.Errorf("got %s", got)
	}
	call.end()
	call.expect("end")
	c.awaitDeleted(t, "draining")
}

func TestCallerOfABidirectionalStreamWhoGoesAwayEndsItAtTheModel(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "left", workerContainer, 1)
	call := c.converse(t, "left")
	call.send(requestPart{payload: "a"})
	call.expect("UTF8 COMPLETE opcode 2 fin true length 1 a")
	if err := call.resp.Body.Close(); err != nil {
		t.Error(err)
	}
	c.inFlight(t, "left", 0)
	eventually(t, waitLimit, func() error {
		logs, err := filepath.Glob(filepath.Join(c.daemon.dir, "*", "logs", c.account, "*", "left", "*", "*"))
		if err != nil {
			return err
		}
		for _, log := range logs {
			if text, err := os.ReadFile(log); err == nil && strings.Contains(string(text), "socket closed with 1001") {
				return nil
			}
		}
		return fmt.Errorf("no Close frame in %q", logs)
	})
}

func TestSIGTERMEndsBidirectionalStreams(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, daemonOptions{})
	c := newGoClient(d)
	c.serve(t, "stopping", workerContainer, 1)
	call := c.converse(t, "stopping")
	call.send(requestPart{payload: "a"})
	call.expect("UTF8 COMPLETE opcode 2 fin true length 1 a")
	begun := time.Now()
	if err := d.terminate(); err != nil {
		t.Fatal(err)
	}
	call.expect("InternalStreamFailure  The request was canceled.", "end")
	if err := d.awaitStop(); err != nil {
		t.Error(err)
	}
	t.Logf("the stop took %v", time.Since(begun))
}

func TestPortOfBidirectionalStreams(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, daemonOptions{args: []string{"--http2-listen=off"}})
	if http2On.MatchString(d.stdout.String()) {
		t.Errorf("it printed %s", d.stdout.String())
	}
	taken := sharedDaemon(t).http2Address(t)
	if _, err := launchDaemon(daemonOptions{args: []string{"--http2-listen=" + taken}}); err == nil || !strings.Contains(err.Error(), "http2: listen tcp "+taken) {
		t.Errorf("got %v", err)
	}
	if _, err := launchDaemon(daemonOptions{args: []string{"--http2-certificate=a.pem"}}); err == nil || !strings.Contains(err.Error(), "go together") {
		t.Errorf("got %v", err)
	}
	here := startDaemon(t, daemonOptions{args: []string{"--http2-listen=127.0.0.1:0"}})
	c := newGoClient(here)
	c.serve(t, "simulated", echoContainer, 1)
	call := c.converseSigned(t, "simulated")
	call.send(requestPart{"UTF8", "PARTIAL", "a"}, requestPart{"UTF8", "", "b"})
	call.expect("UTF8 PARTIAL a", "UTF8 COMPLETE b")
	call.end()
	call.expect("end")
}
