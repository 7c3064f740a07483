package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

func serverless(concurrency, provisioned int32) types.ProductionVariant {
	c := &types.ProductionVariantServerlessConfig{MemorySizeInMB: aws.Int32(2048), MaxConcurrency: &concurrency}
	if provisioned > 0 {
		c.ProvisionedConcurrency = &provisioned
	}
	return types.ProductionVariant{VariantName: aws.String("v"), ServerlessConfig: c}
}

// slowStart is ready after two seconds and takes the given time to answer.
func slowStart(latency time.Duration) dataplane.Launcher {
	return simulated.New(simulated.Config{Startup: 2 * time.Second, Latency: simulated.Latency{Mean: latency}}, Shape, 1)
}

// request invokes and tells how long it waited for an environment.
func (r *rig) request(name string) (time.Duration, error) {
	route, err := r.Fleet.Invoke(context.Background(), endpointKey(home, name),
		&dataplane.Request{Body: []byte("ping"), Timeout: time.Minute}, new(dataplane.Answer))
	return route.ColdStart, err
}

// requests invokes n times at once.
func (r *rig) requests(name string, n int) (wait func() []error) {
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { _, errs[i] = r.request(name) })
	}
	synctest.Wait()
	return func() []error {
		all.Wait()
		return errs
	}
}

// environments are the slots that take requests, in order.
func (r *rig) environments(name string) []int {
	synctest.Wait()
	slots := []int{}
	e := r.Fleet.Lookup(endpointKey(home, name))
	if e == nil {
		return slots
	}
	for _, v := range e.Snapshot().Variants {
		for _, in := range v.Instances {
			if in.State() == dataplane.InService {
				slots = append(slots, in.Slot)
			}
		}
	}
	return slots
}

func (r *rig) wantEnvironments(name string, want ...int) {
	r.t.Helper()
	if got := r.environments(name); !slices.Equal(got, want) {
		r.t.Errorf("environments %v are up, want %v", got, want)
	}
}

func wantErrors(t *testing.T, errs []error, want error, n int) {
	t.Helper()
	for _, err := range errs {
		switch {
		case errors.Is(err, want) && want != nil:
			n--
		case err != nil:
			t.Error(err)
		}
	}
	if n != 0 {
		t.Errorf("got %v; %d more of them should be %v", errs, n, want)
	}
}

func TestServerlessVariantScalesToZeroAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		var setups []dataplane.ModelEvent
		r.ModelEvents = func(e dataplane.ModelEvent) { setups = append(setups, e) }
		began := time.Now()
		r.deploy("e", serverless(5, 0))
		r.settle("e", statusInService)
		if time.Since(began) < 2*time.Second {
			t.Error("the endpoint is InService before its container was seen to start")
		}
		r.wantEnvironments("e", 0)
		if waited, err := r.request("e"); err != nil || waited != 0 {
			t.Errorf("a warm environment let the request wait for %v (%v)", waited, err)
		}
		time.Sleep(defaultIdleTimeout - time.Second)
		r.wantEnvironments("e", 0)
		time.Sleep(2 * time.Second)
		r.wantEnvironments("e")
		if waited, err := r.request("e"); err != nil || waited != 2*time.Second {
			t.Errorf("the cold start took %v (%v), want 2s", waited, err)
		}
		r.wantEnvironments("e", 0)
		if len(setups) != 2 || setups[1].Metric != dataplane.ModelSetupTime || setups[1].Took != 2*time.Second || setups[1].Variant != "v" {
			t.Errorf("got %+v, want ModelSetupTime of 2 s twice", setups)
		}
		if v := r.endpoint("e").ProductionVariants[0]; v.CurrentInstanceCount != nil || *v.CurrentServerlessConfig.MaxConcurrency != 5 {
			t.Errorf("%+v", v)
		}
	})
}

