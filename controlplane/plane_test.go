package controlplane

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
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

var home = sdkcompat.Scope{Account: "123456789012", Region: "us-east-1"}

// rig is a plane over a store of its own whose workers are launched by rule.
type rig struct {
	*Plane
	t   *testing.T
	ctx context.Context
	db  *store.DB
}

// launcherFunc makes a kind of worker of a function.
type launcherFunc func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error)

func (f launcherFunc) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	return f(ctx, spec)
}

// echo is the simulated kind, ready after two seconds.
func echo() dataplane.Launcher {
	return simulated.New(simulated.Config{Startup: 2 * time.Second}, Shape, 1)
}

func newRig(t *testing.T, launcher dataplane.Launcher) *rig {
	t.Helper()
	db, err := store.Open(store.Options{InMemory: true, Tables: Tables()})
	if err != nil {
		t.Fatal(err)
	}
	return rigOver(t, db, t.TempDir(), launcher)
}

func rigOver(t *testing.T, db *store.DB, dir string, launcher dataplane.Launcher) *rig {
	t.Helper()
	return rigWith(t, db, dir, launcher, Quotas{})
}

func rigWith(t *testing.T, db *store.DB, dir string, launcher dataplane.Launcher, quotas Quotas) *rig {
	t.Helper()
	r := &rig{t: t, db: db, ctx: WithScope(context.Background(), home)}
	r.Plane = New(Options{
		DB: db, Fleet: dataplane.NewFleet(), Dir: dir, Seed: 1, Logger: slog.New(slog.DiscardHandler), Quotas: quotas,
		Launcher:  func(string) dataplane.Launcher { return launcher },
		ModelData: &dataplane.ModelData{}, Logs: &dataplane.Logs{Dir: filepath.Join(dir, "logs")},
	})
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// stop ends the plane, checks the database and closes it.
func (r *rig) stop() {
	r.t.Helper()
	err := errors.Join(r.Stop(context.Background()), r.db.Check(), r.db.Close())
	if err != nil {
		r.t.Error(err)
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// deploy creates model, configuration and endpoint, all of one name.
func (r *rig) deploy(name string, variants ...types.ProductionVariant) {
	r.t.Helper()
	_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{
		ModelName: &name, PrimaryContainer: &types.ContainerDefinition{Image: aws.String("image")},
	})
	r.must(err)
	for i := range variants {
		variants[i].ModelName = &name
	}
	_, err = r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{EndpointConfigName: &name, ProductionVariants: variants})
	r.must(err)
	_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &name})
	r.must(err)
}

func variantOf(name string, count int32) types.ProductionVariant {
	return types.ProductionVariant{
		VariantName: &name, InitialInstanceCount: &count, InstanceType: types.ProductionVariantInstanceTypeMlM5Large,
	}
}

func (r *rig) endpoint(name string) *sagemaker.DescribeEndpointOutput {
	r.t.Helper()
	out, err := r.DescribeEndpoint(r.ctx, &sagemaker.DescribeEndpointInput{EndpointName: &name})
	r.must(err)
	return out
}

// settle waits, in the bubble's time, until the endpoint has the status.
func (r *rig) settle(name string, status types.EndpointStatus) *sagemaker.DescribeEndpointOutput {
	r.t.Helper()
	for range 10_000 {
		synctest.Wait()
		if out := r.endpoint(name); out.EndpointStatus == status {
			return out
		}
		time.Sleep(100 * time.Millisecond) // the bubble's clock
	}
	out := r.endpoint(name)
	r.t.Fatalf("endpoint is %s (%s), want %s", out.EndpointStatus, aws.ToString(out.FailureReason), status)
	return nil
}

func (r *rig) invoke(name string) (string, error) {
	ans := new(dataplane.Answer)
	_, err := r.Fleet.Invoke(context.Background(), endpointKey(home, name), &dataplane.Request{Body: []byte("ping")}, ans)
	return string(ans.Body), err
}

func wantMessage(t *testing.T, err error, code, message string) {
	t.Helper()
	var e *sdkcompat.Error
	if !errors.As(err, &e) || e.Code != code || e.Message != message {
		t.Errorf("got %v, want %s: %s", err, code, message)
	}
}

// slowEcho takes the given time to answer.
func slowEcho(latency time.Duration) dataplane.Launcher {
	return simulated.New(simulated.Config{Latency: simulated.Latency{Mean: latency}}, Shape, 1)
}
