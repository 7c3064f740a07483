package clients_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Of SageMaker Runtime HTTP2 there is no Go module, so this is its client: AWS's
// library for event streams and for signatures, over net/http's HTTP/2.

var http2On = regexp.MustCompile(`AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME_HTTP2=https://(\S+)`)

// http2Address is where the daemon takes bidirectional streams.
func (d *daemon) http2Address(t *testing.T) string {
	t.Helper()
	m := http2On.FindStringSubmatch(d.stdout.String())
	if m == nil {
		t.Fatalf("it printed %s", d.stdout.String())
	}
	return m[1]
}

// duplexCall is the caller's end of a bidirectional stream.
type duplexCall struct {
	*testing.T
	resp   *http.Response
	body   *io.PipeWriter
	signer *v4.StreamSigner // nil sends plain events
}

// requestPart is a PayloadPart to be sent.
type requestPart struct {
	dataType, state string
	payload         string
}

// converse opens a stream with plain events, without TLS.
func (c *goClient) converse(t *testing.T, endpoint string, headers ...string) *duplexCall {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	call, err := c.open(t, transport, "http", endpoint, false, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return call
}

// converseSigned opens one with signed events, over TLS, and trusts what the daemon
// says is to be trusted.
func (c *goClient) converseSigned(t *testing.T, endpoint string, headers ...string) *duplexCall {
	t.Helper()
	resp, err := http.Get("http://" + c.daemon.http2Address(t) + "/_sagelocal/certificate")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	authority, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	if !trust.AppendCertsFromPEM(authority) {
		t.Fatalf("got %s", authority)
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: trust}}
	t.Cleanup(transport.CloseIdleConnections)
	call, err := c.open(t, transport, "https", endpoint, true, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return call
}

func (c *goClient) open(t *testing.T, transport *http.Transport, scheme, endpoint string, signed bool, headers ...string) (*duplexCall, error) {
	t.Helper()
	r, w := io.Pipe()
	url := scheme + "://" + c.daemon.http2Address(t) + "/endpoints/" + endpoint + "/invocations-bidirectional-stream"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/vnd.amazon.eventstream")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	credentials := aws.Credentials{AccessKeyID: c.account, SecretAccessKey: "secret"}
	const payload = "STREAMING-AWS4-HMAC-SHA256-EVENTS"
	req.Header.Set("X-Amz-Content-Sha256", payload)
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, req, payload, "sagemaker", "us-east-1", time.Now()); err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		_ = w.Close()
		_ = resp.Body.Close()
	})
	call := &duplexCall{T: t, resp: resp, body: w}
	if signed {
		seed, err := v4.GetSignedRequestSignature(req)
		if err != nil {
			return nil, err
		}
		call.signer = v4.NewStreamSigner(credentials, "sagemaker", "us-east-1", seed)
	}
	return call, nil
}

func stringHeader(name, value string) eventstream.Header {
	return eventstream.Header{Name: name, Value: eventstream.StringValue(value)}
}

func (c *duplexCall) send(parts ...requestPart) {
	c.Helper()
	for _, p := range parts {
		if err := c.write(p); err != nil {
			c.Fatal(err)
		}
	}
}

func (c *duplexCall) write(p requestPart) error {
	m := eventstream.Message{Payload: []byte(p.payload), Headers: eventstream.Headers{
		stringHeader(eventstreamapi.MessageTypeHeader, "event"), stringHeader(eventstreamapi.EventTypeHeader, "PayloadPart"),
		stringHeader(eventstreamapi.ContentTypeHeader, "application/octet-stream"),
	}}
	if p.dataType != "" {
		m.Headers = append(m.Headers, stringHeader("DataType", p.dataType))
	}
	if p.state != "" {
		m.Headers = append(m.Headers, stringHeader("CompletionState", p.state))
	}
	var b bytes.Buffer
	if err := eventstream.NewEncoder().Encode(&b, m); err != nil {
		return err
	}
	return c.emit(b.Bytes())
}

// emit sends an encoded event, or the empty last one, in its envelope if events are
// signed.
func (c *duplexCall) emit(event []byte) error {
	if c.signer != nil {
		now := time.Now().UTC()
		headers := eventstream.Headers{{Name: eventstreamapi.DateHeader, Value: eventstream.TimestampValue(now)}}
		var b bytes.Buffer
		if err := eventstream.EncodeHeaders(&b, headers); err != nil {
			return err
		}
		signature, err := c.signer.GetSignature(c.Context(), b.Bytes(), event, now)
		if err != nil {
			return err
		}
		headers = append(headers, eventstream.Header{Name: eventstreamapi.ChunkSignatureHeader, Value: eventstream.BytesValue(signature)})
		b.Reset()
		if err := eventstream.NewEncoder().Encode(&b, eventstream.Message{Headers: headers, Payload: event}); err != nil {
			return err
		}
		event = b.Bytes()
	}
	_, err := c.body.Write(event)
	return err
}

// end says that no more comes.
func (c *duplexCall) end() {
	c.Helper()
	if c.signer != nil {
		if err := c.emit(nil); err != nil {
			c.Error(err)
		}
	}
	if err := c.body.Close(); err != nil {
		c.Error(err)
	}
}

// next shows an event: DataType, CompletionState and payload, or an exception's
// name, ErrorCode and Message; "end" at the end.
func (c *duplexCall) next() string {
	c.Helper()
	m, err := eventstream.NewDecoder().Decode(c.resp.Body, nil)
	if err == io.EOF {
		return "end"
	}
	if err != nil {
		return err.Error()
	}
	if name := m.Headers.Get(eventstreamapi.ExceptionTypeHeader); name != nil {
		var e struct{ Message, ErrorCode string }
		if err := json.Unmarshal(m.Payload, &e); err != nil {
			c.Errorf("%s: %v", m.Payload, err)
		}
		return strings.Join([]string{name.String(), e.ErrorCode, e.Message}, " ")
	}
	if kind := m.Headers.Get(eventstreamapi.EventTypeHeader); kind == nil || kind.String() != "PayloadPart" {
		c.Errorf("got %+v", m.Headers)
	}
	if m.Headers.Get("DataType") == nil || m.Headers.Get("CompletionState") == nil {
		return fmt.Sprintf("%+v", m.Headers)
	}
	payload := string(m.Payload)
	if len(payload) > 100 {
		sum := sha256.Sum256(m.Payload)
		payload = fmt.Sprintf("%d bytes %s", len(payload), hex.EncodeToString(sum[:4]))
	}
	return strings.Join([]string{m.Headers.Get("DataType").String(), m.Headers.Get("CompletionState").String(), payload}, " ")
}

func (c *duplexCall) expect(events ...string) {
	c.Helper()
	for _, want := range events {
		if got := c.next(); got != want {
			c.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
