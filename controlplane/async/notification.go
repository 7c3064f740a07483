package async

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// maxIncluded is how much of what the container said a notification carries
// (API_AsyncInferenceNotificationConfig).
const maxIncluded = 128 << 10

// notification is a message to a topic.
type notification struct {
	MessageID string
	Topic     string // ARN
	Message   string
	Timestamp time.Time
}

// message is what the topic gets, its members in AWS's order (docs:
// async-inference-check-predictions).
type message struct {
	AWSRegion          string              `json:"awsRegion"`
	EventTime          string              `json:"eventTime"`
	ReceivedTime       string              `json:"receivedTime"`
	InvocationStatus   string              `json:"invocationStatus"`
	FailureReason      string              `json:"failureReason,omitempty"`
	RequestParameters  requestParameters   `json:"requestParameters"`
	ResponseParameters *responseParameters `json:"responseParameters,omitempty"`
	ResponseBody       *responseBody       `json:"responseBody,omitempty"`
	InferenceID        string              `json:"inferenceId"`
	EventVersion       string              `json:"eventVersion"`
	EventSource        string              `json:"eventSource"`
	EventName          string              `json:"eventName"`
}

type requestParameters struct {
	ContentType   string `json:"contentType,omitempty"`
	EndpointName  string `json:"endpointName"`
	InputLocation string `json:"inputLocation,omitempty"`
}

type responseParameters struct {
	ContentType    string `json:"contentType,omitempty"`
	OutputLocation string `json:"outputLocation,omitempty"`
}

type responseBody struct {
	Content  string `json:"content"`
	Encoding string `json:"encoding"`
}

const timestampFormat = "2006-01-02T15:04:05.000Z"

// outcome is how a request ended.
type outcome struct {
	failed      bool
	reason      string // failureReason
	contentType string
	said        []byte // by the container
	object      []byte // what is written to S3
	// content holds said and object where they are the container's answer; nil when
	// they are nobody's.
	content *payload
}

// notify makes the notification of a request that has ended; nil without a topic
// for it.
func notify(r *record, region, id string, o *outcome) (*notification, error) {
	topic, include := r.SuccessTopic, r.IncludeInSuccess
	if o.failed {
		topic, include = r.ErrorTopic, r.IncludeInError
	}
	if topic == "" {
		return nil, nil
	}
	m := message{
		AWSRegion: region, EventTime: r.Finished.UTC().Format(timestampFormat), ReceivedTime: r.Received.UTC().Format(timestampFormat),
		InvocationStatus: r.Status, FailureReason: r.Reason,
		RequestParameters: requestParameters{ContentType: r.ContentType, EndpointName: r.Endpoint, InputLocation: r.Input},
		InferenceID:       r.InferenceID, EventVersion: "1.0", EventSource: "aws:sagemaker", EventName: "InferenceResult",
	}
	if !o.failed {
		m.ResponseParameters = &responseParameters{ContentType: o.contentType, OutputLocation: r.Output}
	}
	if include && len(o.said) > 0 && len(o.said) <= maxIncluded {
		m.ResponseBody = &responseBody{Content: string(o.said), Encoding: "UTF-8"}
		if !utf8.Valid(o.said) {
			m.ResponseBody = &responseBody{Content: base64.StdEncoding.EncodeToString(o.said), Encoding: "BASE64"}
		}
	}
	text, err := json.Marshal(&m)
	if err != nil {
		return nil, fmt.Errorf("encode notification: %w", err)
	}
	return &notification{MessageID: id, Topic: topic, Message: string(text), Timestamp: r.Finished}, nil
}
