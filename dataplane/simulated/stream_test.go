package simulated

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// record is a sink that notes what comes and when.
type record struct {
	begin  time.Time
	head   dataplane.Answer
	pieces []string
	at     []time.Duration
	hook   func(i int) error // called with each piece's number
}

func (r *record) Begin(head *dataplane.Answer) error {
	r.head = *head
	return nil
}

func (r *record) Write(p []byte) (int, error) {
	r.pieces = append(r.pieces, string(p))
	r.at = append(r.at, time.Since(r.begin))
	if r.hook != nil {
		if err := r.hook(len(r.pieces) - 1); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (r *record) Flush() error { return nil }

func (r *record) text() string { return strings.Join(r.pieces, "") }

func streamed(ctx context.Context, w dataplane.Worker, req *dataplane.Request) (*record, error) {
	r := &record{begin: time.Now()}
	return r, w.Stream(ctx, req, r)
}

func chatRequest(body string) *dataplane.Request {
	return &dataplane.Request{Path: dataplane.ChatCompletionsPath, ContentType: "application/json", Body: []byte(body)}
}

func speaking(t Tokens, latency time.Duration) Config {
	return Config{Latency: constant(latency), Answer: Answer{Tokens: &t}}
}

func TestTokensComeAtTheirTimeAndSlowEachOtherDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := speaking(Tokens{Count: 4, PerSecond: 10}, 500*time.Millisecond)
		cfg.Contention = 1
		w := launch(t, cfg, spec("ml.m5.large"))
		r, err := streamed(t.Context(), w, &dataplane.Request{})
		want := []time.Duration{500 * time.Millisecond, 600 * time.Millisecond, 700 * time.Millisecond, 800 * time.Millisecond}
		if err != nil || !slices.Equal(r.at, want) {
			t.Errorf("alone: tokens at %v, want %v, error %v", r.at, want, err)
		}
		if n := len(strings.Fields(r.text())); n != 4 || r.head.ContentType != "text/plain; charset=utf-8" {
			t.Errorf("%d words of %q in %q", n, r.head.ContentType, r.text())
		}
		other := make(chan error, 1)
		go func() {
			_, err := streamed(context.Background(), w, &dataplane.Request{})
			other <- err
		}()
		r, err = streamed(t.Context(), w, &dataplane.Request{})
		want = []time.Duration{time.Second, 1200 * time.Millisecond, 1400 * time.Millisecond, 1600 * time.Millisecond}
		if err := errors.Join(err, <-other); err != nil || !slices.Equal(r.at, want) {
			t.Errorf("two at once: tokens at %v, want %v, error %v", r.at, want, err)
		}
	})
}

func TestTokensAreTheSameForASeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := speaking(Tokens{Count: 50, PerSecond: 100, Jitter: 0.5}, 20*time.Millisecond)
		run := func(seed uint64) *record {
			s := spec("ml.m5.large")
			s.Seed = seed
			r, err := streamed(t.Context(), launch(t, cfg, s), &dataplane.Request{})
			if err != nil {
				t.Error(err)
			}
			return r
		}
		a, b, c := run(1), run(1), run(2)
		if a.text() != b.text() || !slices.Equal(a.at, b.at) {
			t.Error("one seed gave two answers")
		}
		if a.text() == c.text() || slices.Equal(a.at, c.at) {
			t.Error("two seeds gave the same answer")
		}
		if a.at[49] < 300*time.Millisecond || a.at[49] > 900*time.Millisecond {
			t.Errorf("50 tokens at a mean of 10 ms took %v", a.at[49])
		}
	})
}

func TestRequestLimitsTokens(t *testing.T) {
	w := launch(t, speaking(Tokens{Count: 7}, 0), spec("ml.m5.large"))
	for body, want := range map[string]int{
		``:                                    7,
		`not JSON`:                            7,
		`{"max_tokens":3}`:                    3,
		`{"max_new_tokens":20}`:               20,
		`{"parameters":{"max_new_tokens":4}}`: 4,
		`{"max_completion_tokens":2,"max_tokens":9}`: 2,
		`{"max_tokens":0}`:                           7,
		`{"max_tokens":1000000000}`:                  maxTokens,
	} {
		r, err := streamed(t.Context(), w, &dataplane.Request{Body: []byte(body)})
		if len(r.pieces) != want || err != nil {
			t.Errorf("%s: %d tokens, want %d, error %v", body, len(r.pieces), want, err)
		}
		var ans dataplane.Answer
		if err := w.Invoke(t.Context(), &dataplane.Request{Body: []byte(body)}, &ans); err != nil || len(strings.Fields(string(ans.Body))) != want {
			t.Errorf("%s: %d words as a whole, error %v", body, len(strings.Fields(string(ans.Body))), err)
		}
	}
}

