package routelab

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

func near(a, b float64) bool { return math.Abs(a-b) < 5e-4*max(1, math.Abs(b)) }

func TestMeanIntervalIsStudents(t *testing.T) {
	// t with 4 degrees of freedom at 97.5 % is 2.7764; the deviation is √2.5.
	got := MeanInterval([]float64{1, 2, math.NaN(), 3, 4, 5})
	half := 2.7764 * math.Sqrt(2.5) / math.Sqrt(5)
	if !near(got.Mean, 3) || !near(got.Low, 3-half) || !near(got.High, 3+half) {
		t.Errorf("interval %+v, want 3 ± %v", got, half)
	}
	if one := MeanInterval([]float64{7}); one.Mean != 7 || !math.IsNaN(one.Low) {
		t.Errorf("interval of one value %+v", one)
	}
	if none := MeanInterval(nil); !math.IsNaN(none.Mean) {
		t.Errorf("interval of nothing %+v", none)
	}
}

func TestPairedChangeTakesOutWhatRepetitionsShare(t *testing.T) {
	// Repetitions differ by a factor of 3, the strategies by 20 % in each.
	c := PairedChange([]float64{100, 200, 300}, []float64{79, 161, 241})
	if !c.Sure() || !near(c.Change, -0.2004) || c.Low < -0.24 || c.High > -0.15 || c.P > 0.01 {
		t.Errorf("%+v, want about -20 %% for sure", c)
	}
	if c := PairedChange([]float64{100, 200, 300}, []float64{110, 180, 330}); c.Sure() || c.P < 0.3 {
		t.Errorf("%+v, want unsure", c)
	}
}

func TestPairedChangeNeedsTwoPairsOfPositiveNumbers(t *testing.T) {
	c := PairedChange([]float64{100, 0, math.NaN()}, []float64{50, 50, 50})
	if c.Repetitions != 1 || !near(c.Change, -0.5) || !math.IsNaN(c.Low) || c.Sure() {
		t.Errorf("%+v, want -50 %% of one pair, unsure", c)
	}
	if c := PairedChange(nil, nil); !math.IsNaN(c.Change) || c.Sure() {
		t.Errorf("%+v of nothing", c)
	}
}

func TestWhatIsNotKnownIsNullInJSON(t *testing.T) {
	text, err := json.Marshal(PairedChange(nil, nil))
	want := `{"strategy":"","baseline":"","metric":"","change":null,"ci95":[null,null],"p_value":null,"repetitions":0}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestSeriesKeepsItsSumWhileItWidens(t *testing.T) {
	var s Series
	for i := range 10_000 {
		s.add(firstWidth*time.Duration(i)/5, 1)
	}
	s.spread(-firstWidth, 1000*firstWidth)
	sum := 0.0
	for _, v := range s.Sums {
		sum += v
	}
	if want := 10_000 + (1000 * firstWidth).Seconds(); !near(sum, want) || len(s.Sums) > maxIntervals {
		t.Errorf("%d intervals sum up to %v, want %v in at most %d", len(s.Sums), sum, want, maxIntervals)
	}
	if width, _ := s.mean(0, 0); width != 16*firstWidth {
		t.Errorf("intervals of %v", width)
	}
}
