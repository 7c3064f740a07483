package api

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/store"
)

// BenchmarkListEndpoints is the first page of a list that is filtered by nothing,
// beside others that grow.
func BenchmarkListEndpoints(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			plane, ctx := planeOf(b, n)
			b.ReportAllocs()
			for b.Loop() {
				page, err := plane.ListEndpoints(ctx, &sagemaker.ListEndpointsInput{})
				if err != nil || len(page.Endpoints) != 10 || page.NextToken == nil {
					b.Fatalf("page %+v, error %v", page, err)
				}
			}
		})
	}
}

// planeOf has n endpoints in service.
func planeOf(b *testing.B, n int) (*controlplane.Plane, context.Context) {
	plane := benchPlane(b)
	ctx := controlplane.WithScope(b.Context(), benchScope)
	benchConfig(b, plane)
	for i := range n {
		mustCall(b)(plane.CreateEndpoint(ctx, &sagemaker.CreateEndpointInput{
			EndpointName: aws.String(fmt.Sprintf("e%05d", i)), EndpointConfigName: aws.String("c"),
		}))
	}
	awaitNoneCreating(b, plane)
	return plane, ctx
}

// benchConfig makes configuration "c" of one simulated instance.
func benchConfig(b *testing.B, plane *controlplane.Plane) {
	ctx := controlplane.WithScope(b.Context(), benchScope)
	mustCall(b)(plane.CreateModel(ctx, &sagemaker.CreateModelInput{
		ModelName: aws.String("m"), ExecutionRoleArn: aws.String("arn:aws:iam::123456789012:role/r"),
		PrimaryContainer: &types.ContainerDefinition{Image: aws.String("simulated")},
	}))
	mustCall(b)(plane.CreateEndpointConfig(ctx, &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: aws.String("c"), ProductionVariants: []types.ProductionVariant{{
			VariantName: aws.String("v"), ModelName: aws.String("m"),
			InitialInstanceCount: aws.Int32(1), InstanceType: types.ProductionVariantInstanceTypeMlM5Large,
		}},
	}))
}

// mustCall ends the benchmark if an operation failed.
func mustCall(b *testing.B) func(any, error) {
	return func(_ any, err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
}

func benchPlane(b testing.TB) *controlplane.Plane {
	return benchPlaneOver(b, store.Options{InMemory: true, Tables: controlplane.Tables()})
}

func benchPlaneOver(b testing.TB, o store.Options) *controlplane.Plane {
	db, err := store.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	dir := b.TempDir()
	launcher := simulated.New(simulated.Config{}, controlplane.Shape, 1)
	plane := controlplane.New(controlplane.Options{
		DB: db, Fleet: dataplane.NewFleet(), Dir: dir, Seed: 1, Logger: slog.New(slog.DiscardHandler),
		Launcher:  func(string) dataplane.Launcher { return launcher },
		ModelData: &dataplane.ModelData{}, Logs: &dataplane.Logs{Dir: filepath.Join(dir, "logs")},
	})
	if err := plane.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = plane.Stop(b.Context()) })
	return plane
}

// awaitNoneCreating returns when the reconcilers have come to rest.
func awaitNoneCreating(b *testing.B, plane *controlplane.Plane) {
	ctx := controlplane.WithScope(b.Context(), benchScope)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		page, err := plane.ListEndpoints(ctx, &sagemaker.ListEndpointsInput{StatusEquals: types.EndpointStatusCreating})
		if err != nil {
			b.Fatal(err)
		}
		if len(page.Endpoints) == 0 {
			return
		}
	}
	b.Fatal("endpoints are still being created after a minute")
}
