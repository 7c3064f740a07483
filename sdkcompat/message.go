package sdkcompat

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Mark says how far a message can be trusted to be AWS's own.
type Mark string

const (
	// Seen is a real answer that somebody quoted in public.
	Seen Mark = "seen"
	// Documented stands in AWS's documentation or service model.
	Documented Mark = "documented"
	// Chosen is sagelocal's: AWS's is unknown, or there is no such case on AWS.
	Chosen Mark = "chosen"
)

// In place of a code these mark what Describe operations give as the member of
// that name. Both hold at most 1,024 characters (API model).
const (
	FailureReason = "FailureReason"
	StatusMessage = "StatusMessage" // of a variant, or its message in GET /_sagelocal/fleet
)

// Message is one sentence of the catalogue: all that the daemon answers with or
// writes to a FailureReason. docs/fidelity.md shows the catalogue as a table.
type Message struct {
	// Code is AWS's wire name of the error, or [FailureReason] or [StatusMessage].
	Code string
	// Text is the sentence; each {name} in it stands for a value.
	Text string
	Mark Mark
	// Source says where it was seen or documented, or what it follows.
	Source string
}

// catalogue is every Message, in the order of their declarations.
var catalogue []*Message

// Messages lists the catalogue.
func Messages() []*Message { return slices.Clone(catalogue) }

// message puts a sentence into the catalogue.
func message(code string, mark Mark, text, source string) *Message {
	m := &Message{Code: code, Text: text, Mark: mark, Source: source}
	catalogue = append(catalogue, m)
	return m
}

// Error is the message as what the caller gets: its code, that code's HTTP
// status, and the sentence.
func (m *Message) Error(values ...any) *Error {
	return &Error{Code: m.Code, Message: m.Sentence(values...), Status: statusOf(m.Code)}
}

// Sentence puts values, in the order of the first mention, in place of the
// names. A name without a value stays.
func (m *Message) Sentence(values ...any) string { return string(m.append(nil, values...)) }

func (m *Message) append(dst []byte, values ...any) []byte {
	var known []string
	for rest := m.Text; ; {
		before, name, after := cutPlaceholder(rest)
		dst = append(dst, before...)
		if name == "" {
			return dst
		}
		rest = after
		i := slices.Index(known, name)
		if i < 0 {
			i, known = len(known), append(known, name)
		}
		if i < len(values) {
			dst = fmt.Append(dst, values[i])
		} else {
			dst = append(dst, "{"+name+"}"...)
		}
	}
}

// Placeholders are the names in the sentence, each once, in order.
func (m *Message) Placeholders() []string {
	var names []string
	for rest := m.Text; ; {
		var name string
		if _, name, rest = cutPlaceholder(rest); name == "" {
			return names
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
}

// cutPlaceholder cuts around the first {name}; name is empty when there is none.
// A name is of small letters only, so that JSON in a sentence is not one.
func cutPlaceholder(text string) (before, name, after string) {
	for from := 0; ; {
		open := strings.IndexByte(text[from:], '{')
		if open < 0 {
			return text, "", ""
		}
		open += from
		length := strings.IndexFunc(text[open+1:], func(r rune) bool { return r < 'a' || r > 'z' })
		if end := open + 1 + length; length > 0 && text[end] == '}' {
			return text[:open], text[open+1 : end], text[end+1:]
		}
		from = open + 1
	}
}

// statusOf is a code's HTTP status: 400 unless said otherwise.
//
// https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html#API_runtime_InvokeEndpoint_Errors
func statusOf(code string) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return http.StatusBadRequest
}

var statuses = map[string]int{
	"AccessDeniedException":               http.StatusForbidden,
	"ExpiredTokenException":               http.StatusForbidden,
	"InternalDependencyException":         530,
	"InternalFailure":                     http.StatusInternalServerError,
	"ModelError":                          http.StatusFailedDependency,
	"MissingAuthenticationTokenException": http.StatusUnauthorized,
	"ModelNotReadyException":              http.StatusTooManyRequests,
	"RequestEntityTooLargeException":      http.StatusRequestEntityTooLarge,
	"RequestHeaderFieldsTooLarge":         http.StatusRequestHeaderFieldsTooLarge,
	"RequestTimeout":                      http.StatusRequestTimeout,
	"ServiceUnavailable":                  http.StatusServiceUnavailable,
	"UnrecognizedClientException":         http.StatusUnauthorized,
}
