package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"

	"github.com/sagelocal/sagelocal/dataplane"
)

// errEvent: what the caller sends is no stream of PayloadPart events.
var errEvent = errors.New("invalid event")

// The headers of a PayloadPart beside those of every event, in both directions
// (the model of SageMaker Runtime HTTP2). P is padding, and means nothing.
const (
	dataTypeHeader   = "DataType"
	completionHeader = "CompletionState"

	dataUTF8, dataBinary      = "UTF8", "BINARY"
	statePartial, stateWhole  = "PARTIAL", "COMPLETE"
	keptEvent, requestBuffers = 1 << 20, 16 << 10
)

// requestEvents reads a caller's events.
type requestEvents struct {
	r       *bufio.Reader
	decoder *eventstream.Decoder
	outer   []byte
	inner   []byte
}

func newRequestEvents(body io.Reader) *requestEvents {
	return &requestEvents{r: bufio.NewReaderSize(body, requestBuffers), decoder: eventstream.NewDecoder()}
}

// next is the next event, or io.EOF. SDKs that sign events put each into the
// payload of a message with its date and signature, and end with one that is
// empty; plain ones are taken as well, for no signature is verified.
func (e *requestEvents) next() (dataplane.Frame, error) {
	if _, err := e.r.Peek(1); err != nil {
		return dataplane.Frame{}, err // io.EOF between events is the end
	}
	m, err := e.decode(e.r, &e.outer)
	if err != nil {
		return dataplane.Frame{}, err
	}
	if m.Headers.Get(eventstreamapi.ChunkSignatureHeader) != nil {
		if len(m.Payload) == 0 {
			return dataplane.Frame{}, io.EOF
		}
		inner := bytes.NewReader(m.Payload)
		if m, err = e.decode(inner, &e.inner); err != nil {
			return dataplane.Frame{}, err
		}
		if inner.Len() > 0 {
			return dataplane.Frame{}, fmt.Errorf("%w: a signed message holds more than one event", errEvent)
		}
	}
	return framed(&m)
}

// decode reads one message; its payload is in the buffer, which grows with what
// comes and is kept unless it has become large.
func (e *requestEvents) decode(r io.Reader, buffer *[]byte) (eventstream.Message, error) {
	m, err := e.decoder.Decode(r, *buffer)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return m, fmt.Errorf("%w: %w", errEvent, err)
	}
	if *buffer = m.Payload; cap(*buffer) > keptEvent {
		*buffer = nil
	}
	return m, nil
}

// framed is the frame that a PayloadPart stands for.
func framed(m *eventstream.Message) (f dataplane.Frame, err error) {
	kind, name := m.Headers.Get(eventstreamapi.MessageTypeHeader), m.Headers.Get(eventstreamapi.EventTypeHeader)
	if !is(kind, eventstreamapi.EventMessageType) || !is(name, "PayloadPart") {
		return f, fmt.Errorf("%w: %v %v is not an event PayloadPart", errEvent, kind, name)
	}
	f.Payload = m.Payload
	if f.Text, err = choice(m.Headers, dataTypeHeader, dataUTF8, dataBinary); err != nil {
		return f, err
	}
	f.Partial, err = choice(m.Headers, completionHeader, statePartial, stateWhole)
	return f, err
}

// choice tells whether a header has the one value that is not its default.
func choice(headers eventstream.Headers, name, marked, fallback string) (bool, error) {
	switch v := headers.Get(name); {
	case v == nil, is(v, fallback):
		return false, nil
	case is(v, marked):
		return true, nil
	default:
		return false, fmt.Errorf("%w: %s is %.20q, not %s or %s", errEvent, name, v.String(), marked, fallback)
	}
}

func is(v eventstream.Value, text string) bool {
	s, ok := v.(eventstream.StringValue)
	return ok && string(s) == text
}

// responseHeaders are the headers of a PayloadPart to a caller, by whether it is
// text and partial, as AWS's library encodes them.
var responseHeaders = sync.OnceValues(func() (all [2][2][]byte, err error) {
	for text, dataType := range []string{dataBinary, dataUTF8} {
		for partial, state := range []string{stateWhole, statePartial} {
			headers := append(payloadPart[:len(payloadPart):len(payloadPart)],
				eventstream.Header{Name: dataTypeHeader, Value: eventstream.StringValue(dataType)},
				eventstream.Header{Name: completionHeader, Value: eventstream.StringValue(state)})
			var b bytes.Buffer
			if err := eventstream.EncodeHeaders(&b, headers); err != nil {
				return all, fmt.Errorf("encode event: %w", err)
			}
			all[text][partial] = b.Bytes()
		}
	}
	return all, nil
})