func TestColdStartsTakeAsMuchLongerAsTheOperatorSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.Serverless = Serverless{IdleTimeout: time.Minute, ColdStart: 10 * time.Second}
		r.TimeScale = 2
		r.deploy("e", serverless(5, 0))
		r.settle("e", statusInService)
		time.Sleep(31 * time.Second)
		r.wantEnvironments("e")
		if waited, err := r.request("e"); err != nil || waited != 7*time.Second {
			t.Errorf("the cold start took %v (%v), want 5 s and the worker's own 2 s", waited, err)
		}
	})
}

func TestMaxConcurrencyThrottlesBeyond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slowStart(10*time.Second))
		defer r.stop()
		r.deploy("e", serverless(5, 0))
		r.settle("e", statusInService)
		wait := r.requests("e", 7)
		time.Sleep(3 * time.Second)
		r.wantEnvironments("e", 0, 1, 2, 3, 4)
		wantErrors(t, wait(), dataplane.ErrThrottled, 2)
		wantErrors(t, r.requests("e", 5)(), nil, 0)
		r.wantEnvironments("e", 0, 1, 2, 3, 4)
	})
}

func TestProvisionedConcurrencyStaysWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slowStart(time.Second))
		defer r.stop()
		r.deploy("e", serverless(5, 2))
		r.settle("e", statusInService)
		r.wantEnvironments("e", 0, 1)
		wantErrors(t, r.requests("e", 4)(), nil, 0) // two of them spill over
		r.wantEnvironments("e", 0, 1, 2, 3)
		time.Sleep(time.Hour)
		r.wantEnvironments("e", 0, 1)
	})
}

// TestIdleEnvironmentsStopBelowABusyOne: which of them stops does not depend on
// the order in which they were started.
func TestIdleEnvironmentsStopBelowABusyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started atomic.Int64
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			latency := time.Second
			if started.Add(1) == 3 {
				latency = 59 * time.Second
			}
			return slowEcho(latency).Launch(ctx, spec)
		}))
		defer r.stop()
		r.Serverless.IdleTimeout = 30 * time.Second
		r.deploy("e", serverless(5, 0))
		r.settle("e", statusInService)
		waits := make([]func() []error, 3)
		for i := range waits {
			waits[i] = r.requests("e", 1) // one by one: the third start is slot 2's
		}
		r.wantEnvironments("e", 0, 1, 2)
		time.Sleep(40 * time.Second)
		r.wantEnvironments("e", 2)
		waits = append(waits, r.requests("e", 2))
		time.Sleep(2 * time.Second)
		r.wantEnvironments("e", 0, 1, 2)
		for _, wait := range waits {
			wantErrors(t, wait(), nil, 0)
		}
	})
}

// lingering workers take their time to stop.
type lingering struct {
	dataplane.Worker
	linger time.Duration
}

func (w lingering) Stop(ctx context.Context, grace time.Duration) error {
	time.Sleep(w.linger)
	return w.Worker.Stop(ctx, grace)
}

func TestRequestDoesNotWaitForAnEnvironmentThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			w, err := echo().Launch(ctx, spec)
			return lingering{w, 25 * time.Second}, err
		}))
		defer r.stop()
		r.deploy("e", serverless(1, 0))
		r.settle("e", statusInService)
		time.Sleep(defaultIdleTimeout + time.Second)
		r.wantEnvironments("e")
		if waited, err := r.request("e"); err != nil || waited != 2*time.Second {
			t.Errorf("waited %v (%v), want the cold start's 2 s", waited, err)
		}
		time.Sleep(defaultIdleTimeout / 2)
		r.wantEnvironments("e", 1)
	})
}

func TestUpdateDoesNotWaitForIdleEnvironmentsToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			w, err := echo().Launch(ctx, spec)
			return lingering{w, 25 * time.Second}, err
		}))
		defer r.stop()
		r.deploy("e", serverless(1, 0))
		r.settle("e", statusInService)
		time.Sleep(defaultIdleTimeout + time.Second)
		r.setServerless("e", types.ProductionVariantServerlessUpdateConfig{MaxConcurrency: aws.Int32(2)})
		time.Sleep(time.Second)
		if out := r.endpoint("e"); out.EndpointStatus != statusInService {
			t.Errorf("endpoint is %s", out.EndpointStatus)
		}
	})
}

