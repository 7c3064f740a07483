package dataplane

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// requestHead is what all requests of one kind to one worker begin with.
type requestHead struct {
	prefix  []byte // request line, Host and fixed headers
	hasBody bool
}

func newRequestHead(method, target, host string, header map[string]string) (requestHead, error) {
	if strings.ContainsFunc(target+host, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return requestHead{}, fmt.Errorf("request target %q or host %q contains a blank or control character", target, host)
	}
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, host)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if !isToken(name) || !isFieldValue(header[name]) {
			return requestHead{}, fmt.Errorf("header %q cannot be sent", name)
		}
		b = fmt.Appendf(b, "%s: %s\r\n", name, header[name])
	}
	return requestHead{prefix: b, hasBody: method == "POST"}, nil
}

// The headers that SageMaker passes to a container, and no others (docs:
// your-algorithms-inference-code).
const (
	headerContentType = "Content-Type: "
	headerAccept      = "Accept: "
	headerAttributes  = "X-Amzn-SageMaker-Custom-Attributes: "
	headerInferenceID = "X-Amzn-SageMaker-Inference-Id: "
	headerSession     = "X-Amzn-SageMaker-Session-Id: " // docs: stateful-sessions
	// The contract for adapters (aws/model-hosting-container-standards,
	// docs/sagemaker/05_lora_adapter_management.md).
	headerAdapter = "X-Amzn-SageMaker-Adapter-Identifier: "
)

// append writes the head of one request. All values are sendable.
func (h *requestHead) append(b []byte, req *Request) []byte {
	b = append(b, h.prefix...)
	b = appendHeader(b, headerContentType, req.ContentType)
	b = appendHeader(b, headerAccept, req.Accept)
	b = appendHeader(b, headerAttributes, req.CustomAttributes)
	b = appendHeader(b, headerInferenceID, req.InferenceID)
	b = appendHeader(b, headerSession, req.SessionID)
	b = appendHeader(b, headerAdapter, req.Adapter)
	if h.hasBody {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(req.Body)), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

func appendHeader(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, name...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// sendable tells that no header value of the request can end its header: a
// caller must not be able to write headers or requests of their own.
func sendable(req *Request) bool {
	return isFieldValue(req.ContentType) && isFieldValue(req.Accept) &&
		isFieldValue(req.CustomAttributes) && isFieldValue(req.InferenceID) && isFieldValue(req.SessionID) && isFieldValue(req.Adapter)
}

// isFieldValue is RFC 9110's field-value without regard to blanks at its ends.
func isFieldValue[T string | []byte](v T) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isToken is RFC 9110's field-name.
func isToken[T string | []byte](v T) bool {
	for i := range len(v) {
		if !tokenBytes[v[i]] {
			return false
		}
	}
	return len(v) > 0
}

var tokenBytes = func() (table [256]bool) {
	for c := '!'; c < 0x7f; c++ {
		table[c] = !strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c)
	}
	return table
}()

const (
	maxHeadBytes = 64 << 10 // of an answer
	maxInterim   = 16       // 1xx answers before the final one
)

var (
	errNoHTTP       = errors.New("not an HTTP answer")
	errHeader       = errors.New("malformed header in the answer")
	errHeadTooLarge = errors.New("head of the answer is too large")
	errFraming      = errors.New("answer's length is contradictory or malformed")
	errChunk        = errors.New("malformed chunk in the answer")
)

// answerHead is what matters of an answer's head.
type answerHead struct {
	status  int
	keep    bool
	length  int64 // -1: until the connection closes
	chunked bool
}

// bodiless is true of statuses whose answers have no body (RFC 9112, 6.3). A
// server that announces one all the same may send it: nothing can follow that.
func (h *answerHead) bodiless() bool {
	if h.status != 204 && h.status != 304 {
		return false
	}
	h.keep = h.keep && !h.chunked && h.length <= 0
	return true
}

// readAnswer reads one final answer into ans. keep tells that another answer
// can follow on the connection.
func readAnswer(c *httpConn, ans *Answer, limit int) (keep bool, err error) {
	var h answerHead
	for i := 0; ; i++ {
		if i > maxInterim {
			return false, errHeader
		}
		if err := c.readHead(&h, ans); err != nil {
			return false, err
		}
		if h.status/100 != 1 {
			break
		}
		if h.status == 101 {
			return false, errNoHTTP // nobody asked for another protocol
		}
	}
	if ans.stream != nil {
		return c.passOn(&h, ans)
	}
	body := ans.body(h.length)
	switch {
	case h.bodiless():
	case h.chunked:
		body, err = readChunked(c.r, body, limit)
	case h.length >= 0:
		if h.length > int64(limit) {
			return false, ErrTooLarge
		}
		body, err = readFull(c.r, body, int(h.length))
	default:
		h.keep = false
		body, err = readUntilEOF(c.r, body, limit)
	}
	ans.Body = body
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return h.keep && err == nil, err
}

// readHead reads the status line and the headers, and sets all of the answer
// but its body.
func (c *httpConn) readHead(h *answerHead, ans *Answer) error {
	line, err := readLine(c.r)
	if err != nil {
		return err
	}
	minor, status, ok := parseStatusLine(line)
	if !ok {
		return errNoHTTP
	}
	*h = answerHead{status: status, keep: minor == '1', length: -1}
	ans.StatusCode, ans.ContentType, ans.CustomAttributes = status, "", ""
	ans.NewSession, ans.ClosedSession = "", ""
	for total := len(line); ; {
		line, err := readLine(c.r)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		if total += len(line); total > maxHeadBytes {
			return errHeadTooLarge
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t")
		if !ok || !isToken(name) || !isFieldValue(value) {
			return errHeader
		}
		if err := c.header(h, ans, name, value); err != nil {
			return err
		}
	}
	if h.chunked && h.length >= 0 {
		// RFC 9112, 6.3: chunked wins, but somebody on the way is wrong.
		h.keep = false
	}
	return nil
}

// header takes note of one header of the answer.
func (c *httpConn) header(h *answerHead, ans *Answer, name, value []byte) error {
	switch len(name) {
	case len("Content-Type"):
		if ans.ContentType == "" && equalFold(name, "content-type") {
			ans.ContentType = intern(&c.contentType, value)
		}
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			n, ok := parseLength(value)
			if !ok || h.length >= 0 && h.length != n {
				return errFraming
			}
			h.length = n
		}
	case len("Connection"):
		if equalFold(name, "connection") {
			if hasToken(value, "close") {
				h.keep = false
			} else if hasToken(value, "keep-alive") {
				h.keep = true
			}
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			if h.chunked || !equalFold(value, "chunked") {
				return errFraming
			}
			h.chunked = true
		}
	case len("X-Amzn-SageMaker-Session-Id"):
		if equalFold(name, "x-amzn-sagemaker-session-id") {
			ans.NewSession = string(value)
		}
	case len("X-Amzn-SageMaker-Custom-Attributes"): // and of Closed-Session-Id
		if equalFold(name, "x-amzn-sagemaker-custom-attributes") {
			ans.CustomAttributes = intern(&c.attributes, value)
		} else if equalFold(name, "x-amzn-sagemaker-closed-session-id") {
			ans.ClosedSession = string(value)
		}
	}
	return nil
}

// parseStatusLine reads "HTTP/1.1 200 OK"; the reason may be missing.
func parseStatusLine(line []byte) (minor byte, status int, ok bool) {
	const example = "HTTP/1.1 200"
	if len(line) < len(example) || string(line[:7]) != "HTTP/1." || line[8] != ' ' ||
		len(line) > len(example) && line[len(example)] != ' ' {
		return 0, 0, false
	}
	minor = line[7]
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		status = status*10 + int(c-'0')
	}
	return minor, status, (minor == '0' || minor == '1') && status >= 100
}

