package simulated

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// speech is what a simulated language model says to one request.
type speech struct {
	words   []string // the tokens; nil for as many random ones as count
	count   int
	limited bool // the request's limit ended it
	random  *rand.Rand
	format  string
	breakAt int // the token before which the connection breaks; -1 for none

	// Of OpenAI's format only.
	streamed bool
	usage    bool // a chunk with the usage is wanted
	prompt   int  // tokens
	id       string
	model    string
	created  int64
}

// ask is what a request may ask of a language model.
type ask struct {
	Stream        bool   `json:"stream"`
	Model         string `json:"model"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Messages []struct {
		Role    string  `json:"role"`
		Content content `json:"content"`
	} `json:"messages"`
	MaxTokens           *int `json:"max_tokens"`
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	MaxNewTokens        *int `json:"max_new_tokens"`
	Parameters          struct {
		MaxNewTokens *int `json:"max_new_tokens"`
	} `json:"parameters"`
}

// content is a message's text: a string, or parts of which some are text.
type content string

// UnmarshalJSON takes anything, and from it the text.
func (c *content) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*c = content(text)
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(b, &parts) == nil {
		for _, p := range parts {
			*c += content(p.Text)
		}
	}
	return nil
}

// limit is how many tokens the request wants at most; -1 for any.
func (a *ask) limit() int {
	for _, n := range []*int{a.MaxCompletionTokens, a.MaxTokens, a.MaxNewTokens, a.Parameters.MaxNewTokens} {
		if n != nil && *n > 0 {
			return min(*n, maxTokens)
		}
	}
	return -1
}

// speech prepares the nth request's answer; nil if the worker does not speak in
// tokens. On OpenAI's path a worker that echoes repeats the last message.
func (w *worker) speech(n uint64, req *dataplane.Request) *speech {
	tokens := w.cfg.Answer.Tokens
	chat := req.Path == dataplane.ChatCompletionsPath
	if tokens == nil && (!chat || w.cfg.Answer.Fixed != nil || w.cfg.Answer.Template != nil) {
		return nil
	}
	var a ask
	_ = json.Unmarshal(req.Body, &a) // what is no JSON asks for nothing
	s := &speech{random: rand.New(rand.NewPCG(w.spec.Seed, n)), breakAt: -1, format: FormatOpenAI}
	if tokens == nil {
		s.repeat(&a)
	} else {
		if s.count = tokens.Count; s.count == 0 {
			s.count = defaultTokens
		}
		if !chat {
			s.format = tokens.Format
		}
	}
	if limit := a.limit(); limit >= 0 && (tokens != nil || limit < s.count) {
		s.count, s.limited = limit, true
	}
	if tokens != nil && s.random.Float64() < tokens.BreakRate {
		s.breakAt = s.random.IntN(s.count)
	}
	for _, m := range a.Messages {
		s.prompt += len(strings.Fields(string(m.Content)))
	}
	s.streamed, s.usage, s.model = a.Stream, a.StreamOptions.IncludeUsage, a.Model
	s.id, s.created = fmt.Sprintf("chatcmpl-%016x", s.random.Uint64()), time.Now().Unix()
	return s
}

// repeat makes the words of the last message the answer.
func (s *speech) repeat(a *ask) {
	if len(a.Messages) > 0 {
		s.words = strings.SplitAfter(string(a.Messages[len(a.Messages)-1].Content), " ")
	}
	s.words = s.words[:min(len(s.words), maxTokens)]
	s.count = len(s.words)
}

// inPieces tells that tokens are sent as they come.
func (s *speech) inPieces() bool { return s.format != FormatOpenAI || s.streamed }

func (s *speech) contentType() string {
	switch {
	case s.format == FormatJSONLines:
		return "application/jsonlines"
	case s.format != FormatOpenAI:
		return "text/plain; charset=utf-8"
	case s.streamed:
		return "text/event-stream"
	}
	return defaultContentType
}

// word is the ith token; they are asked for in order.
func (s *speech) word(i int) string {
	if s.words != nil {
		return s.words[i]
	}
	word := vocabulary[s.random.IntN(len(vocabulary))]
	if i == 0 {
		return word
	}
	return " " + word
}

func (s *speech) finishReason() string {
	if s.limited {
		return "length"
	}
	return "stop"
}

// appendToken appends the ith piece.
func (s *speech) appendToken(b []byte, i int) []byte {
	switch word := s.word(i); s.format {
	case FormatOpenAI:
		if i == 0 {
			b = s.appendChunk(b, choice{Delta: &message{Role: "assistant"}})
		}
		return s.appendChunk(b, choice{Delta: &message{Content: word}})
	case FormatJSONLines:
		line := tokenLine{Token: tokenText{i + 1, word}}
		if i == s.count-1 {
			line.Details = &tokenDetails{s.finishReason(), s.count}
		}
		return append(appendJSON(b, line), '\n')
	default:
		return append(b, word...)
	}
}

// appendEnd appends what follows the last token.
func (s *speech) appendEnd(b []byte) []byte {
	if s.format != FormatOpenAI {
		return b
	}
	reason := s.finishReason()
	b = s.appendChunk(b, choice{Delta: &message{}, FinishReason: &reason})
	if s.usage {
		b = s.appendEvent(b, s.completion("chat.completion.chunk", []choice{}, s.usageOf()))
	}
	return append(b, "data: [DONE]\n\n"...)
}

func (s *speech) appendChunk(b []byte, c choice) []byte {
	return s.appendEvent(b, s.completion("chat.completion.chunk", []choice{c}, nil))
}

func (s *speech) appendEvent(b []byte, v any) []byte {
	return append(appendJSON(append(b, "data: "...), v), "\n\n"...)
}

// whole is all of it as one answer.
func (s *speech) whole(ans *dataplane.Answer) {
	ans.StatusCode, ans.ContentType, ans.CustomAttributes = http.StatusOK, s.contentType(), ""
	ans.Body = ans.Body[:0]
	if !s.inPieces() {
		var text strings.Builder
		for i := range s.count {
			text.WriteString(s.word(i))
		}
		reason := s.finishReason()
		said := choice{Message: &message{"assistant", text.String()}, FinishReason: &reason}
		ans.Body = appendJSON(ans.Body, s.completion("chat.completion", []choice{said}, s.usageOf()))
		return
	}
	for i := range s.count {
		ans.Body = s.appendToken(ans.Body, i)
	}
	ans.Body = s.appendEnd(ans.Body)
}

func (s *speech) usageOf() *usage {
	return &usage{s.prompt, s.count, s.prompt + s.count}
}

func (s *speech) completion(object string, choices []choice, u *usage) completion {
	return completion{s.id, object, s.created, s.model, choices, u}
}

// OpenAI's chat completion, whole and in chunks.
type (
	completion struct {
		ID      string   `json:"id"`
		Object  string   `json:"object"`
		Created int64    `json:"created"`
		Model   string   `json:"model"`
		Choices []choice `json:"choices"`
		Usage   *usage   `json:"usage,omitempty"`
	}
	choice struct {
		Index        int      `json:"index"`
		Message      *message `json:"message,omitempty"`
		Delta        *message `json:"delta,omitempty"`
		FinishReason *string  `json:"finish_reason"`
	}
	message struct {
		Role    string `json:"role,omitempty"`
		Content string `json:"content,omitempty"`
	}
	usage struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		TotalTokens      int `json:"total_tokens"`
	}
)

// A line of JSON lines, as DJL Serving's LMI containers write them.
type (
	tokenLine struct {
		Token   tokenText     `json:"token"`
		Details *tokenDetails `json:"details,omitempty"`
	}
	tokenText struct {
		ID   int    `json:"id"`
		Text string `json:"text"`
	}
	tokenDetails struct {
		FinishReason    string `json:"finish_reason"`
		GeneratedTokens int    `json:"generated_tokens"`
	}
)

// appendJSON appends what always encodes: texts and numbers.
func appendJSON(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return append(b, "{}"...)
	}
	return append(b, text...)
}
