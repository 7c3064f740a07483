package controlplane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/store"
)

// After a crash at any commit of an endpoint's life, the next run brings what was
// under way to its end.
func TestCrashAtEveryCommitIsRecoveredFrom(t *testing.T) {
	copies := crashes(t)
	if len(copies) < 8 {
		t.Fatalf("only %d commits in an endpoint's life", len(copies))
	}
	for i, path := range copies {
		t.Run(fmt.Sprint("commit ", i+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { recoverFrom(t, path) })
		})
	}
}

// crashes takes an endpoint through its life and returns a copy of the database
// for each commit.
func crashes(t *testing.T) (copies []string) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(store.Options{Path: path, Tables: Tables(), Committed: func() {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			copied := filepath.Join(dir, fmt.Sprint("copy-", len(copies)))
			if err := os.WriteFile(copied, text, 0o600); err != nil {
				t.Error(err)
			}
			copies = append(copies, copied)
		}})
		if err != nil {
			t.Fatal(err)
		}
		r := rigOver(t, db, t.TempDir(), echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 2))
		r.settle("e", statusInService)
		_, err = r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(3)}))
		r.must(err)
		r.settle("e", statusInService)
		r.remove("e")
	})
	return copies
}

func recoverFrom(t *testing.T, path string) {
	db, err := store.Open(store.Options{Path: path, Tables: Tables()})
	if err != nil {
		t.Fatal(err)
	}
	before := statusIn(t, db)
	r := rigOver(t, db, t.TempDir(), echo())
	defer r.stop()
	if before == statusInService {
		synctest.Wait()
		if s := r.endpoint("e").EndpointStatus; s != statusSystemUpdating {
			t.Errorf("%s right after the restart, want SystemUpdating: nothing is behind it yet", s)
		}
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	after := statusIn(t, db)
	switch before {
	case "", statusDeleting:
		if after != "" {
			t.Errorf("was %q, is %q; want it gone", before, after)
		}
		return
	default:
		if after != statusInService {
			t.Fatalf("was %q, is %q; want InService", before, after)
		}
	}
	v := r.endpoint("e").ProductionVariants[0]
	if *v.CurrentInstanceCount != *v.DesiredInstanceCount {
		t.Errorf("%d of %d instances", *v.CurrentInstanceCount, *v.DesiredInstanceCount)
	}
	if body, err := r.invoke("e"); body != "ping" || err != nil {
		t.Errorf("invoking it: %q, %v", body, err)
	}
}

// statusIn is the status that the database holds; empty without the endpoint.
func statusIn(t *testing.T, db *store.DB) (status types.EndpointStatus) {
	t.Helper()
	err := db.View(func(tx *store.Tx) error {
		return endpoints.Each(tx, func(_ store.Scope, _ string, rec *endpointRecord) error {
			status = rec.EndpointStatus
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func TestStopEndsEveryWorkerAndKeepsTheRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		r.deploy("e", variantOf("a", 3))
		r.settle("e", statusInService)
		in := r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants[0].Instances
		if err := r.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, i := range in {
			if i.State().String() != "Stopped" {
				t.Errorf("instance %s is %v", i.ID, i.State())
			}
		}
		if s := statusIn(t, r.db); s != statusInService {
			t.Errorf("record says %q, want InService", s)
		}
		r.must(r.db.Close())
	})
}

func TestResetDeletesOneAccountOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		r.must(r.Reset(context.Background(), "999999999999"))
		if s := r.endpoint("e").EndpointStatus; s != statusInService {
			t.Errorf("another account's reset left the endpoint %s", s)
		}
		r.must(r.Reset(context.Background(), home.Account))
		if r.Fleet.Lookup(endpointKey(home, "e")) != nil {
			t.Error("the fleet still knows the endpoint")
		}
		out, err := r.ListModels(r.ctx, &sagemaker.ListModelsInput{})
		if err != nil || len(out.Models) != 0 {
			t.Errorf("models after the reset: %v, %v", out, err)
		}
	})
}

