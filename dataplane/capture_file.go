package dataplane

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"
)

const (
	// captureFileBytes of payloads, or captureFileRecords, are written without
	// waiting for more.
	captureFileBytes   = 8 << 20
	captureFileRecords = 20_000
	// lineBytes is about what a line has beside its payloads.
	lineBytes = 320
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
		for _, f := range c.files(batch, int(held)) {
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
func (c *Capture) take() (batch []captured, held int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.waiting.empty() && held < captureFileBytes && len(batch) < captureFileRecords {
		r := c.waiting.pop()
		batch, held = append(batch, r), held+int64(len(r.memory))
	}
	c.bytes -= int(held)
	if len(batch) == 0 {
		c.writer = nil
	}
	c.hurry()
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
func (c *Capture) files(batch []captured, held int) []*captureFile {
	type folder struct {
		variant string
		hour    int64
	}
	var all []*captureFile
	open := map[folder]*captureFile{}
	for i := range batch {
		r := &batch[i]
		of := folder{r.variant, r.at.Unix() / 3600}
		f := open[of]
		if f == nil {
			f = &captureFile{key: c.key(r)}
			if len(all) == 0 { // as a rule the only one
				f.body = make([]byte, 0, held*4/3+lineBytes*len(batch))
			}
			open[of] = f
			all = append(all, f)
		}
		f.body = c.appendLine(f.body, r)
		f.records++
	}
	return all
}

// key is that of the file whose first record is r, below the destination.
func (c *Capture) key(r *captured) string {
	at := r.at.UTC()
	name := strings.ReplaceAll(at.Format("04-05.000"), ".", "-")
	return fmt.Sprintf("%s/%s/%s/%s-%s.jsonl", c.config.Endpoint, r.variant, at.Format("2006/01/02/15"), name, uuid.NewString())
}

// appendLine writes a record as AWS does, in AWS's order:
//
//	{"captureData": {
//	  "endpointInput": {"observedContentType", "mode": "INPUT", "data", "encoding"},
//	  "endpointOutput": {the same}},
//	 "eventMetadata": {"customAttributes": [one], "eventId", "inferenceId", "inferenceTime"},
//	 "eventVersion": "0"}
//
// Members are left out that the request or the configuration does not have. At
// 50,000 requests a second encoding/json would be a tenth of a processor's work.
func (c *Capture) appendLine(to []byte, r *captured) []byte {
	to = append(to, `{"captureData":{`...)
	if c.config.Input {
		to = c.appendPayload(to, `"endpointInput":{"observedContentType":`, `"INPUT"`, r.part(capturedInputType), r.part(capturedInput))
	}
	if c.config.Input && c.config.Output {
		to = append(to, ',')
	}
	if c.config.Output {
		to = c.appendPayload(to, `"endpointOutput":{"observedContentType":`, `"OUTPUT"`, r.part(capturedOutputType), r.part(capturedOutput))
	}
	to = append(to, `},"eventMetadata":{`...)
	if custom := r.part(capturedCustomAttributes); len(custom) > 0 {
		to = append(to, `"customAttributes":[`...)
		to = appendText(to, custom)
		to = append(to, `],`...)
	}
	to = append(to, `"eventId":"`...)
	to = append(to, newEventID()...)
	if id := r.part(capturedInferenceID); len(id) > 0 {
		to = append(to, `","inferenceId":`...)
		to = appendText(to, id)
		to = append(to, `,"inferenceTime":"`...)
	} else {
		to = append(to, `","inferenceTime":"`...)
	}
	to = r.at.UTC().AppendFormat(to, time.RFC3339)
	to = append(to, `"},"eventVersion":"0"`...)
	if c.shared.Timings {
		to = appendTiming(to, r)
	}
	return append(to, '}', '\n')
}

// appendTiming writes the member that CaptureTiming reads. Microseconds are what a
// float64 of seconds since 1970 can hold.
func appendTiming(to []byte, r *captured) []byte {
	to = append(to, `,"sagelocal":{"start_seconds":`...)
	to = strconv.AppendFloat(to, float64(r.at.UnixMicro())/1e6, 'f', 6, 64)
	to = append(to, `,"latency_seconds":`...)
	to = strconv.AppendFloat(to, r.took.Seconds(), 'f', 9, 64)
	to = append(to, `,"instance":`...)
	to = appendText(to, []byte(r.instance))
	return append(to, '}')
}

// newEventID is a random UUID. It need not be secret.
func newEventID() string {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4 (RFC 9562)
	return id.String()
}

func (c *Capture) appendPayload(to []byte, start, mode string, contentType, data []byte) []byte {
	to = append(to, start...)
	to = appendText(to, contentType)
	to = append(to, `,"mode":`...)
	to = append(to, mode...)
	to = append(to, `,"data":`...)
	encoding := c.encoding(contentType, data)
	if encoding == "BASE64" {
		to = append(to, '"')
		to = base64.StdEncoding.AppendEncode(to, data)
		to = append(to, '"')
	} else {
		to = appendText(to, data)
	}
	to = append(to, `,"encoding":"`...)
	to = append(to, encoding...)
	return append(to, `"}`...)
}

// encoding goes by CaptureContentTypeHeader. What a JSON string cannot hold is in
// base64 whatever it is called.
func (c *Capture) encoding(contentType, data []byte) string {
	media, _, _ := bytes.Cut(contentType, []byte(";"))
	media = bytes.TrimSpace(media)
	is := func(other string) bool { return strings.EqualFold(other, string(media)) }
	switch {
	case slices.ContainsFunc(c.config.CSV, is) && utf8.Valid(data):
		return "CSV"
	case slices.ContainsFunc(c.config.JSON, is) && utf8.Valid(data):
		return "JSON"
	}
	return "BASE64"
}

// appendText writes a JSON string. What is not UTF-8 becomes U+FFFD.
func appendText(to, text []byte) []byte {
	if !utf8.Valid(text) {
		text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
	}
	to = append(to, '"')
	done := 0
	for i, b := range text {
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		to = append(to, text[done:i]...)
		done = i + 1
		switch b {
		case '"', '\\':
			to = append(to, '\\', b)
		case '\n':
			to = append(to, `\n`...)
		case '\r':
			to = append(to, `\r`...)
		case '\t':
			to = append(to, `\t`...)
		default:
			to = append(to, `\u00`...)
			to = hex.AppendEncode(to, []byte{b})
		}
	}
	return append(append(to, text[done:]...), '"')
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
	}, unsignedPayload)
	if err == nil {
		f.key = bucket + "/" + key
	}
	return err
}

// unsignedPayload leaves out a hash of the whole file: a checksum goes with it in
// any case.
var unsignedPayload = s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)

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
