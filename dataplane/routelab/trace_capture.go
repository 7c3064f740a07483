package routelab

import (
	"cmp"
	"errors"
	"slices"

	"github.com/sagelocal/sagelocal/dataplane"
)

// fromCapture makes the arrivals that were captured, counted from the first. AWS's
// times are whole seconds: the requests of one second come evenly over it, in the
// order of the lines. With dataplane.Captures.Timings the times are the true ones.
func fromCapture(lines []dataplane.CapturedLine, contentType string) ([]Arrival, error) {
	perSecond := map[int64]int{}
	for i := range lines {
		perSecond[lines[i].EventMetadata.InferenceTime.Unix()]++
	}
	passed := map[int64]int{}
	at := make([]float64, len(lines))
	for i := range lines {
		l := &lines[i]
		second := l.EventMetadata.InferenceTime.Unix()
		switch {
		case l.Timing != nil:
			at[i] = l.Timing.Start
		case l.EventMetadata.InferenceTime.IsZero():
			return nil, errors.New("captured data without inferenceTime")
		default:
			at[i] = float64(second) + (float64(passed[second])+0.5)/float64(perSecond[second])
			passed[second]++
		}
	}
	first := slices.Min(at)
	arrivals := make([]Arrival, len(lines))
	for i := range lines {
		input := lines[i].CaptureData.EndpointInput
		if input == nil {
			return nil, errors.New("the requests were not captured: CaptureOptions lacks Input")
		}
		body, err := input.Bytes()
		if err != nil {
			return nil, err
		}
		arrivals[i] = Arrival{At: seconds(at[i] - first), Request: Request{Body: body, ContentType: cmp.Or(input.ObservedContentType, contentType)}}
	}
	slices.SortStableFunc(arrivals, func(a, b Arrival) int { return cmp.Compare(a.At, b.At) })
	return arrivals, nil
}
