// Package async is the queue of InvokeEndpointAsync: requests that are on disk
// before their callers are answered, and that instances of their endpoints answer
// later.
//
// A request has one record. Its state goes from queued to running to done, each
// step a durable transaction: queued is written before the caller is answered,
// running before a worker sees the request, done after what the worker said is in
// S3. So nothing is lost, and a request whose record is done is never run again.
// One that was running when the daemon died is run again, unless its output or
// failure object is already in S3: objects carry the request's identity. What it
// writes goes to the same key, so that a second run replaces the first.
package async

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sagelocal/sagelocal/store"
)

// state is where a request stands.
type state string

const (
	queued  state = "queued"
	running state = "running"
	done    state = "done"
)

// The values of invocationStatus in notifications (docs:
// async-inference-check-predictions).
const (
	completed = "Completed"
	failed    = "Failed"
)

// record is a request as stored. Its id in the table is its place in the queue.
type record struct {
	// Request is the request's identity: the metadata of its objects name it, and
	// so do the objects' keys unless the caller has named them.
	Request string
	// Endpoint is the name as the endpoint's creator wrote it; UID tells endpoints
	// apart that had the same name.
	Endpoint string
	UID      string

	State   state
	Attempt int // of how many runs this is the last

	InferenceID      string
	ContentType      string `json:",omitempty"`
	Accept           string `json:",omitempty"`
	CustomAttributes string `json:",omitempty"`
	// Input is InputLocation. Without one the body is in the table bodies.
	Input  string `json:",omitempty"`
	Inline int    `json:",omitempty"` // bytes of that body
	// Output and Failure are where the objects go; empty for nowhere.
	Output  string `json:",omitempty"`
	Failure string `json:",omitempty"`

	Received time.Time
	Finished time.Time `json:",omitzero"`
	TTL      time.Duration
	Timeout  time.Duration

	SuccessTopic     string `json:",omitempty"`
	ErrorTopic       string `json:",omitempty"`
	IncludeInSuccess bool   `json:",omitempty"`
	IncludeInError   bool   `json:",omitempty"`

	// Once it is done.
	Status string `json:",omitempty"`
	Reason string `json:",omitempty"` // failureReason
	// Notification is to be delivered; nil when it was, or when there is none.
	Notification *notification `json:",omitempty"`
}

var records = &store.Table[record]{
	Name:    "asyncRequests",
	Marshal: func(r *record) ([]byte, error) { return json.Marshal(r) },
	Unmarshal: func(data []byte, r *record) error {
		if err := json.Unmarshal(data, r); err != nil {
			return fmt.Errorf("decode request: %w", err)
		}
		return nil
	},
}

// body is the payload of a request without InputLocation. It is apart from the
// record, which is written more than once.
type body struct{ bytes []byte }

var bodies = &store.Table[body]{
	Name:    "asyncBodies",
	Marshal: func(b *body) ([]byte, error) { return b.bytes, nil },
	Unmarshal: func(data []byte, b *body) error {
		b.bytes = append([]byte(nil), data...)
		return nil
	},
}

// Tables are those of the queue, for store.Open.
func Tables() []store.TableDefinition { return []store.TableDefinition{records, bodies} }
