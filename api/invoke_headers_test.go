package api

import (
	"bufio"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

func TestInvokeHeadersAreWhatFasthttpWouldFind(t *testing.T) {
	for name, head := range map[string]string{
		"none":     "",
		"all":      "Content-Type: text/csv\r\nAccept: a/b\r\nAuthorization: x\r\nX-Amzn-SageMaker-Target-Variant: v\r\nX-Amzn-SageMaker-Inference-Id: i\r\n",
		"case":     "content-type: text/csv\r\nACCEPT: a/b\r\nx-amzn-sagemaker-custom-attributes: c\r\n",
		"twice":    "Accept: first\r\nAccept: second\r\nX-Amzn-SageMaker-Inference-Id: first\r\nX-Amzn-SageMaker-Inference-Id: second\r\nAuthorization: first\r\nAuthorization: second\r\n",
		"others":   "Cookie: a=b\r\nUser-Agent: u\r\nX-Amzn-Sagemaker: no\r\nX-Amz-Date: d\r\n",
		"nothing":  "Accept:\r\nX-Amzn-SageMaker-Target-Model:\r\n",
		"reserved": "X-Amzn-SageMaker-Target-Model: m\r\nX-Amzn-SageMaker-Session-Id: s\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var raw fasthttp.RequestHeader
			if err := raw.Read(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: h\r\n" + head + "\r\n"))); err != nil {
				t.Fatal(err)
			}
			h := invokeHeaders{accept: "of the last request", sagemaker: []invokeHeader{{"X-Amzn-Sagemaker-Inference-Id", "old"}}}
			h.read(&raw)
			names := []string{
				"Content-Type", "Accept", "X-Amzn-Sagemaker-Target-Variant", "X-Amzn-Sagemaker-Inference-Id",
				"X-Amzn-Sagemaker-Custom-Attributes", "X-Amzn-Sagemaker-Prefix-Aware-Id",
			}
			for _, refused := range unusableHeaders {
				names = append(names, refused.header)
			}
			for _, name := range names {
				if got, want := h.get(name), string(raw.Peek(name)); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if got, want := string(h.authorization), string(raw.Peek("Authorization")); got != want {
				t.Errorf("Authorization is %q, want %q", got, want)
			}
		})
	}
}
