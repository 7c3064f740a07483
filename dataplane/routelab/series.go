package routelab

import "time"

// Series is a quantity over time in equal intervals. It widens the intervals as
// the time that it covers grows, so that it stays small however long a run is.
type Series struct {
	Width time.Duration // of an interval
	Sums  []float64     // of what fell into each interval
}

const (
	firstWidth   = 50 * time.Millisecond
	maxIntervals = 240
)

// add counts v at a time. Times before zero are left out.
func (s *Series) add(at time.Duration, v float64) {
	if at < 0 {
		return
	}
	s.cover(at)
	s.Sums[at/s.Width] += v
}

// spread adds the seconds of [from, to) to the intervals that they fall into: the
// area under a count that is one higher from from to to.
func (s *Series) spread(from, to time.Duration) {
	from = max(from, 0)
	if to <= from {
		return
	}
	s.cover(to - 1)
	for from < to {
		i := from / s.Width
		end := min(to, (i+1)*s.Width)
		s.Sums[i] += (end - from).Seconds()
		from = end
	}
}

func (s *Series) cover(at time.Duration) {
	if s.Width == 0 {
		s.Width = firstWidth
	}
	for at/s.Width >= maxIntervals {
		s.widen()
	}
	for len(s.Sums) <= int(at/s.Width) {
		s.Sums = append(s.Sums, 0)
	}
}

// widen joins neighbours.
func (s *Series) widen() {
	s.Width *= 2
	half := (len(s.Sums) + 1) / 2
	for i := range half {
		sum := s.Sums[2*i]
		if 2*i+1 < len(s.Sums) {
			sum += s.Sums[2*i+1]
		}
		s.Sums[i] = sum
	}
	s.Sums = s.Sums[:half]
}

// mean is the series a second: of counts a rate, of spread seconds a level. The
// intervals are at least width wide, and only those that end within length count.
func (s *Series) mean(width, length time.Duration) (time.Duration, []float64) {
	c := Series{Width: s.Width, Sums: append([]float64(nil), s.Sums...)}
	if c.Width == 0 {
		c.Width = firstWidth
	}
	for c.Width < width {
		c.widen()
	}
	n := int(length / c.Width)
	values := make([]float64, n)
	for i := range min(n, len(c.Sums)) {
		values[i] = c.Sums[i] / c.Width.Seconds()
	}
	return c.Width, values
}
