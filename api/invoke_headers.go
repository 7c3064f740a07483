package api

import (
	"cmp"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// invokeHeaders are the headers of an invocation that mean something, taken from
// the request in one pass: every look-up in fasthttp's is a search of its own.
// They are views of the connection's buffer.
type invokeHeaders struct {
	contentType   string
	accept        string
	authorization []byte
	sagemaker     []invokeHeader
}

// invokeHeader is one of the X-Amzn-Sagemaker- headers; the name is canonical.
type invokeHeader struct{ name, value string }

const sagemakerPrefix = "X-Amzn-Sagemaker-"

// read replaces what the last request left. Of a header that comes twice the
// first counts, as in fasthttp's Peek.
func (h *invokeHeaders) read(from *fasthttp.RequestHeader) {
	*h = invokeHeaders{contentType: text(from.ContentType()), sagemaker: h.sagemaker[:0]}
	for name, value := range from.All() {
		switch n := text(name); {
		case n == "Accept" && h.accept == "":
			h.accept = text(value)
		case n == "Authorization" && len(h.authorization) == 0:
			h.authorization = value
		case strings.HasPrefix(n, sagemakerPrefix):
			h.sagemaker = append(h.sagemaker, invokeHeader{n, text(value)})
		}
	}
}

// get is a header's value by canonical name; empty when it is absent.
func (h *invokeHeaders) get(name string) string {
	switch name {
	case "Content-Type":
		return h.contentType
	case "Accept":
		return h.accept
	}
	for i := range h.sagemaker {
		if h.sagemaker[i].name == name {
			return h.sagemaker[i].value
		}
	}
	return ""
}

// check holds the constraints of the service model and refuses the members that
// only kinds of endpoints use that are not built yet.
func (h *invokeHeaders) check(operation string, endpoint []byte) error {
	if err := sdkcompat.CheckRuntime(operation, text(endpoint), h.get); err != nil {
		return err
	}
	if len(h.sagemaker) == 0 {
		return nil
	}
	for _, refused := range &unusableHeaders {
		if h.get(refused.header) != "" {
			return refused.message.Error(cmp.Or(refused.what, string(endpoint)))
		}
	}
	return nil
}

// fill makes the request of an operation that the headers describe.
func (h *invokeHeaders) fill(req *dataplane.Request, operation string, body []byte, timeout time.Duration) {
	*req = dataplane.Request{
		Operation:        operation,
		ContentType:      h.contentType,
		Accept:           h.accept,
		CustomAttributes: h.get("X-Amzn-Sagemaker-Custom-Attributes"),
		InferenceID:      h.get("X-Amzn-Sagemaker-Inference-Id"),
		PrefixAwareID:    h.get("X-Amzn-Sagemaker-Prefix-Aware-Id"),
		SessionID:        h.get("X-Amzn-Sagemaker-Session-Id"),
		TargetVariant:    h.get("X-Amzn-Sagemaker-Target-Variant"),
		TargetContainer:  h.get("X-Amzn-Sagemaker-Target-Container-Hostname"),
		TargetModel:      h.get("X-Amzn-Sagemaker-Target-Model"),
		Body:             body,
		Timeout:          timeout,

		InferenceComponentName: h.get(componentHeader),
	}
}

// unusableHeaders name what no endpoint here can be yet, with AWS's sentence for
// an endpoint that is not of that kind where one is known. The sentence is about
// what, or about the endpoint.
var unusableHeaders = [...]struct {
	header  string
	message *sdkcompat.Message
	what    string
}{
	{"X-Amzn-Sagemaker-Enable-Explanations", sdkcompat.NotImplemented, "EnableExplanations"},
}