// Another test of the same account may create its endpoint while the reset still
// ends the last one's workers.
func TestResetReturnsThoughAnEndpointOfTheNameIsThereAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kind := echo()
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			w, err := kind.Launch(ctx, spec)
			return stubborn{w}, err
		}))
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		old := r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants[0].Instances[0]
		go func() {
			time.Sleep(time.Second)
			r.deploy("e", variantOf("a", 1))
		}()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		began := time.Now()
		if err := r.Reset(ctx, home.Account); err != nil || time.Since(began) > time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if old.State() != dataplane.Stopped {
			t.Errorf("the old instance is %v", old.State())
		}
		r.settle("e", statusInService)
	})
}

// stubborn takes five seconds to stop.
type stubborn struct{ dataplane.Worker }

func (w stubborn) Stop(ctx context.Context, grace time.Duration) error {
	time.Sleep(5 * time.Second)
	return w.Worker.Stop(ctx, grace)
}

// The reason of a failed update stays until the next update starts
// (terraform-provider-aws#46663); a restart is none.
func TestFailureReasonOfAnUpdateOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := updatable(t, 1, "broken")
		first.update("e", "green", nil)
		want := aws.ToString(first.settle("e", statusInService).FailureReason)
		first.must(first.Stop(context.Background()))
		second := rigOver(t, first.db, t.TempDir(), byImage())
		defer second.stop()
		for _, status := range []types.EndpointStatus{statusSystemUpdating, statusInService} {
			if got := aws.ToString(second.settle("e", status).FailureReason); got != want || want == "" {
				t.Errorf("%s: %q, want %q", status, got, want)
			}
		}
	})
}

// TestRestartInTheMiddleOfAnUpdateIsServedByWhateverServesFirst sets the stage
// that the last run ended in.
func TestRestartInTheMiddleOfAnUpdateIsServedByWhateverServesFirst(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status types.EndpointStatus
		stage  stage
		end    string // EndpointConfigName
		both   bool   // the old fleet is there until the new one serves
	}{
		{"baking", statusUpdating, baking, "green", true},
		{"terminating", statusUpdating, terminating, "green", true},
		{"draining", statusUpdating, draining, "green", false},
		{"rolling back", statusRollingBack, withdrawing, "e", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := updatable(t, 2, "new")
				first.update("e", "green", nil)
				first.must(first.Stop(context.Background()))
				first.must(first.DB.Update(func(tx *store.Tx) error {
					rec, err := endpoints.Get(tx, store.Scope(home), "e")
					if err != nil {
						return err
					}
					rec.EndpointStatus = tc.status
					rec.Update.enter(tc.stage, tx.Now)
					return endpoints.Put(tx, store.Scope(home), "e", rec)
				}))
				second := rigOver(t, first.db, t.TempDir(), slowToStart("new"))
				defer second.stop()
				time.Sleep(time.Second) // the bubble's clock; the old fleet takes two, the new one twenty
				if synctest.Wait(); second.endpoint("e").EndpointStatus == statusInService {
					t.Error("InService with nothing behind it")
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if _, err := second.invoke("e"); tc.both && err != nil {
					t.Errorf("the old fleet is there, and yet: %v", err)
				}
				out := second.settle("e", statusInService)
				if *out.EndpointConfigName != tc.end || second.inService() != 2 {
					t.Errorf("InService on %s with %d instances, want %s with 2", *out.EndpointConfigName, second.inService(), tc.end)
				}
			})
		})
	}
}

// slowToStart is byImage, but that one image takes twenty seconds.
func slowToStart(image string) dataplane.Launcher {
	kind := byImage()
	return launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
		if spec.Container.Image == image && !dataplane.Sleep(ctx, 20*time.Second) {
			return nil, ctx.Err()
		}
		return kind.Launch(ctx, spec)
	})
}

func TestRestartIsOneCommitHoweverManyEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commits atomic.Int64
		db, err := store.Open(store.Options{InMemory: true, Tables: Tables(), Committed: func() { commits.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		first := rigOver(t, db, t.TempDir(), echo())
		for i := range 20 {
			name := fmt.Sprint("e", i)
			first.deploy(name, variantOf("a", 1))
			first.settle(name, statusInService)
		}
		first.must(first.Stop(context.Background()))
		before := commits.Load()
		second := rigOver(t, db, t.TempDir(), echo())
		defer second.stop()
		if n := commits.Load() - before; n != 1 {
			t.Errorf("%d commits, want one", n)
		}
		second.settle("e19", statusInService)
	})
}
