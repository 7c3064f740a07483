package controlplane

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// in is a group of deployment 1.
func in(variant string) group { return group{1, variant} }

func slotIn(variant string, ordinal int) slotKey { return slotKey{in(variant), ordinal} }

func slotsOf(variant string, phases ...phase) map[slotKey]slotState {
	have := map[slotKey]slotState{}
	for i, p := range phases {
		have[slotIn(variant, i)] = slotState{phase: p}
	}
	return have
}

func TestPlan(t *testing.T) {
	backingOff := slotsOf("a", serving, vacantSlot, vacantSlot)
	backingOff[slotIn("a", 1)] = slotState{failures: 2, retryAt: epoch.Add(2 * time.Second)}
	backingOff[slotIn("a", 2)] = slotState{failures: 1, retryAt: epoch.Add(time.Second)}
	due := slotsOf("a", vacantSlot)
	due[slotIn("a", 0)] = slotState{failures: 1, retryAt: epoch}
	for _, tc := range []struct {
		name string
		want map[group]int
		have map[slotKey]slotState
		do   actions
	}{
		{"a new endpoint starts everything", map[group]int{in("b"): 1, in("a"): 2}, nil, actions{launch: []slotKey{slotIn("a", 0), slotIn("a", 1), slotIn("b", 0)}}},
		{"nothing to do", map[group]int{in("a"): 2}, slotsOf("a", serving, starting), actions{}},
		{"scale-out starts the next slots", map[group]int{in("a"): 3}, slotsOf("a", serving), actions{launch: []slotKey{slotIn("a", 1), slotIn("a", 2)}}},
		{"scale-in stops the highest slots", map[group]int{in("a"): 1}, slotsOf("a", serving, serving, starting), actions{stop: []slotKey{slotIn("a", 1), slotIn("a", 2)}}},
		{"what stops is not stopped twice", map[group]int{}, slotsOf("a", stopping, serving), actions{stop: []slotKey{slotIn("a", 1)}}},
		{"a failed instance waits for the earliest retry", map[group]int{in("a"): 3}, backingOff, actions{wait: time.Second}},
		{"a retry that is due starts", map[group]int{in("a"): 1}, due, actions{launch: []slotKey{slotIn("a", 0)}}},
		{"a slot that still stops is filled later", map[group]int{in("a"): 1}, slotsOf("a", stopping), actions{}},
		{"a deleted endpoint stops everything", map[group]int{}, slotsOf("a", serving, vacantSlot), actions{stop: []slotKey{slotIn("a", 0)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := plan(tc.want, tc.have, epoch); !reflect.DeepEqual(got, tc.do) {
				t.Errorf("got %+v, want %+v", got, tc.do)
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	failing := func(failures int, err error) map[slotKey]slotState {
		have := slotsOf("a", serving, vacantSlot)
		have[slotIn("a", 1)] = slotState{failures: failures, err: err}
		return have
	}
	for _, tc := range []struct {
		name            string
		want            map[group]int
		have            map[slotKey]slotState
		reached, failed bool
	}{
		{"all serve", map[group]int{in("a"): 2}, slotsOf("a", serving, serving), true, false},
		{"one starts", map[group]int{in("a"): 2}, slotsOf("a", serving, starting), false, false},
		{"one too many", map[group]int{in("a"): 1}, slotsOf("a", serving, stopping), false, false},
		{"none wanted, none there", map[group]int{}, nil, true, false},
		{"a crash may be retried", map[group]int{in("a"): 2}, failing(maxStarts-1, dataplane.ErrPing), false, false},
		{"a crash loop is given up", map[group]int{in("a"): 2}, failing(maxStarts, dataplane.ErrPing), false, true},
		{"model data cannot be read", map[group]int{in("a"): 2}, failing(1, fmt.Errorf("x: %w", dataplane.ErrModelData)), false, true},
		{"a failure of a slot that is not wanted does not count", map[group]int{in("a"): 1}, failing(maxStarts, dataplane.ErrPing), true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := measure(tc.want, tc.have)
			if got.reached != tc.reached || (got.err != nil) != tc.failed {
				t.Errorf("got %+v, want reached %v, failed %v", got, tc.reached, tc.failed)
			}
		})
	}
}

func TestBackOffDoublesToItsCap(t *testing.T) {
	var got []time.Duration
	for n := 1; n <= 9; n++ {
		got = append(got, backOff(n)/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}; !reflect.DeepEqual(got, want) {
		t.Errorf("seconds %v, want %v", got, want)
	}
}

func TestFailureReasonsAreAWSs(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("exit status 1: %w", dataplane.ErrPing), "The primary container for production variant AllTraffic did not pass the ping health check. Please check CloudWatch logs for this endpoint."},
		{dataplane.ErrCannotStart, "CannotStartContainerError. Please ensure the model container for variant AllTraffic starts correctly when invoked with 'docker run <image> serve'"},
		{dataplane.ErrCapacity, "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using a different ML instance type or after some time."},
		{fmt.Errorf("%w: s3://b/k: not found", dataplane.ErrModelData), "Failed to download model data for production variant AllTraffic: s3://b/k: not found."},
		{errors.New("disk on fire"), "Request to service failed. If failure persists after retry, contact customer support."},
	} {
		if got := failureReason(tc.err, "AllTraffic"); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.err, got, tc.want)
		}
	}
}