// readLine is a line without its end, valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errHeadTooLarge
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// intern is value as a string, the last one if it is equal.
func intern(last *string, value []byte) string {
	if string(value) != *last {
		*last = string(value)
	}
	return *last
}

// equalFold compares with a text in lower-case ASCII.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var item []byte
		item, list, _ = bytes.Cut(list, []byte(","))
		if equalFold(bytes.Trim(item, " \t"), token) {
			return true
		}
	}
	return false
}

// parseLength reads a Content-Length: digits only.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// readFull appends n bytes.
func readFull(r *bufio.Reader, body []byte, n int) ([]byte, error) {
	start := len(body)
	body = slices.Grow(body, n)[:start+n]
	read, err := io.ReadFull(r, body[start:])
	return body[:start+read], err
}

// readChunked appends a chunked body and skips its trailers.
func readChunked(r *bufio.Reader, body []byte, limit int) ([]byte, error) {
	for {
		size, err := readChunkSize(r)
		if err != nil {
			return body, err
		}
		if size == 0 {
			return body, skipTrailers(r)
		}
		if size > int64(limit-len(body)) {
			return body, ErrTooLarge
		}
		if body, err = readFull(r, body, int(size)); err != nil {
			return body, err
		}
		if end, err := readLine(r); err != nil {
			return body, err
		} else if len(end) > 0 {
			return body, errChunk
		}
	}
}

func readChunkSize(r *bufio.Reader) (int64, error) {
	line, err := readLine(r)
	if err != nil {
		return 0, err
	}
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
	if len(digits) == 0 || len(digits) > 15 {
		return 0, errChunk
	}
	var n int64
	for _, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, errChunk
		}
		n = n<<4 | int64(c)
	}
	return n, nil
}

func skipTrailers(r *bufio.Reader) error {
	for total := 0; total <= maxHeadBytes; {
		line, err := readLine(r)
		if err != nil || len(line) == 0 {
			return err
		}
		total += len(line)
	}
	return errHeadTooLarge
}

// readUntilEOF appends what comes until the server closes the connection, as
// HTTP/1.0 servers mark the end of an answer.
func readUntilEOF(r *bufio.Reader, body []byte, limit int) ([]byte, error) {
	for {
		if len(body) == cap(body) {
			body = slices.Grow(body, 4<<10)
		}
		n, err := r.Read(body[len(body):min(cap(body), limit+1)])
		body = body[:len(body)+n]
		switch {
		case len(body) > limit:
			return body, ErrTooLarge
		case err == io.EOF:
			return body, nil
		case err != nil:
			return body, err
		}
	}
}
