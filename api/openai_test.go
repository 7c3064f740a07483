package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

const chatPath = "openai/v1/chat/completions"

// bearerToken is valid now and works in the tests' account and region.
func bearerToken() string {
	url := fmt.Sprintf("sagemaker.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Algorithm=AWS4-HMAC-SHA256"+
		"&X-Amz-Credential=%s%%2F20261123%%2F%s%%2Fsagemaker%%2Faws4_request&X-Amz-Date=%s&X-Amz-Expires=300"+
		"&X-Amz-SignedHeaders=host&X-Amz-Signature=0&Version=1",
		benchScope.Account, benchScope.Region, time.Now().UTC().Format("20060102T150405Z"))
	return "Bearer sagemaker-api-key-" + base64.StdEncoding.EncodeToString([]byte(url))
}

func TestChatCompletionsReachTheContainerUnchangedAndComeBackAsTheyCome(t *testing.T) {
	next := make(chan struct{})
	_, _, address := serveStream(t, func(_ context.Context, req *dataplane.Request, to dataplane.Sink) error {
		if req.Path != "/v1/chat/completions" || string(req.Body) != "x" || req.ContentType != "application/json" || req.Accept != "text/event-stream" {
			t.Errorf("the worker got %+v", req)
		}
		if err := to.Begin(&dataplane.Answer{StatusCode: 200, ContentType: "text/event-stream; charset=utf-8"}); err != nil {
			return err
		}
		for _, p := range []string{"data: {}\n\n", "data: [DONE]\n\n"} {
			if err := errors.Join(write(to, p), to.Flush()); err != nil {
				return err
			}
			<-next
		}
		return nil
	})
	resp := asking(t, address, chatPath, "Authorization", bearerToken(), "Content-Type", "application/json", "Accept", "text/event-stream")
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" || resp.ContentLength >= 0 {
		t.Errorf("content type %q, length %d", got, resp.ContentLength)
	}
	for _, want := range []string{"data: {}\n\n", "data: [DONE]\n\n"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); string(got) != want || err != nil {
			t.Errorf("got %q, error %v", got, err)
		}
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("then %q, error %v", rest, err)
	}
}

func TestWholeChatCompletionHasItsLength(t *testing.T) {
	_, _, address := serveStream(t, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error {
		return (&dataplane.Answer{StatusCode: 201, ContentType: "application/json", Body: []byte(`{"choices":[]}`)}).PassOn(to)
	})
	resp := asking(t, address, chatPath, "Authorization", bearerToken())
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 201 || resp.ContentLength != 14 || string(body) != `{"choices":[]}` || err != nil {
		t.Errorf("status %d, length %d, %q, error %v", resp.StatusCode, resp.ContentLength, body, err)
	}
}

func TestChatErrorsHaveTheShapeThatOpenAIClientsDecode(t *testing.T) {
	_, _, address := serveStream(t, func(_ context.Context, req *dataplane.Request, to dataplane.Sink) error {
		switch req.ContentType {
		case "broken":
			return dataplane.ErrBroken
		case "failing":
			return (&dataplane.Answer{StatusCode: 503, Body: []byte("busy")}).PassOn(to)
		}
		return (&dataplane.Answer{StatusCode: 400, Body: []byte(`{"error":{"message":"no <tools>"}}`)}).PassOn(to)
	})
	const signed = "AWS4-HMAC-SHA256 Credential=123456789012/20261123/us-east-1/sagemaker/aws4_request, SignedHeaders=host, Signature=0"
	for name, tc := range map[string]struct {
		path    string
		headers []string
		status  int
		says    string
	}{
		"no token":              {chatPath, nil, 401, `"type":"invalid_request_error","code":"missing_authentication_token"`},
		"Basic":                 {chatPath, []string{"Authorization", "Basic eDp5"}, 401, `"code":"missing_authentication_token"`},
		"an OpenAI key":         {chatPath, []string{"Authorization", "Bearer sk-0"}, 401, `"code":"unrecognized_client"`},
		"a signature":           {chatPath, []string{"Authorization", signed}, 403, `"code":"access_denied"`},
		"component in a header": {chatPath, []string{"Authorization", bearerToken(), "X-Amzn-SageMaker-Inference-Component", "c"}, 400, `"code":"validation_error"`},
		"component of another kind of endpoint": {
			"inference-components/c/" + chatPath,
			[]string{"Authorization", bearerToken()},
			400, `{"error":{"message":"Inference Component Name header is not allowed`,
		},
		"component's name": {
			"inference-components/-c/" + chatPath,
			[]string{"Authorization", bearerToken()},
			400, `Value '-c' at 'inferenceComponentName' failed`,
		},
		"the container refuses": {
			chatPath,
			[]string{"Authorization", bearerToken()},
			400,
			`{"error":{"message":"Received client error (400) from primary with message \"{\"error\":{\"message\":\"no <tools>\"}}\". See https://`,
		},
		"the container fails":           {chatPath, []string{"Authorization", bearerToken(), "Content-Type", "failing"}, 503, `"type":"server_error","code":"model_error"`},
		"the container does not answer": {chatPath, []string{"Authorization", bearerToken(), "Content-Type", "broken"}, 424, `"type":"server_error","code":"model_error"`},
	} {
		t.Run(name, func(t *testing.T) {
			resp := asking(t, address, tc.path, tc.headers...)
			body, err := io.ReadAll(resp.Body)
			text := strings.ReplaceAll(string(body), `\"`, `"`)
			want := strings.ReplaceAll(tc.says, `\"`, `"`)
			if resp.StatusCode != tc.status || !strings.Contains(text, want) || err != nil {
				t.Errorf("status %d, %s, error %v", resp.StatusCode, body, err)
			}
		})
	}
}

func TestUnknownOpenAIPathsAreUnknown(t *testing.T) {
	_, _, address := serveStream(t, nil)
	for _, path := range []string{"openai/v1/completions", "inference-components//" + chatPath, "inference-components/c/d/" + chatPath, "openai/v1/chat/completions/x"} {
		if resp := asking(t, address, path, "Authorization", bearerToken()); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
}

func TestServerSentEventsThatBreakEndInAnErrorEvent(t *testing.T) {
	contentType := "text/event-stream"
	_, _, address := serveStream(t, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error {
		return errors.Join(to.Begin(&dataplane.Answer{StatusCode: 200, ContentType: contentType}), write(to, "data: {"), to.Flush(), dataplane.ErrBroken)
	})
	resp := asking(t, address, chatPath, "Authorization", bearerToken())
	body, err := io.ReadAll(resp.Body)
	const want = "data: {\n\ndata: {\"error\":{\"message\":\"The connection to container primary failed before its response was complete.\"," +
		"\"type\":\"server_error\",\"code\":\"model_stream_error\"}}\n\n"
	if string(body) != want || err != nil {
		t.Errorf("got %q, error %v", body, err)
	}
	contentType = "application/json"
	resp = asking(t, address, chatPath, "Authorization", bearerToken())
	if body, err := io.ReadAll(resp.Body); string(body) != "data: {" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, error %v: a broken answer must not look whole", body, err)
	}
}
