package dataplane

import (
	"encoding/base64"
	"fmt"
	"time"
)

// CapturedLine is a line of a file of captured data, of AWS or of a Capture (docs:
// model-monitor-data-capture-endpoint).
type CapturedLine struct {
	CaptureData   *CapturedData    `json:"captureData"`
	EventMetadata CapturedMetadata `json:"eventMetadata"`
	Timing        *CaptureTiming   `json:"sagelocal"`
}

// CapturedData is what was asked and what was answered; either may not have been
// captured.
type CapturedData struct {
	EndpointInput, EndpointOutput *CapturedPayload
}

// CapturedPayload is a body as it stands in a line.
type CapturedPayload struct {
	ObservedContentType, Mode, Data, Encoding string
}

// Bytes is the body itself.
func (p *CapturedPayload) Bytes() ([]byte, error) {
	if p.Encoding != "BASE64" {
		return []byte(p.Data), nil
	}
	b, err := base64.StdEncoding.DecodeString(p.Data)
	if err != nil {
		return nil, fmt.Errorf("captured data: %w", err)
	}
	return b, nil
}

// CapturedMetadata is what is known of the request.
type CapturedMetadata struct {
	CustomAttributes     []string
	EventID, InferenceID string
	InferenceTime        time.Time // in whole seconds
}

// CaptureTiming is what Captures.Timings adds.
type CaptureTiming struct {
	Start    float64 `json:"start_seconds"` // since 1970
	Latency  float64 `json:"latency_seconds"`
	Instance string  `json:"instance"`
}
