package dataplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ohler55/ojg/jp"
)

// ResponseRule is one scripted answer: when all of its conditions hold, the
// caller gets the answer as if the worker had given it. A rule without
// conditions matches every request.
type ResponseRule struct {
	// Method is the operation (InvokeEndpoint) or the HTTP method (POST).
	Method string `json:"method,omitempty" yaml:"method,omitempty"`
	// ContentType is a glob on the request's Content-Type, as in "text/*".
	ContentType string `json:"content_type,omitempty" yaml:"content_type,omitempty"`
	// BodyContains is a substring of the request's body.
	BodyContains string `json:"body_contains,omitempty" yaml:"body_contains,omitempty"`
	// BodyPath is a JSONPath into the request's body; it must select something,
	// and one of the selected values must be BodyEquals if that is given.
	BodyPath   string `json:"body_path,omitempty" yaml:"body_path,omitempty"`
	BodyEquals any    `json:"body_equals,omitempty" yaml:"body_equals,omitempty"`

	// Status is the worker's status, 100 to 599; 0 means 200. From 400 on the
	// caller sees ModelError, as from a real worker.
	Status int `json:"status,omitempty" yaml:"status,omitempty"`
	// Headers may set Content-Type and X-Amzn-SageMaker-Custom-Attributes, the
	// two that SageMaker passes back from a container.
	Headers map[string]string `json:"headers,omitempty" yaml:"headers,omitempty"`
	Body    string            `json:"body,omitempty" yaml:"body,omitempty"`
	// Delay is waited for before the answer; "150ms".
	Delay Duration `json:"delay,omitempty" yaml:"delay,omitempty"`
	// Times is how often the rule answers before it is spent; 0 means for ever.
	Times int64 `json:"times,omitempty" yaml:"times,omitempty"`
}

// Duration is a time.Duration written as text, "1.5s", in JSON and YAML.
type Duration time.Duration

// MarshalText gives Go's notation of a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads Go's notation of a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Limits of a script, so that one caller cannot slow down all invocations.
const (
	maxResponseRules = 1000
	maxResponseBody  = 25 << 20
)

// Responses is an endpoint's script: the first rule that matches and is not
// spent answers. A nil script answers nothing.
type Responses struct {
	rules    []responseRule
	readJSON bool // some rule looks into the body
}

type responseRule struct {
	ResponseRule
	path    jp.Expr
	equals  any
	answers atomic.Int64
}

// NewResponses checks and compiles a script.
func NewResponses(rules []ResponseRule) (*Responses, error) {
	if len(rules) > maxResponseRules {
		return nil, fmt.Errorf("%d rules, at most %d are allowed", len(rules), maxResponseRules)
	}
	r := &Responses{rules: make([]responseRule, len(rules))}
	for i, rule := range rules {
		if err := r.rules[i].compile(rule); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		r.readJSON = r.readJSON || r.rules[i].path != nil
	}
	return r, nil
}

func (r *responseRule) compile(rule ResponseRule) error {
	r.ResponseRule = rule
	switch {
	case rule.Status != 0 && (rule.Status < 200 || rule.Status > 599):
		return fmt.Errorf("status %d is not a final HTTP status", rule.Status)
	case rule.Delay < 0 || rule.Times < 0:
		return fmt.Errorf("delay and times must not be negative")
	case len(rule.Body) > maxResponseBody:
		return fmt.Errorf("body is longer than %d bytes", maxResponseBody)
	case rule.BodyEquals != nil && rule.BodyPath == "":
		return fmt.Errorf("body_equals needs body_path")
	}
	if _, err := path.Match(rule.ContentType, ""); err != nil {
		return fmt.Errorf("content_type %q: %w", rule.ContentType, err)
	}
	for name, value := range rule.Headers {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("header %q: the value has control characters", name)
		}
		switch http.CanonicalHeaderKey(name) {
		case "Content-Type", customAttributesHeader:
		default:
			return fmt.Errorf("header %q: SageMaker passes back only Content-Type and %s", name, customAttributesHeader)
		}
	}
	if rule.BodyPath == "" {
		return nil
	}
	expr, err := jp.ParseString(rule.BodyPath)
	if err != nil {
		return fmt.Errorf("body_path %q: %w", rule.BodyPath, err)
	}
	// Through JSON, so that 1 from YAML equals 1 from a request.
	text, err := json.Marshal(rule.BodyEquals)
	if err != nil {
		return fmt.Errorf("body_equals: %w", err)
	}
	r.path = expr
	return json.Unmarshal(text, &r.equals)
}

const customAttributesHeader = "X-Amzn-Sagemaker-Custom-Attributes"

// answer gives the first matching rule's answer; false when none matches.
func (r *Responses) answer(ctx context.Context, req *Request, ans *Answer) (bool, error) {
	if r == nil || len(r.rules) == 0 {
		return false, nil
	}
	req.Strand.Leave() // an answer may be told to take its time
	var document any
	if r.readJSON && json.Unmarshal(req.Body, &document) != nil {
		document = nil
	}
	for i := range r.rules {
		rule := &r.rules[i]
		if rule.matches(req, document) && rule.take() {
			return true, rule.give(ctx, req, ans)
		}
	}
	return false, nil
}

func (r *responseRule) matches(req *Request, document any) bool {
	if r.Method != "" && !strings.EqualFold(r.Method, http.MethodPost) && r.Method != req.Operation {
		return false
	}
	if r.ContentType != "" {
		if ok, _ := path.Match(r.ContentType, req.ContentType); !ok {
			return false
		}
	}
	if r.BodyContains != "" && !bytes.Contains(req.Body, []byte(r.BodyContains)) {
		return false
	}
	return r.path == nil || r.selects(document)
}

func (r *responseRule) selects(document any) bool {
	if document == nil {
		return false
	}
	found := r.path.Get(document)
	if r.equals == nil {
		return len(found) > 0
	}
	for _, v := range found {
		if reflect.DeepEqual(v, r.equals) {
			return true
		}
	}
	return false
}

// take counts one answer, unless the rule is spent.
func (r *responseRule) take() bool {
	n := r.answers.Add(1)
	if r.Times == 0 || n <= r.Times {
		return true
	}
	r.answers.Add(-1)
	return false
}

func (r *responseRule) give(ctx context.Context, req *Request, ans *Answer) error {
	delay, late := Within(time.Duration(r.Delay), req.Timeout)
	if !Sleep(ctx, delay) {
		return context.Cause(ctx)
	}
	if late {
		return ErrTimeout
	}
	ans.StatusCode = max(r.Status, 0)
	if ans.StatusCode == 0 {
		ans.StatusCode = http.StatusOK
	}
	ans.Body = append(ans.Body[:0], r.Body...)
	for name, value := range r.Headers {
		if http.CanonicalHeaderKey(name) == "Content-Type" {
			ans.ContentType = value
		} else {
			ans.CustomAttributes = value
		}
	}
	return nil
}

// ResponseStatus is a rule and how often it has answered.
type ResponseStatus struct {
	ResponseRule
	Answers int64 `json:"answers"`
}

// Status lists the rules in order.
func (r *Responses) Status() []ResponseStatus {
	list := []ResponseStatus{}
	if r == nil {
		return list
	}
	for i := range r.rules {
		list = append(list, ResponseStatus{r.rules[i].ResponseRule, r.rules[i].answers.Load()})
	}
	return list
}

// SetResponses makes a script the endpoint's; nil takes it away.
func (e *Endpoint) SetResponses(r *Responses) { e.responses.Store(r) }

// Responses is the endpoint's script; nil without one.
func (e *Endpoint) Responses() *Responses { return e.responses.Load() }
