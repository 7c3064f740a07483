package api

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

const streamOperation = "InvokeEndpointWithResponseStream"

// stream is InvokeEndpointWithResponseStream. AWS page:
// API_runtime_InvokeEndpointWithResponseStream.
func (r *runtime) stream(ctx *fasthttp.RequestCtx, name []byte) error {
	l := newLive()
	h := &l.headers
	h.read(&ctx.Request.Header)
	if err := h.check(streamOperation, name); err != nil {
		return err
	}
	scope := r.scopes.of(h.authorization)
	key := dataplane.Key{Account: scope.Account, Region: scope.Region, Name: strings.ToLower(text(name))}
	h.fill(&l.req, streamOperation, ctx.PostBody(), streamTimeout)
	l.req.Accept = h.get("X-Amzn-Sagemaker-Accept")
	id := string(ctx.Response.Header.Peek(requestIDHeader))
	l.form = &events{encoder: eventstream.NewEncoder(), failed: func(err error) *sdkcompat.Error {
		return streamError(r.log, err, id, l.route.Container)
	}}

	l.start(ctx, r, key)
	setRoute(&ctx.Response.Header, &l.route)
	if !l.accepted() || l.err != nil && l.empty() {
		ans := dataplane.Answer{StatusCode: l.head.StatusCode, Body: l.refused}
		return invokeError(ctx, &l.req, &ans, l.err, scope, text(name), l.route)
	}
	head := &ctx.Response.Header
	head.SetContentType("application/vnd.amazon.eventstream")
	if ct := l.head.ContentType; ct != "" {
		head.Set("X-Amzn-Sagemaker-Content-Type", ct)
	}
	if a := l.head.CustomAttributes; a != "" {
		head.Set("X-Amzn-Sagemaker-Custom-Attributes", a)
	}
	l.respond(ctx)
	return nil
}

// streamError is what becomes of an answer that breaks after it has begun. Its
// ErrorCode is one of the two that the service model has.
func streamError(log *slog.Logger, err error, id, container string) *sdkcompat.Error {
	failed := func(m *sdkcompat.Message, code string) *sdkcompat.Error {
		e := m.Error(container)
		e.Members = map[string]any{"ErrorCode": code}
		return e
	}
	switch {
	case errors.Is(err, dataplane.ErrTimeout):
		return failed(sdkcompat.StreamTimedOut, "ModelInvocationTimeExceeded")
	case errors.Is(err, dataplane.ErrBroken):
		return failed(sdkcompat.StreamBroken, "StreamBroken")
	case canceled(err):
		return sdkcompat.StreamCanceled.Error()
	}
	e := shown(log, err, id, "runtime stream")
	e.Code = sdkcompat.StreamCanceled.Code
	return e
}

// maxFrame is the largest payload of one frame; AWS's library takes up to 16 MB.
const maxFrame = 1 << 20

// events puts an answer as an event stream: one PayloadPart for each piece.
type events struct {
	encoder *eventstream.Encoder
	frame   []byte // what comes before a payload, and the checksum after it
	failed  func(error) *sdkcompat.Error
}

// The headers that AWS's clients decode a frame by.
var payloadPart = eventstream.Headers{
	{Name: eventstreamapi.MessageTypeHeader, Value: eventstream.StringValue(eventstreamapi.EventMessageType)},
	{Name: eventstreamapi.EventTypeHeader, Value: eventstream.StringValue("PayloadPart")},
	{Name: eventstreamapi.ContentTypeHeader, Value: eventstream.StringValue("application/octet-stream")},
}

// payloadPartHeaders is what AWS's library makes of them, once: its encoder takes
// 19 allocations and a microsecond for a frame, and a token is a frame.
var payloadPartHeaders = sync.OnceValues(func() ([]byte, error) {
	var b bytes.Buffer
	err := eventstream.EncodeHeaders(&b, payloadPart)
	return b.Bytes(), err
})

func (e *events) piece(out *bytes.Buffer, p []byte) error {
	headers, err := payloadPartHeaders()
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	for len(p) > 0 {
		part := p[:min(len(p), maxFrame)]
		p = p[len(part):]
		e.frame = appendFrame(e.frame[:0], headers, part)
		out.Write(e.frame)
		out.Write(part)
		out.Write(binary.BigEndian.AppendUint32(e.frame[:0], crc32.Update(crc32.ChecksumIEEE(e.frame), crc32.IEEETable, part)))
	}
	return nil
}

// appendFrame appends what a message has before its payload: its length, that of
// its headers, their checksum, and the headers.
func appendFrame(b, headers, payload []byte) []byte {
	const prelude, checksum = 12, 4
	b = binary.BigEndian.AppendUint32(b, uint32(prelude+len(headers)+len(payload)+checksum))
	b = binary.BigEndian.AppendUint32(b, uint32(len(headers)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[len(b)-8:]))
	return append(b, headers...)
}

// failure is an exception frame. As an event boto3 would pass over it in silence.
func (e *events) failure(out *bytes.Buffer, err error) error {
	failed := e.failed(err)
	body := struct {
		Message   string
		ErrorCode any `json:",omitempty"`
	}{failed.Message, failed.Members["ErrorCode"]}
	payload, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode exception: %w", err)
	}
	return e.encoder.Encode(out, eventstream.Message{
		Headers: eventstream.Headers{
			{Name: eventstreamapi.MessageTypeHeader, Value: eventstream.StringValue(eventstreamapi.ExceptionMessageType)},
			{Name: eventstreamapi.ExceptionTypeHeader, Value: eventstream.StringValue(failed.Code)},
			{Name: eventstreamapi.ContentTypeHeader, Value: eventstream.StringValue("application/json")},
		},
		Payload: payload,
	})
}
