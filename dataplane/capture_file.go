package dataplane

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"
)

const (
	// captureFileBytes of payloads are written without waiting for more.
	captureFileBytes = 8 << 20
	// captureTimeout is how long S3 may take for one file.
	captureTimeout = 30 * time.Second
	// Waits between the tries to write a file, doubled each time. After Close
	// there is no time for the longer ones.
	firstCaptureRetry  = time.Second
	maxCaptureRetry    = time.Minute
	closedCaptureRetry = 500 * time.Millisecond
)

// captureFile is some records of one variant in one hour.
type captureFile struct {
	key     string
	body    []byte
	records int
}

// write is the writer's life: it ends when nothing waits any more.
func (c *Capture) write(ended chan struct{}) {
	defer close(ended)
	for {
		c.await()
		batch, held := c.take()
		if len(batch) == 0 {
			return
		}
		for _, f := range c.files(batch) {
			c.upload(f)
		}
		c.shared.held.Add(-held)
	}
}

// await gives records time to gather.
func (c *Capture) await() {
	timer := time.NewTimer(c.shared.scaled(captureInterval))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.full:
	case <-c.closing:
	}
}

// take is what is written next. When there is nothing the writer is gone for
// whoever looks.
func (c *Capture) take() (batch []*captured, held int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.waiting.empty() && held < captureFileBytes {
		r := c.waiting.pop()
		batch, held = append(batch, r), held+int64(r.size)
	}
	c.bytes -= int(held)
	if len(batch) == 0 {
		c.writer = nil
	}
	if c.bytes >= captureFileBytes {
		select {
		case c.full <- struct{}{}:
		default:
		}
	}
	return batch, held
}

func (cs *Captures) scaled(d time.Duration) time.Duration {
	if cs.TimeScale <= 0 {
		return d
	}
	return time.Duration(float64(d) / cs.TimeScale)
}

// files are the records as they are stored: a variant's of one hour in one file,
// in the order in which the requests ended.
func (c *Capture) files(batch []*captured) []*captureFile {
	var all []*captureFile
	open := map[string]*captureFile{}
	for _, r := range batch {
		at := r.at.UTC()
		folder := fmt.Sprintf("%s/%s/%s/", c.config.Endpoint, r.variant, at.Format("2006/01/02/15"))
		f := open[folder]
		if f == nil {
			name := strings.ReplaceAll(at.Format("04-05.000"), ".", "-") + "-" + uuid.NewString() + ".jsonl"
			f = &captureFile{key: folder + name}
			open[folder] = f
			all = append(all, f)
		}
		f.body = c.appendLine(f.body, r)
		f.records++
	}
	return all
}

// The members of a line, in AWS's order.
type (
	captureLine struct {
		CaptureData struct {
			EndpointInput  *capturedPayload `json:"endpointInput,omitempty"`
			EndpointOutput *capturedPayload `json:"endpointOutput,omitempty"`
		} `json:"captureData"`
		EventMetadata captureMetadata `json:"eventMetadata"`
		EventVersion  string          `json:"eventVersion"`
	}
	capturedPayload struct {
		ObservedContentType string `json:"observedContentType"`
		Mode                string `json:"mode"`
		Data                string `json:"data"`
		Encoding            string `json:"encoding"`
	}
	captureMetadata struct {
		CustomAttributes []string `json:"customAttributes,omitempty"`
		EventID          string   `json:"eventId"`
		InferenceID      string   `json:"inferenceId,omitempty"`
		InferenceTime    string   `json:"inferenceTime"`
	}
)

