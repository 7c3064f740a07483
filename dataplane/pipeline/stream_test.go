package pipeline

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestStreamOfAPipelineIsTheLastContainers(t *testing.T) {
	c := launch(t, false, "a", "b", "c")
	defer c.stop(t)
	var got launchertest.Pieces
	req := dataplane.Request{ContentType: "text/csv", Accept: "text/html", CustomAttributes: "trace=1", InferenceID: "id", Body: []byte("x"), Timeout: time.Minute}
	if err := c.Stream(t.Context(), &req, &got); err != nil || got.Text() != "x+a+b+c" || got.Head.ContentType != "text/c" || got.Head.Container != "" {
		t.Errorf("%+v %q, error %v", got.Head, got.Pieces, err)
	}
	want := []string{
		`a gets "text/csv" "x" accept "" attributes "trace=1" id "id"`,
		`b gets "text/a" "x+a" accept "" attributes "trace=1" id "id"`,
		`c gets "text/b" "x+a+b" accept "text/html" attributes "trace=1" id "id"`,
	}
	if !slices.Equal(c.journal.lines, want) {
		t.Errorf("got %q", c.journal.lines)
	}
}

func TestStreamOfADirectContainer(t *testing.T) {
	c := launch(t, true, "a", "b")
	defer c.stop(t)
	var got launchertest.Pieces
	if err := c.Stream(t.Context(), &dataplane.Request{TargetContainer: "b", Body: []byte("x")}, &got); err != nil || got.Text() != "x+b" {
		t.Errorf("%q, error %v", got.Pieces, err)
	}
	if err := c.Stream(t.Context(), &dataplane.Request{TargetContainer: "d"}, &got); !errors.Is(err, dataplane.ErrUnknownContainer) {
		t.Errorf("got %v, want ErrUnknownContainer", err)
	}
}

func TestFailureOfAStreamIsReportedWithItsContainer(t *testing.T) {
	for _, tc := range []struct {
		fails  string
		status int
		err    error
	}{
		{"a", 400, nil},
		{"c", 500, nil},
		{"b", 0, dataplane.ErrBroken},
		{"c", 0, dataplane.ErrTimeout},
	} {
		c := launch(t, false, "a", "b", "c")
		c.containers[tc.fails].answer = func(_ *dataplane.Request, ans *dataplane.Answer) error {
			ans.StatusCode, ans.Body = tc.status, append(ans.Body[:0], "no"...)
			return tc.err
		}
		var got launchertest.Pieces
		err := c.Stream(t.Context(), &dataplane.Request{Timeout: time.Minute}, &got)
		var of *dataplane.ContainerError
		switch {
		case tc.err == nil && (err != nil || got.Head.StatusCode != tc.status || got.Head.Container != tc.fails || got.Text() != "no"):
			t.Errorf("%+v: %+v %q, error %v", tc, got.Head, got.Pieces, err)
		case tc.err != nil && (!errors.Is(err, tc.err) || !errors.As(err, &of) || of.Container != tc.fails):
			t.Errorf("%+v: error %v", tc, err)
		}
		c.stop(t)
	}
}

func TestTimeOfAStreamIsForAllContainersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := launch(t, false, "a", "b")
		defer c.stop(t)
		c.containers["a"].answer = func(_ *dataplane.Request, ans *dataplane.Answer) error {
			time.Sleep(time.Minute) // the bubble's clock
			ans.StatusCode = 200
			return nil
		}
		err := c.Stream(t.Context(), &dataplane.Request{Timeout: time.Minute}, new(launchertest.Pieces))
		var of *dataplane.ContainerError
		if !errors.Is(err, dataplane.ErrTimeout) || !errors.As(err, &of) || of.Container != "b" {
			t.Errorf("got %v, want ErrTimeout of b", err)
		}
	})
}
