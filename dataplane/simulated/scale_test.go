package simulated

import (
	"encoding/json"
	"math"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestCapacityAndSpeedFollowTheInstanceType(t *testing.T) {
	for _, test := range []struct {
		measured, have string
		slots          int // of 4
		speed          float64
		contention     float64 // of 0.4
	}{
		{"", "ml.m5.large", 4, 1, 0.4},
		{"", "ml.m5.xlarge", 8, 1, 0.2},
		{"", "ml.m7i.medium", 2, 1, 0.8},
		{"ml.m5.xlarge", "ml.m5.large", 2, 1, 0.8},
		{"ml.g5.xlarge", "ml.g5.12xlarge", 16, 1, 0.1},
		{"ml.g5.12xlarge", "ml.g5.xlarge", 1, 1, 1.6},
		{"ml.g5.xlarge", "ml.g4dn.xlarge", 2, 65. / 70, 0.4 * 22 / 16}, // 2.9 slots
		{"ml.g4dn.xlarge", "ml.p4d.24xlarge", 80, 4.8, 0.02},
		{"ml.g5.xlarge", "ml.g9.xlarge", 4, 1, 0.4 * 22 / 24}, // a device that is not in the table
		// Of another class: by vCPU, at the same speed.
		{"ml.m5.large", "ml.g5.xlarge", 8, 1, 0.2},
		{"ml.g5.xlarge", "ml.m5.large", 2, 1, 0.8},
	} {
		cfg := Config{Concurrency: 4, Contention: 0.4, MeasuredOn: test.measured}
		w := launch(t, cfg, spec(test.have)).(*worker)
		if w.station.slots != test.slots {
			t.Errorf("%s measured on %q: %d slots, want %d", test.have, test.measured, w.station.slots, test.slots)
		}
		if math.Abs(w.speed-test.speed) > 1e-12 || math.Abs(w.station.contention-test.contention) > 1e-12 {
			t.Errorf("%s measured on %q: speed %v, contention %v", test.have, test.measured, w.speed, w.station.contention)
		}
	}
}

func TestUnlimitedConcurrencyAndOneSlotSurviveScaling(t *testing.T) {
	if w := launch(t, Config{}, spec("ml.m7i.medium")).(*worker); w.station.slots != 0 {
		t.Errorf("unlimited became %d", w.station.slots)
	}
	if w := launch(t, Config{Concurrency: 1}, spec("ml.m7i.medium")).(*worker); w.station.slots != 1 {
		t.Errorf("one became %d", w.station.slots)
	}
	s := spec("ml.m5.large")
	s.Shape.VCPU = 0
	if w := launch(t, Config{Concurrency: 3}, s).(*worker); w.station.slots != 3 {
		t.Errorf("without a shape three became %d", w.station.slots)
	}
}

func TestAFasterAcceleratorAnswersSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := launch(t, Config{Latency: constant(312 * ms), MeasuredOn: "ml.g4dn.xlarge"}, spec("ml.p4d.24xlarge"))
		if got := play(w, arrival{}); got[0].at != 65*ms {
			t.Errorf("answered within %v", got[0].at)
		}
	})
}

func TestABiggerInstanceTakesMoreAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := launch(t, Config{Concurrency: 1, Latency: constant(sec)}, spec("ml.m5.xlarge"))
		for i, got := range play(w, at(0, 0, 0)...) {
			if want := time.Duration(i/2+1) * sec; got.at != want {
				t.Errorf("request %d ended at %v, want %v", i, got.at, want)
			}
		}
	})
}

func TestEveryAcceleratorThatAWSOffersHasASpeed(t *testing.T) {
	text, err := os.ReadFile("../../sdkcompat/shapes.json")
	if err != nil {
		t.Fatal(err)
	}
	var table map[string]struct{ Accelerator string }
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for name, s := range table {
		if s.Accelerator == "" {
			continue
		}
		kinds++
		if halfPrecision[s.Accelerator] <= 0 {
			t.Errorf("%s has %q, whose speed is unknown", name, s.Accelerator)
		}
	}
	if kinds == 0 {
		t.Error("the table names no accelerator")
	}
}
