package dataplane

import (
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// workerFunc makes a worker of what it answers.
type workerFunc struct {
	*blocking
	invoke func(ctx context.Context, req *Request, ans *Answer) error
}

func (w workerFunc) Invoke(ctx context.Context, req *Request, ans *Answer) error {
	return w.invoke(ctx, req, ans)
}

func (w workerFunc) Stream(ctx context.Context, req *Request, to Sink) error {
	var ans Answer
	if err := w.Invoke(ctx, req, &ans); err != nil {
		return err
	}
	return ans.PassOn(to)
}

func poolOf(t *testing.T, invoke func(context.Context, *Request, *Answer) error) *Pool {
	t.Helper()
	pool := testPool(t, Routing{}, 0)
	NewInstance(pool, "i-1", "ml.m5.large", 0, time.Now()).Serve(workerFunc{newBlocking(), invoke}, time.Now())
	return pool
}

func succeed(_ context.Context, _ *Request, ans *Answer) error {
	ans.StatusCode, ans.Body = 200, append(ans.Body[:0], "fine"...)
	return nil
}

// settle lets what waits be sent, in the bubble's time.
func settle() {
	time.Sleep(2 * shadowDelay)
	synctest.Wait()
}

// shadowed is a production pool whose requests are copied to a shadow variant.
func shadowed(t *testing.T, rate float64, shadow func(context.Context, *Request, *Answer) error) (*Pool, *Shadow) {
	t.Helper()
	pool, s := poolOf(t, succeed), NewShadow(poolOf(t, shadow), 1)
	pool.SetTap(&Tap{Variant: "production", Shadow: s, ShadowRate: rate})
	return pool, s
}

func TestShadowVariantGetsItsPartOfTheRequests(t *testing.T) {
	const n = 4000
	for _, rate := range []float64{0, 0.25, 1} {
		synctest.Test(t, func(t *testing.T) {
			pool, shadow := shadowed(t, rate, succeed)
			for range n {
				if _, err := pool.Invoke(t.Context(), &Request{}, new(Answer)); err != nil {
					t.Fatal(err)
				}
				settle()
			}
			got := shadow.Status()
			if part := float64(got.Sent) / n; math.Abs(part-rate) > 0.03 || rate != 0.25 && part != rate || got.Dropped+got.Errors > 0 {
				t.Errorf("rate %v: %+v", rate, got)
			}
		})
	}
}

func TestStuckShadowVariantNeverKeepsTheCallerWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, shadow := shadowed(t, 1, func(ctx context.Context, _ *Request, _ *Answer) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		began := time.Now()
		const n = maxShadowInFlight + maxShadowRequests + 100
		for range n {
			if _, err := pool.Invoke(t.Context(), &Request{Body: []byte("x")}, new(Answer)); err != nil {
				t.Fatal(err)
			}
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("the callers waited %v", waited)
		}
		settle()
		got := shadow.Status()
		if got.Sent != maxShadowInFlight || got.Waiting > maxShadowRequests || got.Dropped < 100 || got.Sent+int64(got.Waiting)+got.Dropped != n {
			t.Errorf("got %+v", got)
		}
		shadow.Close() // gives up what is under way: the bubble ends
		settle()
		if got := shadow.Status(); got.Waiting != 0 || got.Canceled != maxShadowInFlight || got.Sent+got.Dropped != n || shadow.bytes != 0 {
			t.Errorf("after Close: %+v, %d bytes", got, shadow.bytes)
		}
		if _, err := pool.Invoke(t.Context(), &Request{}, new(Answer)); err != nil || shadow.Status().Dropped+shadow.Status().Sent != n+1 {
			t.Errorf("%v; a closed shadow takes copies: %+v", err, shadow.Status())
		}
	})
}

func TestShadowVariantDropsBodiesBeyondItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, shadow := shadowed(t, 1, func(ctx context.Context, _ *Request, _ *Answer) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		defer shadow.Close()
		body := make([]byte, maxShadowBytes/4+1)
		for range 6 {
			if _, err := pool.Invoke(t.Context(), &Request{Body: body}, new(Answer)); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		if got := shadow.Status(); got.Sent != 3 || got.Dropped != 3 {
			t.Errorf("got %+v", got)
		}
	})
}

