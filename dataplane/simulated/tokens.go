package simulated

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Tokens makes the worker answer as a language model does, a word at a time. The
// configuration's Latency is then the time to the first token.
type Tokens struct {
	// Count is how many tokens an answer has, 1 to 100,000; 0 means 64. A request
	// in JSON may ask for another number by max_tokens, max_completion_tokens,
	// max_new_tokens or parameters.max_new_tokens.
	Count int `yaml:"count"`
	// PerSecond is how fast tokens follow the first when the request has the
	// instance to itself, up to 1,000,000; 0 means at once.
	PerSecond float64 `yaml:"per_second"`
	// Jitter is the standard deviation of the logarithm of the pause between two
	// tokens, 0 to 10; the mean pause stays 1/PerSecond.
	Jitter float64 `yaml:"jitter"`
	// Format is how an answer to /invocations looks: text (the default),
	// jsonlines, or openai. The OpenAI path always has the latter.
	Format string `yaml:"format"`
	// BreakRate is the probability, 0 to 1, that the connection breaks before the
	// last token.
	BreakRate float64 `yaml:"break_rate"`
}

// The formats.
const (
	FormatText      = "text"
	FormatJSONLines = "jsonlines"
	FormatOpenAI    = "openai"
)

const (
	defaultTokens = 64
	maxTokens     = 100_000
	maxPerSecond  = 1_000_000
)

func (t *Tokens) validate() error {
	switch t.Format {
	case "", FormatText, FormatJSONLines, FormatOpenAI:
	default:
		return fmt.Errorf("format %q is not one of %s", t.Format,
			strings.Join([]string{FormatText, FormatJSONLines, FormatOpenAI}, ", "))
	}
	switch {
	case t.Count < 0 || t.Count > maxTokens:
		return fmt.Errorf("count %d is not within 0 (default) to %d", t.Count, maxTokens)
	case !(t.PerSecond >= 0 && t.PerSecond <= maxPerSecond): // also catches NaN
		return fmt.Errorf("per_second %v is not within 0 (at once) to %d", t.PerSecond, maxPerSecond)
	case !(t.Jitter >= 0 && t.Jitter <= maxSigma):
		return fmt.Errorf("jitter %v is not within 0 to %d", t.Jitter, maxSigma)
	case t.Jitter != 0 && t.PerSecond == 0:
		return errors.New("jitter needs per_second")
	case !(t.BreakRate >= 0 && t.BreakRate <= 1):
		return fmt.Errorf("break_rate %v is not within 0 to 1", t.BreakRate)
	}
	return nil
}

// pause draws the work of one token in nanoseconds.
func (t *Tokens) pause(r *rand.Rand) float64 {
	if t.PerSecond == 0 {
		return 0
	}
	mean := float64(time.Second) / t.PerSecond
	if t.Jitter > 0 {
		mean *= math.Exp(t.Jitter*r.NormFloat64() - t.Jitter*t.Jitter/2)
	}
	return min(mean, maxWork)
}

// vocabulary is what a simulated language model has to say.
var vocabulary = strings.Fields(`a the this that one it we you they model weight gradient layer token
	query key value attention memory batch sample signal noise curve surface point line space time light
	water stone river mountain forest island garden city street house window door table letter number word
	is was has makes takes gives finds keeps moves turns shows learns reads writes counts sorts folds opens
	small large quick slow bright dark warm cold simple deep clear quiet open first last new old next other
	and or but so then when while where over under between before after with without near from into through`)