// startsAs decides about every start after the first by its number.
func startsAs(decide func(n int64) error) dataplane.Launcher {
	var n atomic.Int64
	return launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
		w, err := echo().Launch(ctx, spec)
		if failed := decide(n.Add(1)); failed != nil && err == nil {
			return nil, failed
		}
		return w, err
	})
}

func TestColdStartThatFailsFailsItsRequest(t *testing.T) {
	for name, tc := range map[string]struct{ err, want error }{
		"crash":   {fmt.Errorf("exit status 1: %w", dataplane.ErrPing), dataplane.ErrColdStart},
		"no room": {dataplane.ErrCapacity, dataplane.ErrProvisioning},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, startsAs(func(n int64) error {
					if n == 1 || n > 4 {
						return nil
					}
					return tc.err
				}))
				defer r.stop()
				r.deploy("e", serverless(5, 0))
				r.settle("e", statusInService)
				time.Sleep(defaultIdleTimeout + time.Second)
				for range 3 {
					if waited, err := r.request("e"); !errors.Is(err, tc.want) || waited != 2*time.Second {
						t.Errorf("after %v: %v, want %v", waited, err, tc.want)
					}
				}
				if out := r.endpoint("e"); out.EndpointStatus != statusInService || out.FailureReason != nil {
					t.Errorf("endpoint is %s: %v", out.EndpointStatus, out.FailureReason)
				}
				if _, err := r.request("e"); err != nil {
					t.Errorf("the next start should be tried at once: %v", err)
				}
			})
		})
	}
}

func TestServerlessEndpointFailsWhoseContainerDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, startsAs(func(int64) error { return dataplane.ErrPing }))
		defer r.stop()
		r.deploy("e", serverless(5, 0))
		out := r.settle("e", statusFailed)
		if want := sdkcompat.PingFailed.Sentence("primary", "v"); aws.ToString(out.FailureReason) != want {
			t.Errorf("got %q, want %q", aws.ToString(out.FailureReason), want)
		}
	})
}

func TestRequestGivesUpOnAColdStartThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, simulated.New(simulated.Config{Startup: 90 * time.Second}, Shape, 1))
		defer r.stop()
		r.deploy("e", serverless(5, 0))
		r.settle("e", statusInService)
		time.Sleep(defaultIdleTimeout + time.Second)
		began := time.Now()
		if _, err := r.request("e"); !errors.Is(err, dataplane.ErrProvisioning) || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		time.Sleep(31 * time.Second)
		if waited, err := r.request("e"); err != nil || waited != 0 {
			t.Errorf("the environment should be there by now: waited %v, %v", waited, err)
		}
	})
}

func TestEnvironmentThatCrashesIsReplacedOnDemandOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var crash func()
		var launches atomic.Int64
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			w, err := echo().Launch(ctx, spec)
			c := &doomed{Worker: w, done: make(chan struct{})}
			crash = sync.OnceFunc(func() { close(c.done) })
			launches.Add(1)
			return c, err
		}))
		defer r.stop()
		r.deploy("e", serverless(5, 0))
		r.settle("e", statusInService)
		crash()
		time.Sleep(time.Minute)
		r.wantEnvironments("e")
		if n := launches.Load(); n != 1 {
			t.Errorf("%d environments were started, want 1", n)
		}
		if waited, err := r.request("e"); err != nil || waited != 2*time.Second {
			t.Errorf("waited %v, %v", waited, err)
		}
	})
}

type doomed struct {
	dataplane.Worker
	done chan struct{}
}

func (w *doomed) Done() <-chan struct{} { return w.done }
func (w *doomed) Err() error            { return dataplane.ErrBroken }