// The request's memory is the connection's, which is used again at once.
func TestShadowVariantGetsTheRequestAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []Request
		pool, _ := shadowed(t, 1, func(_ context.Context, req *Request, ans *Answer) error {
			seen = append(seen, *req)
			return succeed(t.Context(), req, ans)
		})
		memory := []byte("text/csvbody")
		req := &Request{ContentType: string(memory[:8]), Body: memory[8:], InferenceID: "id", Timeout: time.Minute}
		if _, err := pool.Invoke(t.Context(), req, new(Answer)); err != nil {
			t.Fatal(err)
		}
		copy(memory, "overwritten!")
		settle()
		if len(seen) != 1 || seen[0].ContentType != "text/csv" || string(seen[0].Body) != "body" || seen[0].InferenceID != "id" || seen[0].Timeout != time.Minute {
			t.Errorf("got %+v", seen)
		}
	})
}

func TestShadowVariantsErrorsAreCountedAndHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		n := 0
		pool, shadow := shadowed(t, 1, func(_ context.Context, _ *Request, ans *Answer) error {
			time.Sleep(time.Second) // the bubble's clock
			mu.Lock()
			defer mu.Unlock()
			if n++; n%2 == 0 {
				return ErrBroken
			}
			ans.StatusCode = 500
			return nil
		})
		for range 4 {
			ans := new(Answer)
			if in, err := pool.Invoke(t.Context(), &Request{}, ans); err != nil || string(ans.Body) != "fine" || in == nil {
				t.Fatalf("%v: %q", err, ans.Body)
			}
		}
		time.Sleep(time.Minute)
		if got := shadow.Status(); got.Errors != 4 || got.LatencySum != 4 || got.LatencyMax != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestShadowVariantWithoutInstancesCountsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, shadow := poolOf(t, succeed), NewShadow(testPool(t, Routing{}, 0), 1)
		pool.SetTap(&Tap{Shadow: shadow, ShadowRate: 1})
		if _, err := pool.Invoke(t.Context(), &Request{}, new(Answer)); err != nil {
			t.Fatal(err)
		}
		settle()
		if got := shadow.Status(); got.Errors != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

// streams counts how a worker was asked.
type streams struct {
	workerFunc
	streamed *int
}

func (w streams) Stream(ctx context.Context, req *Request, to Sink) error {
	*w.streamed++
	return w.workerFunc.Stream(ctx, req, to)
}

func TestShadowVariantStreamsWhatIsStreamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streamed := 0
		behind := testPool(t, Routing{}, 0)
		NewInstance(behind, "i-2", "ml.m5.large", 0, time.Now()).Serve(streams{workerFunc{newBlocking(), succeed}, &streamed}, time.Now())
		shadow := NewShadow(behind, 1)
		f, key := NewFleet(), Key{"123456789012", "us-east-1", "e"}
		pool := poolOf(t, succeed)
		pool.SetTap(&Tap{Shadow: shadow, ShadowRate: 1})
		f.Publish(key, &Snapshot{
			Serving: true, Variants: []Variant{{Name: "a", Weight: 1, Pool: pool}},
			Shadows: []Variant{{Name: "b", Weight: 1, Pool: behind, Shadow: shadow}},
		}, 1)
		if err := f.InvokeStream(t.Context(), key, &Request{}, new(Route), discard{}); err != nil {
			t.Fatal(err)
		}
		settle()
		if streamed != 1 || shadow.Status().Errors != 0 {
			t.Errorf("%d streams, %+v", streamed, shadow.Status())
		}
		if _, err := f.Invoke(t.Context(), key, &Request{TargetVariant: "b"}, new(Answer)); !errors.Is(err, ErrNoVariant) {
			t.Errorf("TargetVariant names the shadow variant: %v", err)
		}
	})
}

// A field that a later change adds must not share the connection's memory either.
func TestCopiedRequestSharesNoMemory(t *testing.T) {
	var req Request
	fields := reflect.ValueOf(&req).Elem()
	for i := range fields.NumField() {
		switch f := fields.Field(i); {
		case !fields.Type().Field(i).IsExported():
		case f.Kind() == reflect.String:
			f.SetString(strings.Clone("text of " + fields.Type().Field(i).Name))
		case f.Kind() == reflect.Slice:
			f.SetBytes([]byte("body"))
		case f.Kind() == reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		}
	}
	const static = "Operation" // a constant of the caller's
	c := req.clone()
	for i := range fields.NumField() {
		name, was, is := fields.Type().Field(i).Name, fields.Field(i), reflect.ValueOf(c).Field(i)
		switch was.Kind() {
		case reflect.String:
			if is.Len() > 0 && name != static && unsafe.StringData(was.String()) == unsafe.StringData(is.String()) {
				t.Errorf("%s is shared", name)
			}
		case reflect.Slice:
			if is.Len() == 0 || was.Pointer() == is.Pointer() {
				t.Errorf("%s is shared or lost", name)
			}
		case reflect.Pointer:
			if !is.IsNil() {
				t.Errorf("%s is shared", name)
			}
		}
	}
}
