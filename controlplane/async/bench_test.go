package async

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.etcd.io/bbolt"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/objects"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/store"
)

// share runs op b.N times on n goroutines.
func share(b *testing.B, n int, op func(i int64) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := op(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkAsync takes requests from their callers to the end of their records,
// all of it on disk: four simulated instances with 64 requests each, bodies of 1
// KB. With objects the outputs go to the embedded S3. Beside it bbolt puts the
// same bytes under one key a commit.
func BenchmarkAsync(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("bare-bbolt/callers=%d", callers), func(b *testing.B) { benchmarkBolt(b, callers) })
		b.Run(fmt.Sprintf("records/callers=%d", callers), func(b *testing.B) { benchmarkQueue(b, callers, "") })
		b.Run(fmt.Sprintf("objects/callers=%d", callers), func(b *testing.B) { benchmarkQueue(b, callers, "s3://bkt/out") })
	}
}

var benchmarkBody = bytes.Repeat([]byte("x"), 1<<10)

func benchmarkBolt(b *testing.B, callers int) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	share(b, callers, func(i int64) error {
		return db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
			if err != nil {
				return err
			}
			return bucket.Put(fmt.Appendf(nil, "%016x", i), benchmarkBody)
		})
	})
}

func benchmarkQueue(b *testing.B, callers int, output string) {
	dir := b.TempDir()
	db, err := store.Open(store.Options{Path: filepath.Join(dir, "db"), Tables: Tables()})
	if err != nil {
		b.Fatal(err)
	}
	in, err := objects.Open(b.Context(), objects.Options{Dir: filepath.Join(dir, "s3")})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := in.Client("bkt").CreateBucket(b.Context(), &s3.CreateBucketInput{Bucket: aws.String("bkt")}); err != nil {
		b.Fatal(err)
	}
	to := &dataplane.Async{UID: "uid", PerInstance: 64, OutputPath: output}
	key := dataplane.Key{Account: "123456789012", Region: "us-east-1", Name: "e"}
	q := New(Options{DB: db, Fleet: benchmarkFleet(b, key, to), S3: in.Client})
	if err := q.Start(func(dataplane.Key) string { return "uid" }); err != nil {
		b.Fatal(err)
	}
	defer func() {
		q.Stop()
		if err := errors.Join(in.Close(context.Background()), db.Close()); err != nil {
			b.Error(err)
		}
	}()
	b.ResetTimer()
	share(b, callers, func(int64) error {
		_, err := q.Enqueue(&Call{Key: key, Endpoint: "e", To: to, Body: benchmarkBody, TTL: time.Hour, Timeout: time.Minute})
		return err
	})
	for {
		if n, _ := q.Backlog("uid"); n == 0 {
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	b.StopTimer()
	if s := q.Status(""); s[0].InvocationsProcessed != int64(b.N) {
		b.Errorf("%+v after %d requests", s[0], b.N)
	}
}

func benchmarkFleet(b *testing.B, key dataplane.Key, to *dataplane.Async) *dataplane.Fleet {
	b.Helper()
	pool, err := dataplane.NewPool(dataplane.Routing{Strategy: dataplane.StrategyLeastOutstanding}, 1)
	if err != nil {
		b.Fatal(err)
	}
	shape := func(string) (dataplane.Shape, bool) { return dataplane.Shape{VCPU: 2, MemoryGiB: 8}, true }
	launcher := simulated.New(simulated.Config{}, shape, 1)
	for i := range 4 {
		in := dataplane.NewInstance(pool, fmt.Sprint("i-", i), "ml.m5.large", i, time.Now())
		w, err := launcher.Launch(b.Context(), dataplane.Spec{Key: key, InstanceID: in.ID, Shape: dataplane.Shape{InstanceType: "ml.m5.large", VCPU: 2, MemoryGiB: 8}, Log: new(bytes.Buffer)})
		if err != nil {
			b.Fatal(err)
		}
		in.Serve(w, time.Now())
	}
	fleet := dataplane.NewFleet()
	fleet.Publish(key, &dataplane.Snapshot{Serving: true, Async: to, Variants: []dataplane.Variant{{Name: "v", Weight: 1, Pool: pool, Container: "primary"}}}, 1)
	return fleet
}
