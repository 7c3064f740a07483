package routelab

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestEveryStrategyTakesEveryPlaceInTurn(t *testing.T) {
	for n := 1; n <= 4; n++ {
		first, places := map[int]int{}, map[[2]int]int{}
		for repetition := range 2 * n {
			order := turn(n, repetition)
			if sorted := slices.Sorted(slices.Values(order)); !slices.Equal(sorted, turn(n, 0)) {
				t.Fatalf("turn(%d, %d) = %v, not all of them", n, repetition, order)
			}
			first[order[0]]++
			for place, i := range order {
				places[[2]int{i, place}]++
			}
		}
		for at, times := range places {
			if times != 2 {
				t.Errorf("%d subjects: %d takes place %d %d times in %d repetitions, want 2", n, at[0], at[1], times, 2*n)
			}
		}
	}
}

func TestComparisonFindsTheBetterStrategy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast := newServer(always(100*time.Millisecond), "a", "b", "c", "d")
		slow := newServer(always(125*time.Millisecond), "a", "b", "c", "d")
		looked := 0
		e := Experiment{
			Load: Load{Users: 8, Think: ThinkExponential(10 * time.Millisecond), Bodies: anyBody, WarmUp: time.Second, Duration: time.Minute},
			Subjects: []Subject{
				{Strategy: "LEAST_OUTSTANDING_REQUESTS", Target: fast.invoke, Instances: 4},
				{Strategy: "RANDOM", Target: slow.invoke, Instances: 4, Fleet: func(context.Context) (map[string]int, error) {
					looked++
					return map[string]int{"a": 3, "b": 1, "c": 0, "d": 0}, nil
				}},
			},
			Repetitions: 3,
		}
		var order []string
		e.Begun = func(run, of int, rec *Recorder) {
			if of != 6 || run != len(order)+1 {
				t.Errorf("run %d of %d", run, of)
			}
			order = append(order, rec.Progress().Strategy)
		}
		runs, err := e.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if order[0] == order[2] {
			t.Errorf("order %v does not turn", order)
		}
		r := NewReport(Setup{Repetitions: 3}, []string{"LEAST_OUTSTANDING_REQUESTS", "RANDOM"}, runs)
		c := r.change("LEAST_OUTSTANDING_REQUESTS", throughput)
		if c.Baseline != "RANDOM" || c.Repetitions != 3 || !c.Sure() || c.Change < 0.2 || c.Change > 0.3 {
			t.Errorf("throughput changes by %+v, want +25 %% against RANDOM", c)
		}
		random := r.Strategies[1].Metrics
		if cv := random["in_flight_cv"].Mean; !within(cv, 1.2247) {
			t.Errorf("in flight CV %v, want that of 3, 1, 0, 0", cv)
		}
		if m := random["in_flight_max_to_mean"].Mean; !within(m, 3) {
			t.Errorf("in flight max/mean %v, want 3", m)
		}
		if looked < 3*60*4 || looked > 3*62*6 {
			t.Errorf("looked %d times at the fleet in 3 minutes, want about 900", looked)
		}
	})
}

func TestFleetIsLeftAloneAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looked := 0
		e := Experiment{
			Load: Load{Users: 1, Bodies: anyBody, Duration: 10 * time.Second}, Repetitions: 1,
			Subjects: []Subject{{Strategy: "it", Target: newServer(always(time.Second), "a").invoke, Fleet: func(context.Context) (map[string]int, error) {
				looked++
				return nil, errors.New("404")
			}}},
		}
		if _, err := e.Run(t.Context()); err != nil || looked != 1 {
			t.Errorf("looked %d times, %v; want once", looked, err)
		}
	})
}

func TestExperimentRefusesTheSameStrategyTwice(t *testing.T) {
	s := Subject{Strategy: "RANDOM"}
	e := Experiment{Load: Load{Users: 1, Bodies: anyBody, Requests: 1}, Subjects: []Subject{s, s}, Repetitions: 1}
	if _, err := e.Run(t.Context()); err == nil {
		t.Error("accepted")
	}
}

func TestImbalanceCountsInstancesThatGetNothing(t *testing.T) {
	run := &Run{Instances: 4, PerInstance: map[string]int64{"a": 10, "b": 10}}
	if cv, most := Imbalance(run.requestCounts()); cv != 1 || most != 2 {
		t.Errorf("CV %v and max/mean %v, want 1 and 2", cv, most)
	}
	if got := slices.Sorted(maps.Keys(run.PerInstance)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("instances became %v", got)
	}
}