func TestJSONLinesAreALineAToken(t *testing.T) {
	w := launch(t, speaking(Tokens{Count: 3, Format: FormatJSONLines}, 0), spec("ml.m5.large"))
	r, err := streamed(t.Context(), w, &dataplane.Request{Body: []byte(`{"parameters":{"max_new_tokens":2}}`)})
	if err != nil || r.head.ContentType != "application/jsonlines" || len(r.pieces) != 2 {
		t.Fatalf("%q %q, error %v", r.head.ContentType, r.pieces, err)
	}
	for i, line := range r.pieces {
		var got tokenLine
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Token.ID != i+1 || got.Token.Text == "" || !strings.HasSuffix(line, "}\n") {
			t.Errorf("line %q, error %v", line, err)
		}
		if last := i == 1; last != (got.Details != nil) || last && *got.Details != (tokenDetails{"length", 2}) {
			t.Errorf("details %+v", got.Details)
		}
	}
}

func TestChatCompletionIsStreamedAsOpenAIDoes(t *testing.T) {
	w := launch(t, speaking(Tokens{Count: 2}, 0), spec("ml.m5.large"))
	r, err := streamed(t.Context(), w, chatRequest(`{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"one two three"}]}`))
	if err != nil || r.head.StatusCode != 200 || r.head.ContentType != "text/event-stream" || len(r.pieces) != 3 {
		t.Fatalf("%+v, %d pieces, error %v", r.head, len(r.pieces), err)
	}
	events := strings.Split(strings.TrimSuffix(r.text(), "\n\n"), "\n\n")
	if len(events) != 6 || events[5] != "data: [DONE]" {
		t.Fatalf("events %q", events)
	}
	var text string
	var last completion
	for i, event := range events[:5] {
		var c completion
		if err := json.Unmarshal([]byte(strings.TrimPrefix(event, "data: ")), &c); err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		if c.Object != "chat.completion.chunk" || c.Model != "m" || c.ID == "" || c.Created == 0 || last.ID != "" && c.ID != last.ID {
			t.Errorf("chunk %s", event)
		}
		last = c
		switch i {
		case 0:
			if c.Choices[0].Delta.Role != "assistant" {
				t.Errorf("first chunk %s", event)
			}
		case 1, 2:
			text += c.Choices[0].Delta.Content
		case 3:
			if r := c.Choices[0].FinishReason; r == nil || *r != "stop" {
				t.Errorf("last chunk %s", event)
			}
		case 4:
			if len(c.Choices) != 0 || *c.Usage != (usage{3, 2, 5}) {
				t.Errorf("usage %s", event)
			}
		}
	}
	if len(strings.Fields(text)) != 2 {
		t.Errorf("it said %q", text)
	}
}

func TestChatCompletionIsWholeUnlessStreamed(t *testing.T) {
	w := launch(t, speaking(Tokens{Count: 64}, 0), spec("ml.m5.large"))
	r, err := streamed(t.Context(), w, chatRequest(`{"max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"a b"},{"type":"image_url"}]}]}`))
	var c completion
	if err := errors.Join(err, json.Unmarshal([]byte(r.text()), &c)); err != nil || r.head.ContentType != "application/json" || c.Object != "chat.completion" {
		t.Fatalf("%q %q, error %v", r.head.ContentType, r.text(), err)
	}
	if said := c.Choices[0]; len(strings.Fields(said.Message.Content)) != 5 || *said.FinishReason != "length" || *c.Usage != (usage{2, 5, 7}) {
		t.Errorf("got %s", r.text())
	}
}

func TestEchoRepeatsTheLastMessageOfAChat(t *testing.T) {
	w := launch(t, Config{}, spec("ml.m5.large"))
	r, err := streamed(t.Context(), w, chatRequest(`{"messages":[{"role":"system","content":"x"},{"role":"user","content":"Hello, \"you\"  there\n"}]}`))
	var c completion
	if err := errors.Join(err, json.Unmarshal([]byte(r.text()), &c)); err != nil || c.Choices[0].Message.Content != "Hello, \"you\"  there\n" {
		t.Errorf("got %s, error %v", r.text(), err)
	}
	r, err = streamed(t.Context(), w, chatRequest(`{}`))
	if err != nil || !strings.Contains(r.text(), `"finish_reason":"stop"`) {
		t.Errorf("nothing to repeat: %s, error %v", r.text(), err)
	}
	fixed := launch(t, Config{Answer: Answer{Fixed: &Fixed{Status: 429, Body: "slow down"}}}, spec("ml.m5.large"))
	if r, err := streamed(t.Context(), fixed, chatRequest(`{}`)); err != nil || r.head.StatusCode != 429 || r.text() != "slow down" {
		t.Errorf("a fixed answer: %d %s, error %v", r.head.StatusCode, r.text(), err)
	}
}

func TestStreamEndsEarlyAsItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := speaking(Tokens{Count: 100, PerSecond: 10}, time.Second)
		for name, tc := range map[string]struct {
			change func(*Config)
			req    dataplane.Request
			during func(w dataplane.Worker, cancel func())
			want   error
			tokens int // -1: some
		}{
			"timeout": {req: dataplane.Request{Timeout: 2050 * time.Millisecond}, want: dataplane.ErrTimeout, tokens: 11},
			"caller":  {during: func(_ dataplane.Worker, cancel func()) { cancel() }, want: context.Canceled, tokens: 1},
			"stop":    {during: func(w dataplane.Worker, _ func()) { _ = w.Stop(context.Background(), 0) }, want: dataplane.ErrBroken, tokens: 1},
			"break": {change: func(c *Config) {
				c.Answer.Tokens = &Tokens{Count: 100, PerSecond: 10, BreakRate: 1}
			}, want: dataplane.ErrBroken, tokens: -1},
		} {
			cfg := slow
			if tc.change != nil {
				tc.change(&cfg)
			}
			w := launch(t, cfg, spec("ml.m5.large"))
			ctx, cancel := context.WithCancel(t.Context())
			r := &record{begin: time.Now(), hook: func(i int) error {
				if i == 0 && tc.during != nil {
					tc.during(w, cancel)
				}
				return nil
			}}
			err := w.Stream(ctx, &tc.req, r)
			if n := len(r.pieces); !errors.Is(err, tc.want) || n != tc.tokens && (tc.tokens >= 0 || n >= 100) {
				t.Errorf("%s: %d tokens, error %v", name, n, err)
			}
			cancel()
		}
	})
}

func TestStreamThatIsNotServedIsAnErrorAnswer(t *testing.T) {
	cfg := speaking(Tokens{Count: 3, PerSecond: 1000}, time.Millisecond)
	cfg.FailureRate = 1
	r, err := streamed(t.Context(), launch(t, cfg, spec("ml.m5.large")), &dataplane.Request{})
	if err != nil || r.head.StatusCode != 500 || r.text() != `{"error":"simulated failure"}` {
		t.Errorf("%d %s, error %v", r.head.StatusCode, r.text(), err)
	}
	cfg = speaking(Tokens{}, 0)
	cfg.FailureRate = 1
	r, err = streamed(t.Context(), launch(t, cfg, spec("ml.m5.large")), &dataplane.Request{})
	if err != nil || r.head.StatusCode != 500 {
		t.Errorf("at once: %d %s, error %v", r.head.StatusCode, r.text(), err)
	}
}

func TestSinkThatFailsEndsTheStreamAndFreesItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := speaking(Tokens{Count: 1000, PerSecond: 1}, time.Second)
		cfg.Concurrency, cfg.Queue = 1, 1
		w := launch(t, cfg, spec("ml.m5.large"))
		gone := errors.New("gone")
		r := &record{begin: time.Now(), hook: func(i int) error {
			if i == 4 {
				return gone
			}
			return nil
		}}
		if err := w.Stream(t.Context(), &dataplane.Request{}, r); !errors.Is(err, gone) || len(r.pieces) != 5 {
			t.Errorf("%d tokens, error %v", len(r.pieces), err)
		}
		r, err := streamed(t.Context(), w, &dataplane.Request{Body: []byte(`{"max_tokens":1}`)})
		if err != nil || r.at[0] != time.Second {
			t.Errorf("the next one's token came after %v, error %v", r.at, err)
		}
	})
}

// TestSlowReaderDoesNotHoldTheModelUp: a model server makes its tokens whether or
// not they are read.
func TestSlowReaderDoesNotHoldTheModelUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := speaking(Tokens{Count: 10, PerSecond: 10}, 100*time.Millisecond)
		cfg.Concurrency = 1
		w := launch(t, cfg, spec("ml.m5.large"))
		slow := make(chan *record, 1)
		go func() {
			r := &record{begin: time.Now(), hook: func(i int) error {
				if i == 0 {
					time.Sleep(time.Minute) // the bubble's clock
				}
				return nil
			}}
			if err := w.Stream(context.Background(), &dataplane.Request{}, r); err != nil {
				t.Error(err)
			}
			slow <- r
		}()
		synctest.Wait()
		r, err := streamed(t.Context(), w, &dataplane.Request{})
		if err != nil || r.at[9] != 2*time.Second {
			t.Errorf("the next one was done after %v, error %v", r.at, err)
		}
		if r := <-slow; len(r.pieces) != 10 || r.at[1] != r.at[9] || r.at[9] < time.Minute {
			t.Errorf("the slow reader got its tokens at %v", r.at)
		}
	})
}

func TestTokensAreValidated(t *testing.T) {
	for want, tokens := range map[string]Tokens{
		`tokens: format "xml" is not one of text, jsonlines, openai`: {Format: "xml"},
		"tokens: count -1 is not within":                             {Count: -1},
		"tokens: count 100001 is not within":                         {Count: maxTokens + 1},
		"tokens: per_second -1 is not within":                        {PerSecond: -1},
		"tokens: jitter 11 is not within":                            {PerSecond: 1, Jitter: 11},
		"tokens: jitter needs per_second":                            {Jitter: 1},
		"tokens: break_rate 2 is not within":                         {BreakRate: 2},
	} {
		cfg := Config{Answer: Answer{Tokens: &tokens}}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", tokens, err)
		}
	}
	both := Config{Answer: Answer{Tokens: &Tokens{}, Fixed: &Fixed{}}}
	if err := both.Validate(); err == nil {
		t.Error("tokens and fixed together are accepted")
	}
}
