// Package simulated is the kind of worker that needs no program: an in-process
// model server whose latency, capacity, failures and answers are configured. It
// is what an image without a rule runs as, and what load tests of routing run
// against.
package simulated

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Config describes a simulated model server. The zero Config echoes every
// request at once, however many there are.
type Config struct {
	// Concurrency is how many requests run at once, 1 to 1,000,000; 0 means
	// unlimited. Queue is how many more may wait, in order of arrival, 1 to
	// 10,000; 0 means 100, TorchServe's default. A request that finds the queue
	// full is answered with status 503.
	Concurrency int `yaml:"concurrency"`
	Queue       int `yaml:"queue"`

	Latency Latency `yaml:"latency"`

	// Contention is how much concurrent requests slow each other down: n of them
	// each run at speed 1/(1+Contention·(n−1)). 0 means not at all; with 1 they
	// share one processor.
	Contention float64 `yaml:"contention"`

	// Startup is how long the worker takes to pass its health check. The time
	// scale divides it. Latency is the worker's own and is left alone.
	Startup time.Duration `yaml:"startup"`

	// FailureRate is the probability, 0 to 1, that an answer has status 500.
	FailureRate float64 `yaml:"failure_rate"`

	Answer Answer `yaml:"answer"`

	// Models is what models cost in a container of Mode MultiModel.
	Models Models `yaml:"models"`

	// Sessions is how long a stateful session lasts, up to a day; 0 means that the
	// worker knows no sessions and ignores SessionId, as most containers do.
	Sessions time.Duration `yaml:"sessions"`

	// MeasuredOn is the instance type that Concurrency, Contention and Latency
	// were measured on; empty means ml.m5.large. On another type capacity goes by
	// vCPUs, or by accelerator memory, and speed by the kind of accelerator: twice
	// the capacity is twice the Concurrency at half the Contention.
	MeasuredOn string `yaml:"measured_on"`
}

// Models says what each model of a multi-model container costs.
type Models struct {
	// MemoryMiB is the memory of a loaded model, 0 to 10,000,000: as many are
	// loaded at once as the instance type has room for, and no more than one needs.
	// 0 means that memory never ends.
	MemoryMiB int `yaml:"memory_mib"`
	// Load is how long it takes to load a model.
	Load time.Duration `yaml:"load"`
}

// Answer is what the worker says: the request's body and content type unless
// one of the others is set. In YAML, "echo" stands for none.
type Answer struct {
	Fixed    *Fixed    `yaml:"fixed"`
	Template *Template `yaml:"template"`
	Tokens   *Tokens   `yaml:"tokens"`
}

// Fixed is the same answer to every request.
type Fixed struct {
	Status           int    `yaml:"status"`       // 200 to 599; 0 means 200
	ContentType      string `yaml:"content_type"` // empty means application/json
	Body             string `yaml:"body"`
	CustomAttributes string `yaml:"custom_attributes"`
}

// Template is an answer made from the request by a text/template over .Body (the
// text), .JSON (decoded, or nil), .InstanceID, .Variant, .Endpoint, .N (the
// request's number on this instance, from 1), .TargetModel,
// .InferenceComponent and .Adapter.
// Beyond the predefined functions it
// has json, as in {{json .JSON.inputs}}.
type Template struct {
	Text        string `yaml:"text"`
	ContentType string `yaml:"content_type"` // empty means application/json
}

const (
	defaultMeasuredOn  = "ml.m5.large"
	defaultContentType = "application/json"
	defaultQueue       = 100
	maxQueue           = 10_000
	maxConcurrency     = 1_000_000
	maxModelMiB        = 10_000_000
	// maxHeaderValue bounds ContentType and CustomAttributes
	// (InvokeEndpoint: Header, at most 1024 characters).
	maxHeaderValue = 1024
)

// UnmarshalYAML reads "echo" or a mapping.
func (a *Answer) UnmarshalYAML(decode func(any) error) error {
	var word string
	if decode(&word) == nil && word == "echo" {
		*a = Answer{}
		return nil
	}
	type mapping Answer // without this method
	return decode((*mapping)(a))
}

// Validate tells the first thing that is wrong. Whether MeasuredOn exists is
// only known to Launch.
func (c *Config) Validate() error {
	switch {
	case c.Concurrency < 0 || c.Concurrency > maxConcurrency:
		return fmt.Errorf("concurrency %d is not within 0 (unlimited) to %d", c.Concurrency, maxConcurrency)
	case c.Queue < 0 || c.Queue > maxQueue:
		return fmt.Errorf("queue %d is not within 0 (default) to %d", c.Queue, maxQueue)
	case !(c.Contention >= 0 && c.Contention <= 1000): // also catches NaN
		return fmt.Errorf("contention %v is not within 0 to 1000", c.Contention)
	case c.Sessions < 0 || c.Sessions > maxSession:
		return fmt.Errorf("sessions %v is not within 0 (none) to %v", c.Sessions, maxSession)
	case c.Startup < 0:
		return fmt.Errorf("startup %v is negative", c.Startup)
	case !(c.FailureRate >= 0 && c.FailureRate <= 1):
		return fmt.Errorf("failure_rate %v is not within 0 to 1", c.FailureRate)
	}
	if c.Models.MemoryMiB < 0 || c.Models.MemoryMiB > maxModelMiB || c.Models.Load < 0 {
		return fmt.Errorf("models: memory_mib %d is not within 0 to %d, or load %v is negative", c.Models.MemoryMiB, maxModelMiB, c.Models.Load)
	}
	if err := c.Latency.validate(); err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	if _, err := c.Answer.compile(); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// compile checks the answer and parses its template; nil without one.
func (a *Answer) compile() (*template.Template, error) {
	switch {
	case a.Tokens != nil && (a.Fixed != nil || a.Template != nil), a.Fixed != nil && a.Template != nil:
		return nil, errors.New("fixed, template and tokens exclude each other")
	case a.Tokens != nil:
		if err := a.Tokens.validate(); err != nil {
			return nil, fmt.Errorf("tokens: %w", err)
		}
		return nil, nil
	case a.Fixed != nil:
		return nil, a.Fixed.validate()
	case a.Template == nil:
		return nil, nil
	}
	if err := checkHeaderValue("content_type", a.Template.ContentType); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	t, err := template.New("answer").Funcs(templateFuncs).Parse(a.Template.Text)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	return t, nil
}

func (f *Fixed) validate() error {
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		return fmt.Errorf("fixed: status %d is not a final HTTP status", f.Status)
	}
	if len(f.Body) > dataplane.MaxAnswer {
		return fmt.Errorf("fixed: body is longer than %d bytes", dataplane.MaxAnswer)
	}
	if err := checkHeaderValue("content_type", f.ContentType); err != nil {
		return fmt.Errorf("fixed: %w", err)
	}
	if err := checkHeaderValue("custom_attributes", f.CustomAttributes); err != nil {
		return fmt.Errorf("fixed: %w", err)
	}
	return nil
}

func checkHeaderValue(name, value string) error {
	if len(value) > maxHeaderValue {
		return fmt.Errorf("%s is longer than %d characters", name, maxHeaderValue)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("%s is not printable ASCII", name)
	}
	return nil
}
