package routelab

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
)

// Bodies draws the next request's body.
type Bodies func(rng *rand.Rand) Request

// OneOf draws among requests, each as often as the others.
func OneOf(requests ...Request) Bodies {
	if len(requests) == 1 {
		return func(*rand.Rand) Request { return requests[0] }
	}
	return func(rng *rand.Rand) Request { return requests[rng.IntN(len(requests))] }
}

// Prefixes describes bodies for studies of PREFIX_AWARE: conversations that begin
// with the same text, as those over one system prompt or one document do.
type Prefixes struct {
	Count       int     // different prefixes, from 1
	Bytes       int     // of each prefix, from 1
	SuffixBytes int     // that no two requests share
	Skew        float64 // the i-th prefix is drawn in proportion to 1/i^Skew; 0 is uniform
	ContentType string
}

// maxPrefixMemory bounds the prefixes kept ready.
const maxPrefixMemory = 1 << 30

// Bodies makes the generator. The prefixes depend on seed alone.
func (p Prefixes) Bodies(seed uint64) (Bodies, error) {
	switch {
	case p.Count < 1 || p.Bytes < 1 || p.SuffixBytes < 0:
		return nil, fmt.Errorf("%d prefixes of %d bytes and %d more: counts must be positive", p.Count, p.Bytes, p.SuffixBytes)
	case p.Count > maxPrefixMemory/p.Bytes:
		return nil, fmt.Errorf("%d prefixes of %d bytes are more than %d bytes", p.Count, p.Bytes, maxPrefixMemory)
	case !(p.Skew >= 0 && p.Skew <= 10):
		return nil, fmt.Errorf("skew %v is not within 0 to 10", p.Skew)
	}
	rng := rand.New(rand.NewPCG(seed, 0x9ef1))
	prefixes, cumulative := make([][]byte, p.Count), make([]float64, p.Count)
	total := 0.0
	for i := range prefixes {
		prefixes[i] = appendText(make([]byte, 0, p.Bytes), rng, p.Bytes)
		total += math.Pow(float64(i+1), -p.Skew)
		cumulative[i] = total
	}
	return func(rng *rand.Rand) Request {
		i := sort.SearchFloat64s(cumulative, rng.Float64()*total)
		prefix := prefixes[min(i, p.Count-1)]
		body := append(make([]byte, 0, p.Bytes+p.SuffixBytes), prefix...)
		return Request{Body: appendText(body, rng, p.SuffixBytes), ContentType: p.ContentType}
	}, nil
}

// appendText adds n bytes of lower-case words, which need no escaping anywhere.
func appendText(b []byte, rng *rand.Rand, n int) []byte {
	for range n {
		c := byte(rng.Uint32() & 31)
		if c >= 26 {
			b = append(b, ' ')
			continue
		}
		b = append(b, 'a'+c)
	}
	return b
}