// TestUpdateOfAServerlessVariantLosesNoRequest has requests that wait for the old
// fleet when it goes, and requests all the time.
func TestUpdateOfAServerlessVariantLosesNoRequest(t *testing.T) {
	for name, next := range map[string]types.ProductionVariant{
		"to serverless": serverless(50, 0), "to instances": variantOf("v", 2),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var started atomic.Int64
				r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
					if n := started.Add(1); n > 1 && n < 5 {
						dataplane.Sleep(ctx, 30*time.Second) // these start for longer than the update takes
					}
					return slowStart(time.Second).Launch(ctx, spec)
				}))
				defer r.stop()
				r.deploy("e", serverless(20, 0))
				r.settle("e", statusInService)
				r.config("next", "e", next)
				wait := r.requests("e", 4)
				r.update("e", "next", nil)
				stop, stopped := make(chan struct{}), make(chan error)
				go func() {
					var errs error
					for {
						select {
						case <-stop:
							stopped <- errs
							return
						case <-time.After(100 * time.Millisecond):
							_, err := r.request("e")
							errs = errors.Join(errs, err)
						}
					}
				}()
				began := time.Now()
				r.settle("e", statusInService)
				wantErrors(t, wait(), nil, 0)
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("the update and what waited for the old fleet took %v", took)
				}
				close(stop)
				r.must(<-stopped)
				v := r.endpoint("e").ProductionVariants[0]
				if c := next.ServerlessConfig; c != nil && *v.CurrentServerlessConfig.MaxConcurrency != 50 || c == nil && *v.CurrentInstanceCount != 2 {
					t.Errorf("%+v", v)
				}
			})
		})
	}
}

func TestRollingUpdateOfAServerlessVariantIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", serverless(5, 0))
		r.settle("e", statusInService)
		r.config("next", "e", variantOf("v", 4))
		name, next := "e", "next"
		_, err := r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{EndpointName: &name, EndpointConfigName: &next, DeploymentConfig: &types.DeploymentConfig{
			RollingUpdatePolicy: &types.RollingUpdatePolicy{MaximumBatchSize: capacitySize(types.CapacitySizeTypeInstanceCount, 1), WaitIntervalInSeconds: aws.Int32(0)},
		}})
		wantMessage(t, err, "ValidationException", sdkcompat.RollingOfMany.Sentence())
	})
}

func capacitySize(kind types.CapacitySizeType, value int32) *types.CapacitySize {
	return &types.CapacitySize{Type: kind, Value: &value}
}

func (r *rig) setServerless(name string, u types.ProductionVariantServerlessUpdateConfig) {
	r.t.Helper()
	_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
		EndpointName: &name, DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{{VariantName: aws.String("v"), ServerlessUpdateConfig: &u}},
	})
	r.must(err)
}

func TestServerlessUpdateConfigIsInForceOnceInService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slowStart(time.Second))
		defer r.stop()
		r.deploy("e", serverless(1, 0))
		r.settle("e", statusInService)
		wantErrors(t, r.requests("e", 3)(), dataplane.ErrThrottled, 2)
		r.setServerless("e", types.ProductionVariantServerlessUpdateConfig{MaxConcurrency: aws.Int32(3), ProvisionedConcurrency: aws.Int32(2)})
		synctest.Wait()
		out := r.endpoint("e")
		v := out.ProductionVariants[0]
		if out.EndpointStatus != statusUpdating || *v.CurrentServerlessConfig.MaxConcurrency != 1 || v.CurrentServerlessConfig.ProvisionedConcurrency != nil ||
			*v.DesiredServerlessConfig.MaxConcurrency != 3 || *v.DesiredServerlessConfig.ProvisionedConcurrency != 2 {
			t.Errorf("%s, %+v, %+v", out.EndpointStatus, v.CurrentServerlessConfig, v.DesiredServerlessConfig)
		}
		v = r.settle("e", statusInService).ProductionVariants[0]
		if *v.CurrentServerlessConfig.MaxConcurrency != 3 || *v.CurrentServerlessConfig.MemorySizeInMB != 2048 {
			t.Errorf("%+v", v.CurrentServerlessConfig)
		}
		r.wantEnvironments("e", 0, 1)
		wantErrors(t, r.requests("e", 4)(), dataplane.ErrThrottled, 1)
		r.setServerless("e", types.ProductionVariantServerlessUpdateConfig{MaxConcurrency: aws.Int32(1), ProvisionedConcurrency: aws.Int32(1)})
		r.settle("e", statusInService)
		time.Sleep(defaultIdleTimeout + time.Second)
		r.wantEnvironments("e", 0)
	})
}

