package api

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"go.etcd.io/bbolt"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/store"
)

// spread runs do(0..b.N-1) on n goroutines.
func spread(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
}

// BenchmarkCreateEndpoint is the operation from the request's bytes to the
// answer's, durable, with a reconciler and a simulated instance behind each
// endpoint, beside bbolt's Update for putting a record of the same size under
// one key and nothing else.
func BenchmarkCreateEndpoint(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("bare-bbolt/callers=%d", callers), func(b *testing.B) {
			db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			record := endpointBytes(b)
			b.ResetTimer()
			spread(b, callers, func(i int) error {
				return db.Update(func(tx *bbolt.Tx) error {
					bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
					if err != nil {
						return err
					}
					return bucket.Put(fmt.Appendf(nil, "e%07d", i), record)
				})
			})
		})
		b.Run(fmt.Sprintf("sagelocal/callers=%d", callers), func(b *testing.B) {
			plane := benchPlaneOver(b, store.Options{Path: filepath.Join(b.TempDir(), "state.db"), CarryDelay: 2 * time.Millisecond, Tables: controlplane.Tables()})
			ctx := controlplane.WithScope(context.Background(), benchScope)
			benchConfig(b, plane)
			b.ResetTimer()
			spread(b, callers, func(i int) error {
				_, err := operations["CreateEndpoint"](plane, ctx, "CreateEndpoint", fmt.Appendf(nil, `{"EndpointName":"e%07d","EndpointConfigName":"c"}`, i))
				return err
			})
			b.StopTimer()
			awaitNoneCreating(b, plane)
		})
	}
}

// endpointBytes is about what the store keeps of an endpoint.
func endpointBytes(b *testing.B) []byte {
	plane := benchPlane(b)
	benchConfig(b, plane)
	ctx := controlplane.WithScope(b.Context(), benchScope)
	mustCall(b)(plane.CreateEndpoint(ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("c")}))
	out, err := plane.DescribeEndpoint(ctx, &sagemaker.DescribeEndpointInput{EndpointName: aws.String("e")})
	if err != nil {
		b.Fatal(err)
	}
	record, err := json.Marshal(out)
	if err != nil {
		b.Fatal(err)
	}
	return record
}

// BenchmarkDescribeEndpoint is one endpoint among others that grow.
func BenchmarkDescribeEndpoint(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			plane, ctx := planeOf(b, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				in := fmt.Appendf(nil, `{"EndpointName":"e%05d"}`, i%n)
				if _, err := operations["DescribeEndpoint"](plane, ctx, "DescribeEndpoint", in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
