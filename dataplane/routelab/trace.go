package routelab

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/sagelocal/sagelocal/dataplane"
)

// maxTraceLine is a body of 25 MB, InvokeEndpoint's limit, in JSON's longest form.
const maxTraceLine = 6*25<<20 + 1<<10

// ReadTrace reads arrivals, one JSON object a line:
//
//	{"at_seconds": 0.25, "body": "text, or any JSON value", "content_type": "text/csv"}
//
// A body that is a string is sent as its text, another value as JSON. Lines of
// captured data (docs: model-monitor-data-capture-endpoint) are read too, see
// fromCapture. Lines may be out of order. An error names the line.
func ReadTrace(r io.Reader, contentType string) ([]Arrival, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxTraceLine)
	var arrivals []Arrival
	var captured []dataplane.CapturedLine
	number := 0
	for lines.Scan() {
		number++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var l dataplane.CapturedLine
		if err := json.Unmarshal(lines.Bytes(), &l); err == nil && l.CaptureData != nil {
			captured = append(captured, l)
			continue
		}
		a, err := decodeArrival(lines.Bytes(), contentType)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		arrivals = append(arrivals, a)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("after line %d: %w", number, err)
	}
	switch {
	case len(arrivals) == 0 && len(captured) == 0:
		return nil, errors.New("no arrivals")
	case len(arrivals) == 0:
		return fromCapture(captured, contentType)
	case len(captured) > 0:
		return nil, errors.New("captured data among other lines")
	}
	slices.SortStableFunc(arrivals, func(a, b Arrival) int { return cmp.Compare(a.At, b.At) })
	return arrivals, nil
}

type traceLine struct {
	AtSeconds   *float64        `json:"at_seconds"`
	Body        json.RawMessage `json:"body"`
	ContentType string          `json:"content_type"`
}

func decodeArrival(line []byte, contentType string) (Arrival, error) {
	var l traceLine
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return Arrival{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Arrival{}, errors.New("more than one value")
	}
	if l.AtSeconds == nil {
		return Arrival{}, errors.New("at_seconds is missing")
	}
	if *l.AtSeconds < 0 {
		return Arrival{}, fmt.Errorf("at_seconds %v is negative", *l.AtSeconds)
	}
	a := Arrival{At: seconds(*l.AtSeconds), Request: Request{ContentType: cmp.Or(l.ContentType, contentType)}}
	switch {
	case len(l.Body) == 0 || string(l.Body) == "null":
	case l.Body[0] == '"':
		var text string
		if err := json.Unmarshal(l.Body, &text); err != nil {
			return Arrival{}, err
		}
		a.Request.Body = []byte(text)
	default:
		a.Request.Body = l.Body
		a.Request.ContentType = cmp.Or(l.ContentType, "application/json")
	}
	return a, nil
}