func TestProvisionedConcurrencyThatCannotBeHadRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, startsAs(func(n int64) error {
			if n == 1 {
				return nil
			}
			return dataplane.ErrPing
		}))
		defer r.stop()
		r.deploy("e", serverless(3, 0))
		r.settle("e", statusInService)
		r.setServerless("e", types.ProductionVariantServerlessUpdateConfig{MaxConcurrency: aws.Int32(5), ProvisionedConcurrency: aws.Int32(2)})
		out := r.settle("e", statusInService)
		v := out.ProductionVariants[0]
		if out.FailureReason == nil || *v.DesiredServerlessConfig.MaxConcurrency != 3 || v.DesiredServerlessConfig.ProvisionedConcurrency != nil {
			t.Errorf("%v, %+v", out.FailureReason, v.DesiredServerlessConfig)
		}
		r.wantEnvironments("e", 0)
	})
}

func TestDeleteEndpointAnswersRequestsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, simulated.New(simulated.Config{Startup: 40 * time.Second}, Shape, 1))
		defer r.stop()
		r.deploy("e", serverless(5, 0))
		r.settle("e", statusInService)
		time.Sleep(defaultIdleTimeout + time.Second)
		wait := r.requests("e", 3)
		name := "e"
		_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: &name})
		r.must(err)
		began := time.Now()
		wantErrors(t, wait(), dataplane.ErrNoEndpoint, 3)
		if time.Since(began) > 0 {
			t.Errorf("they had to wait for %v", time.Since(began))
		}
		time.Sleep(time.Second)
		_, err = r.DescribeEndpoint(r.ctx, &sagemaker.DescribeEndpointInput{EndpointName: &name})
		wantMessage(t, err, "ValidationException", missingOne("endpoint", "e"))
	})
}

func TestServerlessEndpointAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(store.Options{InMemory: true, Tables: Tables()})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		r := rigOver(t, db, dir, echo())
		r.deploy("zero", serverless(5, 0))
		r.deploy("two", serverless(5, 2))
		r.settle("zero", statusInService)
		r.settle("two", statusInService)
		time.Sleep(defaultIdleTimeout + time.Second)
		wait := r.requests("zero", 2)
		r.must(r.Stop(context.Background()))
		wantErrors(t, wait(), dataplane.ErrNoInstance, 2)

		r = rigOver(t, db, dir, echo())
		defer r.stop()
		r.settle("zero", statusInService)
		r.settle("two", statusInService)
		r.wantEnvironments("zero")
		r.wantEnvironments("two", 0, 1)
		if waited, err := r.request("zero"); err != nil || waited != 2*time.Second {
			t.Errorf("waited %v, %v", waited, err)
		}
		if waited, err := r.request("two"); err != nil || waited != 0 {
			t.Errorf("waited %v, %v", waited, err)
		}
	})
}

func TestStreamKeepsItsEnvironmentUntilItsLastByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slowStart(20*time.Second))
		defer r.stop()
		r.deploy("e", serverless(1, 0))
		r.settle("e", statusInService)
		time.Sleep(defaultIdleTimeout + time.Second)
		var route dataplane.Route
		ended := make(chan error, 1)
		go func() {
			ended <- r.Fleet.InvokeStream(context.Background(), endpointKey(home, "e"), &dataplane.Request{Timeout: time.Minute}, &route, end{})
		}()
		time.Sleep(15 * time.Second)
		if _, err := r.request("e"); !errors.Is(err, dataplane.ErrThrottled) {
			t.Errorf("got %v, want a throttle", err)
		}
		if err := <-ended; err != nil || route.ColdStart != 2*time.Second {
			t.Errorf("got %+v, %v; want a cold start of 2 s", route, err)
		}
		if _, err := r.request("e"); err != nil {
			t.Error(err)
		}
	})
}

func TestServerlessSettingsMustNotBeNegative(t *testing.T) {
	for _, s := range []Serverless{{IdleTimeout: -1}, {ColdStart: -1}} {
		if s.Validate() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}
