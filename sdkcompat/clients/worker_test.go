package clients_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
)

// pids asks the test model's instances for their process ids until n are known.
func (c *goClient) pids(t *testing.T, endpoint string, n int) map[int]bool {
	t.Helper()
	found := map[int]bool{}
	for range 1000 {
		pid, err := strconv.Atoi(c.mustInvoke(t, endpoint, "pid"))
		if err != nil {
			t.Fatal(err)
		}
		if found[pid] = true; len(found) == n {
			return found
		}
	}
	t.Fatalf("1000 invocations reached only %v", found)
	return nil
}

func (c *goClient) inFlight(t *testing.T, endpoint string, want int) {
	t.Helper()
	eventually(t, waitLimit, func() error {
		sum := 0
		for _, in := range c.instances(t, endpoint) {
			sum += in.InFlight
		}
		if sum != want {
			return fmt.Errorf("%d requests in flight, want %d", sum, want)
		}
		return nil
	})
}

// waiting starts n invocations that end when the returned path is created.
func (c *goClient) waiting(ctx context.Context, t *testing.T, endpoint string, n int) (path string, ended <-chan error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "go")
	results := make(chan error, n)
	for range n {
		go func() {
			out, err := c.invoke(ctx, endpoint, "wait "+path)
			if err == nil && out != "waited" {
				err = fmt.Errorf("got %q", out)
			}
			results <- err
		}()
	}
	c.inFlight(t, endpoint, n)
	return path, results
}

func TestLeastOutstandingRequestsFillsInstancesEvenly(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "even", workerContainer, 3)
	path, ended := c.waiting(t.Context(), t, "even", 9)
	for _, in := range c.instances(t, "even") {
		if in.InFlight != 3 {
			t.Errorf("instance %d has %d of 9 requests", in.Slot, in.InFlight)
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 9 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	c.inFlight(t, "even", 0)
}

func TestClientThatGoesAwayIsNoLongerCounted(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "leaving", workerContainer, 2)
	ctx, leave := context.WithCancel(t.Context())
	_, ended := c.waiting(ctx, t, "leaving", 6)
	leave()
	for range 6 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	c.inFlight(t, "leaving", 0)
	if got := c.mustInvoke(t, "leaving", "echo on"); got != "on" {
		t.Errorf("got %q", got)
	}
}

func TestCrashedWorkerIsModelErrorAndIsReplaced(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "crashing", workerContainer, 2)
	before := c.instances(t, "crashing")
	old := c.pids(t, "crashing", 2)
	_, err := c.invoke(t.Context(), "crashing", "crash")
	e := asError[*runtimetypes.ModelError](t, err)
	if aws.ToInt32(e.OriginalStatusCode) != 0 || !strings.HasPrefix(e.ErrorMessage(), "Received server error (0) from primary with message \"") {
		t.Errorf("got %d %q", aws.ToInt32(e.OriginalStatusCode), e.ErrorMessage())
	}
	eventually(t, waitLimit, func() error {
		now := c.instances(t, "crashing")
		replaced := 0
		for i := range now {
			if now[i].State != "InService" || now[i].Slot != i || now[i].InFlight != 0 {
				return fmt.Errorf("got %+v", now)
			}
			if now[i].ID != before[i].ID {
				replaced++
			}
		}
		if len(now) != 2 || replaced != 1 {
			return fmt.Errorf("%d of 2 instances replaced: %+v", replaced, now)
		}
		return nil
	})
	fresh := 0
	for pid := range c.pids(t, "crashing", 2) {
		if !old[pid] {
			fresh++
		}
	}
	if out := c.describe(t, "crashing"); fresh != 1 || out.EndpointStatus != types.EndpointStatusInService {
		t.Errorf("%d new processes, status %s", fresh, out.EndpointStatus)
	}
}

func TestDeletedEndpointAnswersWhatItHas(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "draining", workerContainer, 1)
	pids := c.pids(t, "draining", 1)
	path, ended := c.waiting(t.Context(), t, "draining", 2)
	c.delete(t, "draining")
	if got := c.describe(t, "draining").EndpointStatus; got != types.EndpointStatusDeleting {
		t.Errorf("got %s", got)
	}
	_, err := c.invoke(t.Context(), "draining", "echo new")
	asError[*runtimetypes.ValidationError](t, err)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	c.awaitDeleted(t, "draining")
	for pid := range pids {
		if alive(pid) {
			t.Errorf("worker %d outlives its endpoint", pid)
		}
	}
}
