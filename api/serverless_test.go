package api

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

func TestServerlessFailuresAreAWSErrors(t *testing.T) {
	route := dataplane.Route{Variant: "v", Container: "primary"}
	for _, tc := range []struct {
		err    error
		code   string
		status int
		body   string // all of it, unless empty
	}{
		{dataplane.ErrThrottled, "ThrottlingException", 400, `{"message":null}`},
		{fmt.Errorf("%w: %w", dataplane.ErrProvisioning, dataplane.ErrCapacity), "ModelNotReadyException", 429, `{"ErrorCode":"MODEL_NOT_READY","Message":"` + sdkcompat.EnvironmentNotReady.Sentence("v", "e") + `"}`},
		{fmt.Errorf("%w: %w", dataplane.ErrColdStart, dataplane.ErrPing), "ModelError", 424, ""},
		{dataplane.ErrSessionOfServerless, "ValidationError", 400, ""},
		{dataplane.ErrServerlessAnswer, "ModelError", 424, ""},
		{dataplane.ErrPayload, "RequestEntityTooLargeException", 413, `{"message":"` + sdkcompat.ServerlessPayload.Sentence(4<<20) + `"}`},
	} {
		err := invokeError(new(fasthttp.RequestCtx), new(dataplane.Request), new(dataplane.Answer), tc.err, benchScope, "e", route)
		var e *sdkcompat.Error
		if !errors.As(err, &e) || e.Code != tc.code || e.Status != tc.status {
			t.Errorf("%v: got %v, want %s with status %d", tc.err, err, tc.code, tc.status)
			continue
		}
		if body := string(e.AppendRuntime(nil)); tc.body != "" && body != tc.body {
			t.Errorf("%v: got %s, want %s", tc.err, body, tc.body)
		}
	}
}

func TestColdStartHeaderIsInMilliseconds(t *testing.T) {
	for waited, want := range map[time.Duration]string{0: "", time.Microsecond: "1", 2 * time.Second: "2000", 2*time.Second + 1: "2001"} {
		var h fasthttp.ResponseHeader
		setRoute(&h, &dataplane.Route{ColdStart: waited})
		if got := string(h.Peek("X-Sagelocal-Cold-Start-Ms")); got != want {
			t.Errorf("%v: got %q, want %q", waited, got, want)
		}
	}
}