func (c *Capture) appendLine(to []byte, r *captured) []byte {
	line := captureLine{EventVersion: "0", EventMetadata: captureMetadata{
		EventID: uuid.NewString(), InferenceID: string(r.inferenceID), InferenceTime: r.at.UTC().Format(time.RFC3339),
	}}
	if len(r.customAttributes) > 0 {
		line.EventMetadata.CustomAttributes = []string{string(r.customAttributes)}
	}
	if c.config.Input {
		line.CaptureData.EndpointInput = c.payload("INPUT", r.inputType, r.input)
	}
	if c.config.Output {
		line.CaptureData.EndpointOutput = c.payload("OUTPUT", r.outputType, r.output)
	}
	buffer := bytes.NewBuffer(to)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(line); err != nil {
		return to // cannot be: strings only
	}
	return buffer.Bytes()
}

func (c *Capture) payload(mode string, contentType, data []byte) *capturedPayload {
	p := &capturedPayload{ObservedContentType: string(contentType), Mode: mode, Encoding: "BASE64"}
	media, _, _ := strings.Cut(p.ObservedContentType, ";")
	is := func(other string) bool { return strings.EqualFold(other, strings.TrimSpace(media)) }
	switch {
	case !utf8.Valid(data): // text that JSON cannot hold
	case slices.ContainsFunc(c.config.CSV, is):
		p.Encoding = "CSV"
	case slices.ContainsFunc(c.config.JSON, is):
		p.Encoding = "JSON"
	}
	if p.Encoding == "BASE64" {
		p.Data = base64.StdEncoding.EncodeToString(data)
	} else {
		p.Data = string(data)
	}
	return p
}

// upload writes a file, however long that takes: meanwhile the records behind it
// make room for one another.
func (c *Capture) upload(f *captureFile) {
	retry := firstCaptureRetry
	for {
		err := c.put(f)
		if err == nil || c.ctx.Err() != nil {
			c.account(f, err)
			return
		}
		c.failed(err)
		c.pause(retry)
		retry = min(2*retry, maxCaptureRetry)
	}
}

// pause waits between two tries; after Close not for long.
func (c *Capture) pause(retry time.Duration) {
	timer := time.NewTimer(c.shared.scaled(retry))
	defer timer.Stop()
	select {
	case <-timer.C:
		return
	case <-c.ctx.Done():
		return
	case <-c.closing:
	}
	timer.Reset(closedCaptureRetry)
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

func (c *Capture) put(f *captureFile) error {
	bucket, prefix, ok := splitS3(c.config.Destination)
	switch {
	case !ok:
		return fmt.Errorf("%s is not of the form s3://bucket/prefix", c.config.Destination)
	case c.shared.S3 == nil:
		return errors.New("there is no S3")
	}
	key := f.key
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		key = prefix + "/" + key
	}
	ctx, cancel := context.WithTimeout(c.ctx, captureTimeout)
	defer cancel()
	_, err := c.shared.S3(bucket).PutObject(ctx, &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, Body: bytes.NewReader(f.body), ContentType: aws.String("application/x-jsonlines"),
	})
	if err == nil {
		f.key = bucket + "/" + key
	}
	return err
}

// failed notes a failure, and tells the log of the first in a row.
func (c *Capture) failed(err error) {
	c.mu.Lock()
	first := c.counts.LastError == ""
	c.counts.LastError = fmt.Sprintf("%.1000s", err)
	c.counts.Failures++
	c.mu.Unlock()
	if first && c.shared.Logger != nil {
		c.shared.Logger.Warn("captured data cannot be written; it is tried again", "endpoint", c.config.Endpoint, "destination", c.config.Destination, "error", err)
	}
}

// account ends a file's life.
func (c *Capture) account(f *captureFile, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.counts.Dropped += int64(f.records)
		c.counts.LastError = fmt.Sprintf("%.1000s", err)
		if c.shared.Logger != nil {
			c.shared.Logger.Warn("captured data is lost", "endpoint", c.config.Endpoint, "records", f.records, "error", err)
		}
		return
	}
	now := time.Now()
	c.counts.Written += int64(f.records)
	c.counts.Files++
	c.counts.LastKey, c.counts.LastWrite, c.counts.LastError = f.key, &now, ""
}
